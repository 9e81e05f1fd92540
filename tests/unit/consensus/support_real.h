/* Members on real directories and real sockets, all on one loop. */
#ifndef BLX_TESTS_CONSENSUS_SUPPORT_REAL_H
#define BLX_TESTS_CONSENSUS_SUPPORT_REAL_H

#include "consensus/peer.h"
#include "io/loop.h"
#include "support.h"

enum { REAL_MAX = 4, REAL_PATH = 128 };

struct real;

struct real_member {
  struct real *r;
  uint64_t uid;
  char dir[REAL_PATH], socket[REAL_PATH];
  struct blx__consensus *c; /* NULL: not open */
  struct blx__peers *peers;
  void *fsm;
  int fatal_code;
  unsigned closes; /* done callbacks still to come */
};

struct real {
  struct blx__loop *loop;
  char root[REAL_PATH];
  uint32_t snapshot_entries;
  uint64_t snapshot_bytes, reserve_bytes;
  uint32_t segment_bytes;
  unsigned rules_off;
  bool unsafe_fs;
  bool (*may_truncate)(void *member, uint64_t index);
  struct real_member m[REAL_MAX]; /* uid i + 1 */
};

void real_init(struct real *r);
void real_free(struct real *r);
/* The directory of member @i exists; bootstrapped if @first. */
void real_make(struct real *r, unsigned i, bool first);
int real_open(struct real *r, unsigned i, blx_error *err); /* member and peers; its code */
void real_close(struct real *r, unsigned i);               /* runs the loop until both are closed */
/* Run the loop until @done holds; fails the test after a minute. */
void real_until(struct real *r, bool (*done)(struct real *r, void *arg), void *arg);
struct real_member *real_leader(struct real *r);
bool real_has_leader(struct real *r, void *arg);
bool real_fired(struct real *r, void *outcome);
/* Propose on whoever leads until it is acknowledged. */
void real_commit(struct real *r, uint64_t id);

#endif

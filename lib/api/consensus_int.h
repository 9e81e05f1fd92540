/* The consensus part alone (blixard/consensus.h): one member with its own thread and loop. */
#ifndef BLX__API_CONSENSUS_INT_H
#define BLX__API_CONSENSUS_INT_H

#include "api/api_int.h"
#include "consensus/consensus.h"
#include "consensus/peer.h"

/* What is behind a blx_consensus. */
struct blx__api_consensus {
  struct blx__log log;
  char *dir; /* owned */
  uint64_t uid;
  struct blx_consensus_fsm fsm;
  void *user;
  void (*on_role)(void *user, int32_t role, uint64_t leader_uid, uint64_t term);
  void (*on_fatal)(void *user, int code, const char *text);
  pthread_t thread;
  bool thread_started;
  atomic_bool closing;
  atomic_uint calls; /* not completed yet, at most BLX_CONSENSUS_WAITING_MAX */
  atomic_uint_least64_t leader;
  struct blx__api_queue *queue; /* NULL: completions on its thread */
  struct blx__api_item fatal;   /* told once */
  int fatal_code;
  char fatal_text[sizeof((blx_error *)0)->message];
  pthread_mutex_t lock;
  /* Under the lock: the last role, and whether it waits for a dispatch. */
  struct blx__api_item role;
  bool role_waits;
  int32_t role_now;
  uint64_t role_leader, role_term;
  struct blx__loop *loop; /* set before there is a handle; for posts under the lock; NULL: closed */
  /* The member's thread alone. */
  struct blx__consensus *core; /* NULL before the open and after the close */
  struct blx__peers *peers;
  int early_code; /* the table stopped the member while it was being opened */
};

/* Where its completions run, or its table. */
bool blx__api_consensus_inside(struct blx__api_consensus *c);

/* The public number of a role. */
int32_t blx__api_role(enum blx__consensus_role role);

#endif

/* A driver for tests of blixard/sys/vm_driver.h: it keeps its VMs in memory, and holds or fails what it is told to. */
#ifndef BLX_TESTS_API_SUPPORT_DRIVER_H
#define BLX_TESTS_API_SUPPORT_DRIVER_H

#include "support.h"

#include "base/rc.h"

#include <blixard/sys/vm_driver.h>
#include <pthread.h>

enum { WAIT_MS = 20000, VMS_MAX = 8, HELD_MAX = 16 };

enum fn {
  PREPARE,
  START,
  STOP,
  KILL,
  PAUSE,
  DESTROY,
  ADOPT,
  LOGS,
  LOGS_CLOSE,
  OPEN,
  CLOSE,
  SESSION_OPEN,
  SESSION_WRITE,
  SESSION_RESIZE,
  SESSION_CLOSE,
  STATS,
  FNS
};

struct fake_vm {
  char name[64];
  uint64_t uid, epoch;
  bool runs, paused;
};

struct fake {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  blx_vm_driver *driver;
  unsigned counts[FNS];
  bool holds[FNS]; /* calls of it are kept in held */
  int fails[FNS];  /* BLX_E_* that it answers */
  blx_error said;  /* with that */
  blx_vm_driver_call *held[HELD_MAX];
  unsigned n_held;
  blx_vm_driver_logs *logs;
  struct fake_vm vms[VMS_MAX];
  uint32_t last_memory, last_tail, last_follow;
  char last_config[64];
  /* Of the session that was begun last. */
  blx_vm_driver_session *session, *closed;
  char words[256], input[4096];
  uint32_t tty, rows, columns;
  size_t input_len; /* in all; the last of it are in input */
  bool input_ended, full;
};
extern struct fake fake;

/* The table, all of it. */
struct blx_vm_driver_ops fake_table(void);
/* As at the beginning. */
void fake_reset(void);
/* Under the lock: tell an event of @vm; let it end, if it runs. */
void fake_tell(const struct fake_vm *vm, int32_t event, int32_t exit_status, int32_t signal, const char *text);
void fake_end(struct fake_vm *vm, int32_t exit_status, const char *text);

/* Calls of @fn are held from now on, or answered with the code @fails and @message. */
void fake_set(enum fn fn, bool holds, int fails, const char *message);
void fake_await(enum fn fn, unsigned count);
unsigned fake_count(enum fn fn);
/* The last of what is held, when @fn was called @count times; no more is held. */
blx_vm_driver_call *fake_release(enum fn fn, unsigned count);

/* A node with it in a directory of its own, a client of that, and a VM "web" with one instance. */
extern char dir[64];
extern blx_node *node;
extern blx_client *client;
void make_dir(void);
void remove_dir(void);
int open_with(const struct blx_vm_driver_ops *ops, uint32_t simulate, blx_error *err);
void open_node(void);
void close_node(void);
void create(uint32_t memory_mib);
void verb(int (*fn)(blx_client *, const struct blx_vm_name_request *, struct blx_vm **, blx_error *));
void wait_for(int phase);

#endif

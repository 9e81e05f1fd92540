/* A host and a cluster around one agent, both simulated and both suspicious: they count what must never happen. */
#ifndef BLX_TESTS_AGENT_SUPPORT_H
#define BLX_TESTS_AGENT_SUPPORT_H

#include "../harness.h"
#include "agent/agent.h"

#include <blixard/types.h>

enum { GUESTS = 4, EPOCHS = 64 };

/* One VM on the host. */
struct guest {
  char name[64];
  uint64_t uid;
  struct blx__vm_status status;
  unsigned starts[EPOCHS];
};

/* The driver: each call ends on a later turn. */
struct host {
  struct blx__vm_driver base;
  struct world *world;
  struct guest guests[GUESTS];
  unsigned pending;              /* calls under way */
  bool fail_prepare, fail_start; /* the next ones fail */
  bool hold_prepare, hold_stop;  /* these calls stay open until a kill overtakes them, or the hold ends */
  bool never_ready;
  unsigned refuse;       /* so many calls are refused with BUSY first */
  unsigned adopt_errors; /* so many adoptions fail */
  unsigned prepares, kills, stops, pauses;
  bool fail_pause;      /* the next ones fail */
  unsigned late_starts; /* that came at or after the time that they were to come before */
  uint32_t stop_deadline_ms;
  unsigned violations; /* a start while it runs, or the second of an epoch; a removal while it runs */
};

/* What the cluster knows of an instance. */
struct record {
  char name[64];
  const char *tenant; /* NULL: as of a server that does not say it */
  uint64_t uid, epoch, seq;
  int desired, ending, ha;
  bool fenced; /* in its epoch nothing is to be started */
  bool held;   /* it is not to be begun */
  uint64_t era;
  bool local_data, data_known;
  bool assigned, dead, gone, remove, tell, pause, paused; /* wanted, and reported */
  int phase, code;
  bool has_exit;
  int32_t exit_status;
  char text[512];
  unsigned reports;
};

struct cluster {
  struct record records[GUESTS];
  bool restarts; /* a dead instance that is to run gets a new epoch here */
  unsigned fail; /* so many batches are answered with an error first */
  bool hold;     /* do not answer */
  blx__agent_sent_fn *held;
  void *held_arg;
  unsigned sends, violations; /* two batches at a time; "dead" of what runs */
};

struct world {
  struct blx__loop *loop;
  struct blx__agent *agent; /* NULL: closed */
  struct host host;
  struct blx__vm_driver *driver; /* what the agent is given: the host's, unless a test sets another */
  struct cluster cluster;
  char dir[64];
  uint64_t ready_timeout_ms;
  struct blx__defer share;
  unsigned steps;  /* calls of the driver and batches so far */
  unsigned cut_at; /* at this step the agent is closed; 0: never */
  bool cut, closed;
  bool lose; /* what was asked of the driver at the cut is never done, as if the call had not come */
  struct blx__defer close;
  unsigned errors; /* log lines of level error */
  /* What ends HA instances: the host's watchdog, and the clock that it and the agent go by. */
  bool no_killer, not_watched;
  const char *watchdog; /* a program instead */
  uint64_t kill_at_ms, ahead_ms;
};

void world_open(struct world *w);
void world_close(struct world *w);
void agent_open(struct world *w);
void agent_close(struct world *w);
/* Tell the agent its share, from the cluster's records. */
void share(struct world *w);
/* The cluster assigns instance @n (0..GUESTS-1) to this node, under its next epoch. */
struct record *assign(struct world *w, int n);
/* Run the loop until @cond says so; fails the test after 20 s. */
void run_until(struct world *w, bool (*cond)(struct world *w));

uint64_t boot_ms(void *world);
/* Time passes, and the watchdog looks. */
void pass(struct world *w, uint64_t ms);
/* The agent asks for a lease of 20 s (paused after 15, killed after 18), which is granted at once. */
void lease(struct world *w);

void host_reboot(struct world *w);
void host_exit(struct world *w, int n, int32_t status, int32_t signal);
void host_ready(struct world *w, int n);
void host_garbage(struct world *w, int n);
bool host_runs(const struct world *w, int n);
unsigned host_starts(const struct world *w, int n);
/* Path of instance @n's journal file. */
const char *journal_path(struct world *w, int n, char *out, size_t size);
bool journal_exists(struct world *w, int n);

#endif

/* The other body of lib/io, for whole nodes: its headers as they are, but a loop belongs to a simulated machine, time
 * is the world's, files are on the machine's disk and sockets lead through the world's network. The linker puts it in
 * the place of lib/io, and --wrap in that of the few system calls made above it (see the Makefile), so that lib/node
 * and all that it uses run here as they are compiled for the daemon: there is no second wiring that could differ.
 *
 * Differences to the real one that are meant: a loop has no thread; `pthread_create` only notes what the thread would
 * run, and `pthread_join` runs it until the loop was stopped, in no time for everyone else. A worker's job happens at
 * one instant on the way. A unix socket between two machines is as slow as the network, and cut with it. */
#ifndef BLX_TESTS_SIM_NODES_TWIN_H
#define BLX_TESTS_SIM_NODES_TWIN_H

#include "base/list.h"
#include "base/map.h"
#include "io/loop.h"
#include "io/sim.h"
#include "io/timer.h"

enum {
  MACHINES_MAX = 28, /* the last is where the users are */
  USERS_MACHINE = MACHINES_MAX,
  CUT_PATIENCE_MS = 8000, /* a connection over a cut link breaks after so long */
};

/* The directories of a node: its data directory, and raft/ and agent/ below. */
enum machine_dir { DIR_DATA, DIR_RAFT, DIR_AGENT, DIR_COUNT };

/* A machine, and the process on it. */
struct machine {
  unsigned number;
  struct blx__sim_disk disks[DIR_COUNT];
  bool process; /* it runs */
  bool muted;   /* the process has died: what it still does while it is taken apart has no effect */
  uint64_t paused_until_us;
  /* Its CLOCK_BOOTTIME: as fast as that of any machine but for a little, and set by nobody. */
  uint64_t boot_ppm, boot_ahead_ms;
  uint64_t free_bytes, size_bytes; /* of its file system */
  struct blx__list streams;        /* of its process */
  void *(*thread)(void *arg);
  void *thread_arg;
};

struct twin {
  struct blx__sim sim;
  struct machine machines[MACHINES_MAX + 1]; /* from 1 */
  struct machine *current;                   /* whose process opens its loop */
  struct blx__map listeners;                 /* path -> struct blx__listener */
};
extern struct twin twin;

void twin_init(uint64_t seed);
void twin_free(void);

/* A process begins on @m; what it opens is its own. */
void twin_process_begin(struct machine *m);
/* It dies: as by kill -9, or @power: with its machine. The caller then closes what it had open, without effect, and
 * calls twin_process_gone. */
void twin_process_die(struct machine *m, bool power);
void twin_process_gone(struct machine *m);
/* Stopped for a while, as by SIGSTOP; its disk too. */
void twin_pause(struct machine *m, uint64_t for_us);

/* Run a loop of @m that nobody's thread runs, until @loop was stopped: as `pthread_join` does. */
void twin_drain(struct blx__loop *loop);

/* ---- between the files of the twin */
struct blx__loop {
  struct machine *m;
  struct blx__map due; /* at_us, seq -> struct blx__timer */
  struct blx__list deferred;
  uint64_t seq;
  uint64_t wake_us; /* when the world wakes it; UINT64_MAX: not at all */
  uint64_t skew_us; /* how far its own time ran ahead while it was drained */
  bool stop;
};

/* What the machine's CLOCK_BOOTTIME says at the true time @at_us. */
uint64_t twin_boot_ms(const struct machine *m, uint64_t at_us);
uint64_t twin_loop_now_us(const struct blx__loop *loop);
void twin_timer_start_us(struct blx__timer *t, uint64_t after_us);
void twin_streams_break(struct machine *m, bool power);
uint64_t twin_delay_us(unsigned from, unsigned to);
/* Of "/n3/raft/member": machine 3, DIR_RAFT, "member". The name may be empty: the directory. */
bool twin_path(const char *path, struct machine **m, enum machine_dir *dir, const char **name);

#endif

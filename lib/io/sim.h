/* The simulated twin of this folder: a few machines in one thread under one seed. A generator, a queue of what will
 * happen, a clock per machine, the network between them, and disks. For tests and simulators only: nothing here waits,
 * reads a real clock or touches a real file, and the same seed and the same calls give the same run. Memory that is out
 * traps: there is nobody to tell. Thread: one at a time.
 *
 * Machines have numbers from 1; 0 is nobody: what belongs to nobody happens whatever becomes of the machines. */
#ifndef BLX__IO_SIM_H
#define BLX__IO_SIM_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "io/disk.h"

enum {
  BLX__SIM_NODES_MAX = 32,
  BLX__SIM_EVENTS_MAX = 1 << 20, /* waiting to happen; more traps */
  BLX__SIM_MESSAGE_MAX = 64 << 20,
  BLX__SIM_SECTOR_BYTES = 512,
  BLX__SIM_NAME_MAX = BLX__DISK_NAME_MAX,
  BLX__SIM_FILES_MAX = 4096,
  BLX__SIM_FILE_BYTES_MAX = 256 << 20,
};

/* ---- randomness: splitmix64 (Steele et al. 2014) */

struct blx__sim_rng {
  uint64_t state;
};

uint64_t blx__sim_rng_next(struct blx__sim_rng *r);

/* In [@lo, @hi]. */
uint64_t blx__sim_rng_in(struct blx__sim_rng *r, uint64_t lo, uint64_t hi);

/* True @percent times in a hundred. */
bool blx__sim_rng_chance(struct blx__sim_rng *r, unsigned percent);

/* ---- what will happen */

typedef void blx__sim_fn(void *arg, uint64_t a, uint64_t b);

struct blx__sim_call {
  blx__sim_fn *fn;
  void *arg; /* borrowed */
  uint64_t a, b;
};

struct blx__sim_event {
  uint64_t at_us, seq; /* ties go in the order of scheduling */
  uint64_t incarnation;
  unsigned node;
  struct blx__sim_call call;
};

/* The way from one machine to another; percentages 0..100. Set at will. */
struct blx__sim_link {
  bool cut; /* nobody tells the sender */
  unsigned loss_percent;
  unsigned double_percent;             /* arrives twice, each time after a delay of its own */
  unsigned late_percent;               /* overtaken by others: up to late_max_us more */
  uint64_t delay_min_us, delay_max_us; /* min <= max */
  uint64_t late_max_us;
};

struct blx__sim_node {
  bool up;
  uint64_t incarnation;        /* what an earlier one scheduled is dropped */
  uint64_t rate_ppm;           /* of its clock, */
  uint64_t since_us, clock_us; /* which showed clock_us at the true time since_us */
  int64_t wall_ms;             /* its clock on the wall is ahead by so much */
};

struct blx__sim {
  struct blx__sim_rng rng;
  uint64_t now_us; /* true time, that no machine sees */
  /* A message arrives at machine @to, which is up. @message is valid during the call. Set once, before the first send.
   */
  void (*deliver)(void *user, unsigned from, unsigned to, struct blx__slice message);
  void *user;
  struct blx__sim_link links[BLX__SIM_NODES_MAX + 1][BLX__SIM_NODES_MAX + 1]; /* from, to */

  /* Its own. */
  struct blx__sim_node nodes[BLX__SIM_NODES_MAX + 1];
  struct blx__sim_event *heap;
  size_t heap_count, heap_cap;
  uint64_t seq;
};

/* A world in which nothing happens yet: all machines down, clocks at 0 and true, links without delay or loss.
 * @s: free with blx__sim_free, after its disks. */
void blx__sim_init(struct blx__sim *s, uint64_t seed);
void blx__sim_free(struct blx__sim *s);

/* Run @call in @after_us of true time, unless @node (0: nobody's) has gone down meanwhile. */
void blx__sim_after(struct blx__sim *s, unsigned node, uint64_t after_us, struct blx__sim_call call);

/* The true time of the next event; UINT64_MAX: there is none. */
uint64_t blx__sim_due_us(const struct blx__sim *s);

/* Let the next event happen, or drop it if its machine went down. @node, unless NULL, receives whose it was (0:
 * nobody's, or dropped). False: there was none. */
bool blx__sim_step(struct blx__sim *s, unsigned *node);

/* Let everything happen that is due in the next @for_us; it is @for_us later then. */
void blx__sim_run(struct blx__sim *s, uint64_t for_us);

/* ---- machines and their clocks; @node 1..BLX__SIM_NODES_MAX */

/* Twice is harmless for both. Disks have their own: blx__sim_disk_start and blx__sim_disk_crash. */
void blx__sim_node_start(struct blx__sim *s, unsigned node);
void blx__sim_node_stop(struct blx__sim *s, unsigned node);

/* Its monotonic clock. It goes on while the machine is down. */
uint64_t blx__sim_clock_us(const struct blx__sim *s, unsigned node);

/* Its clock on the wall: the monotonic one, shifted. */
int64_t blx__sim_wall_ms(const struct blx__sim *s, unsigned node);

/* From now on it goes at @ppm millionths of true time, 1..100,000,000. */
void blx__sim_clock_rate(struct blx__sim *s, unsigned node, uint64_t ppm);

/* Both clocks jump forward, as after a machine was suspended. */
void blx__sim_clock_jump(struct blx__sim *s, unsigned node, uint64_t forward_us);

/* The clock on the wall is set: ahead of the monotonic one by @ahead_ms, behind if negative. */
void blx__sim_wall_set(struct blx__sim *s, unsigned node, int64_t ahead_ms);

/* How long @clock_us by its clock are in true time, at its present rate. */
uint64_t blx__sim_true_us(const struct blx__sim *s, unsigned node, uint64_t clock_us);

/* ---- network */

/* Every link becomes like @link, except that what is cut stays cut. */
void blx__sim_net_set(struct blx__sim *s, const struct blx__sim_link *link);

/* Between @node and all others, both ways. */
void blx__sim_net_isolate(struct blx__sim *s, unsigned node, bool cut);

/* Nothing is cut any more. */
void blx__sim_net_mend(struct blx__sim *s);

/* Send a copy of @message, at most BLX__SIM_MESSAGE_MAX bytes. What a link that is cut, when sent or when arriving, or
 * a machine that is down would get is lost. */
void blx__sim_send(struct blx__sim *s, unsigned from, unsigned to, struct blx__slice message);

/* ---- disk
 *
 * Files are runs of bytes with a name. What is written is seen at once by reads, and is on the platter once a sync that
 * began afterwards has succeeded. After a crash:
 *  - what was synced is there;
 *  - of each unsynced write, each sector (BLX__SIM_SECTOR_BYTES, aligned) reached the platter or did not, independent
 * of all others; a sector comes with everything that was in it when it was written, never a part of it;
 *  - the length an unsynced write gave its file is there or not, independent of the sectors; bytes inside the length
 * that never arrived are zero;
 *  - an unsynced truncate happened wholly or not at all;
 *  - of the changes of names (making, renaming and removing files), which are in order among themselves, a prefix
 *    happened. Only a sync of the directory makes them last: a file that was synced may be without its name.
 * After a sync of a file that failed, its writes are as after a crash, though reads still show them, and no later sync
 * brings them back (as Linux does it). After a failed sync of the directory, names are unsynced as before. */

enum blx__sim_disk_act { BLX__SIM_DISK_WRITE, BLX__SIM_DISK_SYNC, BLX__SIM_DISK_ACTS };

struct blx__sim_disk {
  /* Set at will. */
  uint64_t min_us, max_us; /* how long a sync takes */
  uint64_t size_max;       /* bytes that its files may have together, in whole sectors; 0: no limit */
  unsigned reach_percent;  /* how likely what is unsynced reaches the platter in a crash: 50 at first */
  unsigned fail_percent;   /* of writes and syncs fail with IO */
  bool held;               /* it hangs: no sync ends. Cleared by blx__sim_disk_release */
  /* To look at. */
  uint64_t torn_count; /* writes of which a crash left a part */

  /* Its own. */
  struct blx__sim *s;
  unsigned node;
  bool off; /* from a crash to the next start */
  int next[BLX__SIM_DISK_ACTS];
  struct blx__map now, kept; /* name -> struct inode: as reads see it, as on the platter */
  struct blx__list renames;  /* struct rename, unsynced */
  struct blx__list syncs;    /* struct sync, under way */
  uint64_t seq;
};

/* An empty disk of machine @node (0: nobody's), whose syncs take no time. Free with blx__sim_disk_free, before @s. */
void blx__sim_disk_init(struct blx__sim_disk *d, struct blx__sim *s, unsigned node);
void blx__sim_disk_free(struct blx__sim_disk *d);

/* Write @bytes at @offset of the file @name, making it, and lengthening it with zeros, where needed. Nothing is written
 * on failure. Errors: NOSPACE (past size_max or BLX__SIM_FILE_BYTES_MAX, or BLX__SIM_FILES_MAX files), IO (by
 * fail_percent, or the disk is off), and what blx__sim_disk_fail asked for. */
blx__rc blx__sim_disk_write(struct blx__sim_disk *d, const char *name, size_t offset,
                            struct blx__slice bytes) BLX__MUST;

/* Make it @size bytes long, with zeros where it was shorter. Errors: as write; NOT_FOUND. */
blx__rc blx__sim_disk_truncate(struct blx__sim_disk *d, const char *name, size_t size) BLX__MUST;

/* @to is replaced if it exists. Errors: as write; NOT_FOUND. */
blx__rc blx__sim_disk_rename(struct blx__sim_disk *d, const char *from, const char *to) BLX__MUST;
blx__rc blx__sim_disk_remove(struct blx__sim_disk *d, const char *name) BLX__MUST;

/* The whole file, valid until it is changed. Errors: NOT_FOUND. */
blx__rc blx__sim_disk_read(const struct blx__sim_disk *d, const char *name, struct blx__slice *out) BLX__MUST;

/* Put the name that comes after @name, "" before the first, into @name, in the order of memcmp. False: none. */
bool blx__sim_disk_next(const struct blx__sim_disk *d, char name[BLX__SIM_NAME_MAX + 1]);

/* Make the writes to @name, NULL: the names of all files, last. @done runs once, from an event, min_us..max_us later,
 * or after the release of a disk that was held; never after the machine went down, after blx__sim_disk_crash or
 * blx__sim_disk_forget. @rc: IO (by fail_percent, or the disk is off), NOT_FOUND, what blx__sim_disk_fail asked for. */
void blx__sim_disk_sync(struct blx__sim_disk *d, const char *name, void (*done)(void *arg, blx__rc rc), void *arg);

/* The same before it returns, also on a disk that is held. */
blx__rc blx__sim_disk_sync_now(struct blx__sim_disk *d, const char *name) BLX__MUST;

/* The next write (which may be a truncate, a rename or a remove), or the next sync to begin, fails with @code; 0: takes
 * it back. */
void blx__sim_disk_fail(struct blx__sim_disk *d, enum blx__sim_disk_act act, int code);

/* No longer held: what had waited ends min_us..max_us later. */
void blx__sim_disk_release(struct blx__sim_disk *d);

/* The process ended, not the machine: nobody waits for the syncs under way; what was written stays as it is. */
void blx__sim_disk_forget(struct blx__sim_disk *d);

/* The power fails: what is unsynced meets its fate, and nothing can be written until blx__sim_disk_start. */
void blx__sim_disk_crash(struct blx__sim_disk *d);
void blx__sim_disk_start(struct blx__sim_disk *d);

/* It as a table of files. A file that is fetched takes as long as a sync. */
struct blx__disk blx__sim_disk_table(struct blx__sim_disk *d);

/* Damage: turn over bit @bit (0..7) of the byte at @offset. False: there is no such byte. */
bool blx__sim_disk_flip(struct blx__sim_disk *d, const char *name, size_t offset, unsigned bit);

#endif

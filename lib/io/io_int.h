/* What the files of lib/io share; the only header that names libuv. */
#ifndef BLX__IO_INT_H
#define BLX__IO_INT_H

#include "io/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

enum { READ_BUF_BYTES = 64 * 1024 };

struct post {
  struct blx__list link;
  void (*fn)(void *arg);
  void *arg;
};

/* One piece of work, on its way to a worker and back. */
struct job {
  struct blx__list link;
  void (*fn)(void *arg);
  void (*done)(void *arg);
  void *arg;
  bool embedded; /* in something of its owner's, who frees it */
};

struct workers {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  pthread_t threads[2];
  unsigned started;
  bool stopping;
  struct blx__list todo, done; /* struct job; under the lock */
  unsigned waiting;            /* length of todo */
};

struct blx__loop {
  uv_loop_t uv;
  uv_async_t async; /* rung for posts, finished work and stop */
  uv_prepare_t prepare;
  uv_idle_t idle;         /* active while something is deferred or looked for, so that the loop does not wait */
  uint64_t look_until_ns; /* 0: nothing is looked for */
  unsigned look_misses, look_skips;
  struct blx__list deferred;
  pthread_mutex_t posts_lock;
  struct blx__list posts; /* struct post; under posts_lock */
  unsigned posts_count;
  atomic_bool stop;
  uint64_t now_ms, now_uv_ms; /* cached clock, and uv's time when it was taken */
  struct workers work;
  uint8_t read_buf[READ_BUF_BYTES]; /* one for all streams: used between a read and its callback's return */
};

void workers_init(struct blx__loop *loop);
/* Finish everything queued and join; their done functions are then in work.done. */
void workers_stop(struct blx__loop *loop);
void workers_free(struct blx__loop *loop);
/* Queue @j, whatever the limit: its giver has a few at a time. False: no thread could be started. */
bool workers_give(struct blx__loop *loop, struct job *j);
/* @j is finished: its done function runs on the loop. Thread: any. */
void workers_finish(struct blx__loop *loop, struct job *j);
/* Run what is finished. */
void workers_deliver(struct blx__loop *loop);

#endif

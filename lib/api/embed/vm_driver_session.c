/* Sessions of a driver of the embedder's: commands in what it runs, and consoles; and the statistics that it tells. */
#include "api/vm_driver_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char origin[] = OWN_ORIGIN;

_Static_assert((int)BLX_VM_DRIVER_STREAM_OUT == (int)BLX__VM_SESSION_OUT, "one numbering of streams");
_Static_assert((int)BLX_VM_DRIVER_STREAM_ERR == (int)BLX__VM_SESSION_ERR, "one numbering of streams");
_Static_assert((int)BLX_VM_DRIVER_SESSION_BYTES_MAX == (int)BLX__VM_SESSION_WRITE_MAX, "as the header says");

/* In front of each piece of output. */
struct piece {
  uint32_t len;
  enum blx__vm_session_stream stream;
};

enum { WAITING_MAX = 2 * (BLX_VM_DRIVER_SESSION_BYTES_MAX + (int)sizeof(struct piece)) };

/* What the embedder adds waits in `in`, pieces that are offered to the reader are in `out` from out_at on. */
struct blx__vm_session {
  struct blx__list link;
  struct driver *driver;
  blx_vm_driver_session *handle; /* NULL: over for the embedder */
  const struct blx__vm_session_events *events;
  void *user;
  struct blx__timer *retry;
  struct blx__buf out;
  size_t out_at;
  bool inside, gone;    /* on the loop: in session_offer; nobody is at the other end any more */
  pthread_mutex_t lock; /* of what follows */
  struct blx__buf in;
  bool posted, room, ended, failed;
  int32_t exit_status, signal;
  blx_error err;
};

static void session_free_if_idle(struct blx__vm_session *s) {
  struct driver *d = s->driver;
  pthread_mutex_lock(&s->lock);
  bool busy = s->inside || s->posted;
  pthread_mutex_unlock(&s->lock);
  if (!s->gone || busy) return;
  blx__list_remove(&s->link);
  blx__timer_free(s->retry);
  blx__buf_free(&s->in);
  blx__buf_free(&s->out);
  pthread_mutex_destroy(&s->lock);
  free(s);
  own_close_if_idle(d);
}

/* Nobody is at the other end any more. True: the embedder did not end it. */
static bool session_over(struct blx__vm_session *s) {
  own_retire(s->handle, BLX__API_VM_SESSION);
  s->handle = NULL;
  s->gone = true;
  s->driver->sessions_count--;
  blx__timer_stop(s->retry);
  return !s->ended;
}

/* False: nothing waits, and nothing will come. */
static bool refill(struct blx__vm_session *s) {
  blx__buf_clear(&s->out);
  s->out_at = 0;
  pthread_mutex_lock(&s->lock);
  const struct blx__buf empty = s->out;
  s->out = s->in;
  s->in = empty;
  bool ended = s->ended;
  pthread_mutex_unlock(&s->lock);
  return s->out.len > 0 || !ended;
}

/* True: it was taken, and there may be more. */
static bool offer_piece(struct blx__vm_session *s) {
  struct piece p;
  if (s->out.len == 0) return false;
  memcpy(&p, (const uint8_t *)s->out.data + s->out_at, sizeof p);
  const uint8_t *bytes = (const uint8_t *)s->out.data + s->out_at + sizeof p;
  bool taken = s->events->on_output(s->user, p.stream, bytes, p.len);
  if (s->gone) return false;
  if (taken)
    s->out_at += sizeof p + p.len;
  else
    blx__timer_start(s->retry, OWN_RETRY_MS, 0);
  return taken;
}

static void session_offer(void *arg) {
  struct blx__vm_session *s = arg;
  pthread_mutex_lock(&s->lock);
  bool room = s->room;
  s->room = false;
  pthread_mutex_unlock(&s->lock);
  s->inside = true;
  if (room && !s->gone) s->events->on_room(s->user);
  bool more = !s->gone;
  while (more) {
    if (s->out_at == s->out.len && !refill(s)) {
      (void)session_over(s);
      s->events->on_end(s->user, s->failed ? &s->err : NULL, s->exit_status, s->signal);
      break;
    }
    more = offer_piece(s);
  }
  s->inside = false;
  session_free_if_idle(s);
}

static void session_pump(void *arg) {
  struct blx__vm_session *s = arg;
  pthread_mutex_lock(&s->lock);
  s->posted = false;
  pthread_mutex_unlock(&s->lock);
  session_offer(s);
}

/* ---- what the embedder calls */

/* Under the lock. */
static blx__rc session_post(struct blx__vm_session *s, blx_error *err) {
  if (s->ended) return blx__fail(err, BLX_E_MISUSE, origin, "the session's end was told already");
  if (s->posted) return BLX__OK;
  BLX__TRY(blx__loop_post(s->driver->loop, session_pump, s, err));
  s->posted = true;
  return BLX__OK;
}

/* Under the lock. */
static blx__rc add_piece(struct blx__vm_session *s, const struct piece *p, const void *bytes, blx_error *err) {
  if (!s->ended && s->in.len + sizeof *p + p->len > WAITING_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "the reader is slow: the same bytes again a little later");
  BLX__TRY(session_post(s, err));
  if (p->len == 0) return BLX__OK;
  size_t before = s->in.len;
  if (blx__buf_add(&s->in, p, sizeof *p) && blx__buf_add(&s->in, bytes, p->len)) return BLX__OK;
  s->in.len = before;
  return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a session's bytes");
}

int blx_vm_driver_session_output(blx_vm_driver_session *session, int32_t stream, const void *bytes, size_t len,
                                 blx_error *reterr) {
  if (len > BLX_VM_DRIVER_SESSION_BYTES_MAX || (len > 0 && !bytes))
    return blx__fail(reterr, BLX_E_INVALID, origin, "bytes: %zu bytes, of which there may be %d, or NULL", len,
                     BLX_VM_DRIVER_SESSION_BYTES_MAX)
        .code;
  if (stream != BLX_VM_DRIVER_STREAM_OUT && stream != BLX_VM_DRIVER_STREAM_ERR)
    return blx__fail(reterr, BLX_E_INVALID, origin, "stream: %d is none of BLX_VM_DRIVER_STREAM_*", stream).code;
  const struct piece p = {.len = (uint32_t)len, .stream = (enum blx__vm_session_stream)stream};
  struct blx__vm_session *s = blx__api_handle_take(session, BLX__API_VM_SESSION, reterr);
  if (!s) return BLX_E_MISUSE;
  pthread_mutex_lock(&s->lock);
  blx__rc rc = add_piece(s, &p, bytes, reterr);
  pthread_mutex_unlock(&s->lock);
  blx__api_handle_put(session);
  return rc.code;
}

int blx_vm_driver_session_room(blx_vm_driver_session *session, blx_error *reterr) {
  struct blx__vm_session *s = blx__api_handle_take(session, BLX__API_VM_SESSION, reterr);
  if (!s) return BLX_E_MISUSE;
  pthread_mutex_lock(&s->lock);
  blx__rc rc = session_post(s, reterr);
  if (rc.code == 0) s->room = true;
  pthread_mutex_unlock(&s->lock);
  blx__api_handle_put(session);
  return rc.code;
}

int blx_vm_driver_session_end(blx_vm_driver_session *session, const blx_error *err, int32_t exit_status, int32_t signal,
                              blx_error *reterr) {
  blx_error said = {0};
  bool failed = err && own_told(err->code, err, &said).code != 0;
  bool exited = signal == 0 && exit_status >= 0 && exit_status <= OWN_EXIT_STATUS_MAX;
  bool signaled = exit_status == -1 && signal >= 1 && signal <= OWN_SIGNAL_MAX;
  if (!failed && !exited && !signaled)
    return blx__fail(reterr, BLX_E_INVALID, origin,
                     "exit_status, signal: %d and %d; they are 0 to %d and 0, or -1 and 1 to %d", exit_status, signal,
                     OWN_EXIT_STATUS_MAX, OWN_SIGNAL_MAX)
        .code;
  struct blx__vm_session *s = blx__api_handle_take(session, BLX__API_VM_SESSION, reterr);
  if (!s) return BLX_E_MISUSE;
  pthread_mutex_lock(&s->lock);
  blx__rc rc = session_post(s, reterr);
  if (rc.code == 0) {
    s->ended = true;
    s->failed = failed;
    s->err = said;
    s->exit_status = exit_status;
    s->signal = signal;
  }
  pthread_mutex_unlock(&s->lock);
  blx__api_handle_put(session);
  return rc.code;
}

/* ---- as blx__vm_ops has it */

/* NULL: no memory, or too many handles. */
static struct blx__vm_session *session_new(struct driver *d) {
  struct blx__vm_session *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  blx__buf_init(&s->in, WAITING_MAX);
  blx__buf_init(&s->out, WAITING_MAX);
  pthread_mutex_init(&s->lock, NULL);
  s->driver = d;
  blx__list_push(&d->sessions, &s->link);
  s->retry = blx__timer_new(d->loop, session_offer, s);
  if (s->retry) s->handle = blx__api_handle_new(BLX__API_VM_SESSION, s, NULL);
  s->gone = !s->handle;
  if (s->handle) return s;
  session_free_if_idle(s);
  return NULL;
}

blx__rc own_session_open(struct blx__vm_driver *base, const struct blx__vm_key *key,
                         const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                         void *user, struct blx__vm_session **out, blx_error *err) {
  struct driver *d = driver_of(base);
  blx_error said = {0};
  if (d->sessions_count >= BLX__VM_SESSIONS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d sessions are open on this node: try again later",
                     BLX__VM_SESSIONS_MAX);
  struct blx__vm_session *s = session_new(d);
  if (!s) return blx__fail(err, BLX_E_NOMEM, origin, "no memory, or no handle, for a session");
  d->sessions_count++;
  s->events = events;
  s->user = user;
  const struct blx_vm_driver_key k = key_of(key);
  const struct blx_vm_driver_session_spec what = {.struct_size = sizeof what,
                                                  .argv = spec->argc > 0 ? spec->argv : NULL,
                                                  .argc = spec->argc,
                                                  .tty = spec->tty,
                                                  .rows = spec->rows,
                                                  .columns = spec->columns};
  blx__rc rc = own_told(d->ops->session_open(d->ops->user, s->handle, &k, &what, &said), &said, err);
  if (rc.code == 0) {
    *out = s;
    return rc;
  }
  (void)session_over(s);
  session_free_if_idle(s);
  return rc;
}

static bool session_ended(struct blx__vm_session *s) {
  pthread_mutex_lock(&s->lock);
  bool ended = s->ended;
  pthread_mutex_unlock(&s->lock);
  return ended;
}

bool own_session_write(struct blx__vm_driver *base, struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  BLX__ASSERT(!s->gone);
  if (session_ended(s)) return true; /* nobody reads it any more; the end is on its way */
  return ops->session_write(ops->user, s->handle, bytes, n) != 0;
}

void own_session_resize(struct blx__vm_driver *base, struct blx__vm_session *s, uint16_t rows, uint16_t columns) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  BLX__ASSERT(!s->gone);
  if (ops->session_resize && !session_ended(s)) ops->session_resize(ops->user, s->handle, rows, columns);
}

void own_session_close(struct blx__vm_driver *base, struct blx__vm_session *s) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  blx_vm_driver_session *handle = s->handle;
  BLX__ASSERT(!s->gone);
  if (session_over(s)) ops->session_close(ops->user, handle);
  session_free_if_idle(s);
}

void own_sessions_cancel(struct driver *d) {
  blx_error why;
  (void)blx__fail(&why, BLX_E_UNAVAILABLE, origin, "the driver was closed");
  for (struct blx__list *it = d->sessions.next, *next; it != &d->sessions; it = next) {
    next = it->next;
    struct blx__vm_session *s = BLX__CONTAINER(it, struct blx__vm_session, link);
    if (s->gone) continue;
    const struct blx__vm_session_events *events = s->events;
    void *user = s->user;
    own_session_close(&d->base, s);
    events->on_end(user, &why, -1, 0);
  }
}

/* ---- statistics */

static uint64_t now_us(void) {
  struct timespec t = {0};
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void fill(struct blx__usage *u, const struct blx_instance_stats *s) {
  *u = (struct blx__usage){.at_us = s->at_us != 0 ? s->at_us : now_us(),
                           .has_cpu = s->has_cpu_us != 0,
                           .cpu_us = s->cpu_us,
                           .has_memory = s->has_memory_bytes != 0,
                           .memory_bytes = s->memory_bytes,
                           .has_balloon = s->has_balloon_bytes != 0,
                           .balloon_bytes = s->balloon_bytes,
                           .has_read = s->has_read_bytes != 0,
                           .read_bytes = s->read_bytes,
                           .has_written = s->has_written_bytes != 0,
                           .written_bytes = s->written_bytes,
                           .has_uptime = s->has_uptime_ms != 0,
                           .uptime_ms = s->uptime_ms,
                           .has_guest = s->has_guest_memory_bytes != 0,
                           .guest_memory_bytes = s->guest_memory_bytes,
                           .guest_available_bytes = s->guest_available_bytes,
                           .guest_uptime_ms = s->guest_uptime_ms,
                           .guest_load_milli = s->guest_load_milli,
                           .guest_processes = s->guest_processes};
}

static blx__rc take_row(const struct blx_instance_stats *given, struct blx__vm_stats *out, blx_error *err) {
  struct blx_instance_stats s;
  if (!given) return blx__fail(err, BLX_E_MISUSE, origin, "the statistics of an instance are NULL");
  BLX__TRY(blx__api_take_struct(&s, sizeof s, sizeof(size_t), given, origin, err));
  if (!s.instance || !*s.instance || !blx__str_copy(out->instance, sizeof out->instance, s.instance))
    return blx__fail(err, BLX_E_INVALID, origin, "instance: a name of 1 to 63 bytes is required");
  int guests = (s.has_guest_memory_bytes != 0) + (s.has_guest_available_bytes != 0) + (s.has_guest_uptime_ms != 0) +
               (s.has_guest_load_milli != 0) + (s.has_guest_processes != 0);
  if (guests != 0 && guests != 5)
    return blx__fail(err, BLX_E_INVALID, origin, "%s: what a guest says of itself is five numbers, or none; not %d",
                     out->instance, guests);
  if (guests == 5 && s.guest_available_bytes > s.guest_memory_bytes)
    return blx__fail(err, BLX_E_INVALID, origin, "%s: guest_available_bytes: %llu of %llu cannot be available",
                     out->instance, (unsigned long long)s.guest_available_bytes,
                     (unsigned long long)s.guest_memory_bytes);
  blx__utf8_mend(out->instance);
  out->uid = s.uid;
  fill(&out->usage, &s);
  return BLX__OK;
}

blx__rc own_stats_take(const struct blx_instance_stats *const *stats, size_t count, struct blx__vm_stats **out,
                       blx_error *err) {
  if (count > BLX__VM_INSTANCES_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "count: %zu instances, of which there may be %d", count,
                     BLX__VM_INSTANCES_MAX);
  if (!stats && count > 0) return blx__fail(err, BLX_E_MISUSE, origin, "the statistics are NULL");
  struct blx__vm_stats *rows = calloc(count + 1, sizeof *rows);
  if (!rows) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for statistics");
  blx__rc rc = BLX__OK;
  for (size_t i = 0; i < count && rc.code == 0; i++) rc = take_row(stats[i], &rows[i], err);
  if (rc.code == 0)
    *out = rows;
  else
    free(rows);
  return rc;
}

/* Commands in guests, and their consoles. A connection to the instance's shim for each. Flow control is the socket's:
 * while the user takes no output nothing is read, and what he may write is bounded by the stream's queue. */
#include "vm/vm_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char origin[] = "vm/session";

enum {
  SESSION_RETRY_MS = 20,        /* until output that was not taken is offered again */
  SESSION_HELD_MAX = 256 << 10, /* of output; one read is far less, and nothing is read while some is held */
  SESSION_WRITE_FRAMES = BLX__VM_SESSION_WRITE_MAX / BLX__SESSION_DATA_MAX,
  SESSION_WRITE_BYTES = SESSION_WRITE_FRAMES * BLX__SESSION_FRAME_MAX,
  SESSION_QUEUE_MAX = 2 * SESSION_WRITE_BYTES,
};

/* Outlives its end until the stream is closed. */
struct blx__vm_session {
  struct blx__list link; /* in the driver's, until it ended */
  struct microvm *m;     /* NULL: it ended, and nobody is told anything more */
  const struct blx__vm_session_events *events;
  void *user;
  char name[64];
  struct blx__stream *stream; /* NULL: closed */
  struct blx__timer *timer;
  struct blx__buf held; /* came and was not looked at */
  struct blx__session_reader reader;
  struct blx__session_msg msg; /* output that was not taken */
  bool offered;                /* there is one */
  bool refused;                /* a write was */
  bool resized;                /* and the size of its terminal waits to be told */
  uint16_t rows, columns;
  bool draining;
};

static void session_maybe_free(struct blx__vm_session *s) {
  if (s->m || s->stream || s->draining) return;
  blx__timer_free(s->timer);
  blx__buf_free(&s->held);
  free(s);
}

/* From here on its user hears nothing. */
static void session_let_go(struct blx__vm_session *s) {
  blx__list_remove(&s->link);
  s->m->sessions_open--;
  s->m = NULL;
  blx__timer_stop(s->timer);
  if (s->stream) blx__stream_close(s->stream);
}

static void session_end(struct blx__vm_session *s, const blx_error *err, int32_t exit_status, int32_t signal) {
  const struct blx__vm_session_events *events = s->events;
  void *user = s->user;
  session_let_go(s);
  events->on_end(user, err, exit_status, signal);
  session_maybe_free(s);
}

static void session_fail(struct blx__vm_session *s, int code, const char *sentence) {
  blx_error err;
  (void)blx__fail(&err, code, origin, "%s: %s", s->name, sentence);
  session_end(s, &err, -1, 0);
}

static void session_on_end(struct blx__vm_session *s, const struct blx__session_msg *m) {
  char text[BLX__SESSION_TEXT_MAX + 1];
  bool exited = m->b >= 0 && m->b <= 255, signaled = m->c >= 1 && m->c <= 64;
  blx__session_text(m, text);
  if (m->a == 0 && (exited || signaled))
    session_end(s, NULL, signaled ? -1 : m->b, signaled ? m->c : 0);
  else if (m->a == 0)
    session_end(s, NULL, -1, 0);
  else
    session_fail(s, m->a < 0 && m->a >= BLX_E_INTERNAL ? m->a : BLX_E_UNAVAILABLE, text);
}

/* False: it is to be offered again. */
static bool session_heard(struct blx__vm_session *s, const struct blx__session_msg *m) {
  switch (m->type) {
  case BLX__SESSION_OUTPUT:
    return m->data_len == 0 || s->events->on_output(s->user, BLX__VM_SESSION_OUT, m->data, m->data_len);
  case BLX__SESSION_ERRORS:
    return m->data_len == 0 || s->events->on_output(s->user, BLX__VM_SESSION_ERR, m->data, m->data_len);
  case BLX__SESSION_END: session_on_end(s, m); return true;
  case BLX__SESSION_REFUSED:
    session_fail(s, BLX_E_UNSUPPORTED, "its shim is of a version that has no sessions: restart the VM");
    return true;
  case BLX__SESSION_OPEN:
  case BLX__SESSION_INPUT:
  case BLX__SESSION_EOF:
  case BLX__SESSION_RESIZE: return true;
  }
  return true;
}

/* True: one is there; false: what is held is used up, or it ended. */
static bool session_next_message(struct blx__vm_session *s) {
  blx_error err;
  size_t taken;
  bool got;
  if (s->held.len == 0) return false;
  if (blx__session_read(&s->reader, s->held.data, s->held.len, &taken, &got, &s->msg, &err).code != 0) {
    session_fail(s, BLX_E_UNAVAILABLE, err.message);
    return false;
  }
  blx__buf_consume(&s->held, taken);
  return got;
}

static void session_drain(struct blx__vm_session *s) {
  s->draining = true;
  while (s->m && (s->offered || session_next_message(s))) {
    s->offered = !session_heard(s, &s->msg);
    if (!s->m || !s->offered) continue;
    if (s->stream) blx__stream_pause(s->stream, true);
    blx__timer_start(s->timer, SESSION_RETRY_MS, 0);
    break;
  }
  if (s->m && !s->offered && s->stream) blx__stream_pause(s->stream, false);
  if (s->m && !s->offered && !s->stream) session_fail(s, BLX_E_UNAVAILABLE, "its shim closed the session");
  s->draining = false;
  session_maybe_free(s);
}

static void session_timer(void *arg) {
  session_drain(arg);
}

static void session_bytes(void *user, const uint8_t *bytes, size_t n) {
  struct blx__vm_session *s = user;
  if (!s->m) return;
  if (!blx__buf_add(&s->held, bytes, n)) {
    session_fail(s, BLX_E_NOMEM, "no memory for its output");
    return;
  }
  if (!s->offered) session_drain(s);
}

static void session_tell_size(struct blx__vm_session *s) {
  uint8_t frame[4 + BLX__SESSION_FIXED_BYTES];
  struct blx__session_msg m = {.type = BLX__SESSION_RESIZE, .a = s->rows, .b = s->columns};
  s->resized = s->stream && !blx__stream_write(s->stream, frame, blx__session_write(&m, frame));
}

static void session_writable(void *user) {
  struct blx__vm_session *s = user;
  if (!s->m) return;
  if (s->resized) session_tell_size(s);
  if (!s->refused) return;
  s->refused = false;
  s->events->on_room(s->user);
}

/* What came before is still told, then the end. */
static void session_closed(void *user, const blx_error *why) {
  struct blx__vm_session *s = user;
  (void)why;
  s->stream = NULL;
  if (s->m && !s->offered)
    session_drain(s);
  else
    session_maybe_free(s);
}

static const struct blx__stream_ops session_ops = {
    .on_bytes = session_bytes, .on_writable = session_writable, .on_closed = session_closed};

static blx__rc session_words_of(const struct blx__vm_session_spec *spec, uint8_t out[BLX__VM_SESSION_ARGS_BYTES],
                                size_t *len, blx_error *err) {
  size_t used = 0;
  if (spec->argc > BLX__VM_SESSION_ARGS_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "the command has %zu words: at most %d are allowed", spec->argc,
                     BLX__VM_SESSION_ARGS_MAX);
  for (size_t i = 0; i < spec->argc; i++) {
    size_t n = strlen(spec->argv[i]) + 1;
    if (i == 0 && n == 1) return blx__fail(err, BLX_E_INVALID, origin, "the command's first word is empty");
    if (n > BLX__VM_SESSION_ARGS_BYTES - used)
      return blx__fail(err, BLX_E_INVALID, origin, "the command is longer than %d bytes: put it in a file in the guest",
                       BLX__VM_SESSION_ARGS_BYTES - BLX__VM_SESSION_ARGS_MAX);
    memcpy(out + used, spec->argv[i], n);
    used += n;
  }
  *len = used;
  return BLX__OK;
}

static blx__rc session_find(struct microvm *m, const struct blx__vm_key *key, struct vm_instance **out,
                            blx_error *err) {
  char id[VM_ID_MAX], path[PATH_MAX];
  struct stat st;
  if (!blx__name_ok(key->instance, 63))
    return blx__fail(err, BLX_E_INVALID, origin, "an instance's name must match " BLX__NAME_PATTERN);
  bool fits = blx__str_format(id, sizeof id, "%s-%llu", key->instance, (unsigned long long)key->uid) &&
              blx__str_format(path, sizeof path, "%s/vms/%s", m->state_dir, id);
  BLX__ASSERT(fits);
  struct vm_instance *in = blx__map_get_str(&m->instances, id);
  if (!in && stat(path, &st) != 0)
    return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s is not on this node", key->instance);
  if (!in || !vm_runs(in))
    return blx__fail(err, BLX_E_CONFLICT, origin, "%s does not run: start it first", key->instance);
  *out = in;
  return BLX__OK;
}

static blx__rc session_connect_to(struct blx__vm_session *s, const struct vm_instance *in, blx_error *err) {
  char path[PATH_MAX];
  s->timer = blx__timer_new(in->m->loop, session_timer, s);
  if (!s->timer) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a session");
  BLX__TRY(blx__stream_connect(in->m->loop, vm_path(in, "ctl.sock", path), &session_ops, s, &s->stream, err));
  blx__stream_queue_max(s->stream, SESSION_QUEUE_MAX);
  return BLX__OK;
}

blx__rc vm_session_open(struct microvm *m, const struct blx__vm_key *key, const struct blx__vm_session_spec *spec,
                        const struct blx__vm_session_events *events, void *user, struct blx__vm_session **out,
                        blx_error *err) {
  uint8_t words[BLX__VM_SESSION_ARGS_BYTES], frame[4 + BLX__SESSION_FIXED_BYTES + sizeof words];
  struct vm_instance *in = NULL;
  struct blx__session_msg open = {.type = BLX__SESSION_OPEN, .a = spec->rows, .b = spec->columns, .data = words};
  if (m->closing) return blx__fail(err, BLX_E_CANCELLED, origin, "the driver is closing");
  if (m->sessions_open >= BLX__VM_SESSIONS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d sessions are open on this node already: try again later",
                     BLX__VM_SESSIONS_MAX);
  BLX__TRY(session_words_of(spec, words, &open.data_len, err));
  BLX__TRY(session_find(m, key, &in, err));
  struct blx__vm_session *s = calloc(1, sizeof *s);
  if (!s) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a session");
  s->events = events;
  s->user = user;
  (void)blx__str_copy(s->name, sizeof s->name, in->name);
  blx__buf_init(&s->held, SESSION_HELD_MAX);
  blx__rc rc = session_connect_to(s, in, err);
  if (rc.code != 0) {
    session_maybe_free(s);
    return rc;
  }
  s->m = m;
  m->sessions_open++;
  blx__list_push(&m->sessions, &s->link);
  open.flags = spec->tty ? BLX__SESSION_TTY : 0;
  open.uid = in->uid;
  open.epoch = in->status.epoch;
  bool queued = blx__stream_write(s->stream, frame, blx__session_write(&open, frame));
  BLX__ASSERT(queued); /* the queue is empty, and larger */
  *out = s;
  return BLX__OK;
}

bool vm_session_write(struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  uint8_t frames[SESSION_WRITE_BYTES];
  size_t len = 0;
  BLX__ASSERT(s->m && n <= BLX__VM_SESSION_WRITE_MAX);
  if (!s->stream) return true; /* its end is on the way */
  if (n == 0) len = blx__session_write(&(struct blx__session_msg){.type = BLX__SESSION_EOF}, frames);
  for (size_t at = 0; at < n; at += BLX__SESSION_DATA_MAX) {
    size_t k = n - at < BLX__SESSION_DATA_MAX ? n - at : BLX__SESSION_DATA_MAX;
    struct blx__session_msg m = {.type = BLX__SESSION_INPUT, .data = bytes + at, .data_len = k};
    len += blx__session_write(&m, frames + len);
  }
  s->refused = !blx__stream_write(s->stream, frames, len);
  return !s->refused;
}

void vm_session_resize(struct blx__vm_session *s, uint16_t rows, uint16_t columns) {
  BLX__ASSERT(s->m);
  s->rows = rows;
  s->columns = columns;
  session_tell_size(s);
}

void vm_session_close(struct blx__vm_session *s) {
  BLX__ASSERT(s->m);
  session_let_go(s);
  session_maybe_free(s);
}

void vm_session_end_all(struct microvm *m) {
  while (m->sessions.next != &m->sessions)
    session_fail(BLX__CONTAINER(m->sessions.next, struct blx__vm_session, link), BLX_E_UNAVAILABLE,
                 "the node lets go of its VMs");
}

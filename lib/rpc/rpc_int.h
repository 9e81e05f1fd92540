/* What the files of lib/rpc share: HTTP/2 over a stream, the framing of messages, statuses. */
#ifndef BLX__RPC_INT_H
#define BLX__RPC_INT_H

#include "io/stream.h"
#include "rpc/rpc.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

enum {
  STREAM_WINDOW_BYTES = 1 << 20,
  CONN_WINDOW_BYTES = 4 << 20,
  RESET_BURST =
      10000, /* cancelled calls a connection may have at once, and more per second: a member cancels watches */
  RESET_RATE = 1000,
  FRAME_HEAD_BYTES = 5 /* of a message: compressed flag and length */
};

/* ---- h2.c: nghttp2 on a stream */

struct h2;

struct h2_ops {
  void (*set_callbacks)(nghttp2_session_callbacks *cbs);     /* user_data of each: the struct h2 */
  void (*on_flushed)(void *owner);                           /* frames went out; NULL allowed */
  void (*on_closed)(void *owner, const blx_error *why);      /* last, once; @why NULL: an orderly end */
  void (*on_sent)(struct h2 *h, const nghttp2_frame *frame); /* in a callback of nghttp2; NULL allowed */
  void (*on_begun)(void *owner); /* of a server: the other side has said a client's first words; NULL allowed */
};

struct h2 {
  struct blx__loop *loop;
  struct blx__stream *stream;
  nghttp2_session *session; /* of a server NULL until the other side has said that it speaks HTTP/2 */
  struct blx__defer flush;
  const struct h2_ops *ops;
  void *owner;
  bool closing;
  bool rude;             /* the other side does not speak HTTP/2, or floods us */
  bool cut;              /* the other side did not answer any more */
  blx_error *why;        /* what broke it; NULL: nothing, or no memory for it */
  uint8_t magic_at;      /* bytes of the client's first words that came */
  unsigned silent_looks; /* since the other side was heard, with calls open */
  unsigned idle_looks;   /* since there was a call */
  uint64_t heard_ms;     /* when the other side was last heard */
  unsigned free_frames;  /* so many frames that carry nothing may come now */
  uint64_t free_ms;      /* when that was last raised */
};

/* Take over @s. */
void h2_accept(struct h2 *h, struct blx__loop *loop, struct blx__stream *s, const struct h2_ops *ops, void *owner);
blx__rc h2_connect(struct h2 *h, struct blx__loop *loop, const char *path, const struct h2_ops *ops, void *owner,
                   blx_error *err) BLX__MUST;

/* There may be frames to send: they go out on the next turn, never inside a callback of nghttp2. */
void h2_dirty(struct h2 *h);

/* Close now; on_closed follows. @why may be NULL. */
void h2_close(struct h2 *h, const blx_error *why);

/* Called at each look: keeps count of silence, asks the other side whether it lives, cuts the connection if it does not
 * answer. Looks are counted, not milliseconds: after a pause of this whole process the answer may lie there unread. */
void h2_look(struct h2 *h, bool has_calls);

/* Begin nothing more, let open calls end, then close. */
void h2_retire(struct h2 *h);

/* The same for one that has no call, now, and its session goes with it: many that come at once never take the memory of
 * more than may stay. Not from within a callback of this connection. */
void h2_farewell(struct h2 *h);

static inline nghttp2_nv nv_of(const char *name, const char *value, size_t value_len) {
  return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), value_len,
                      NGHTTP2_NV_FLAG_NO_INDEX};
}

/* A name and value that repeat on every call: the header compression shall remember them. */
static inline nghttp2_nv nv_fixed(const char *name, const char *value) {
  return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                      NGHTTP2_NV_FLAG_NONE};
}

static inline bool bytes_are(const uint8_t *p, size_t n, const char *text) {
  return n == strlen(text) && memcmp(p, text, n) == 0;
}

/* "application/grpc", also with +proto or ;parameters. */
bool is_grpc_type(const uint8_t *value, size_t n);

/* ---- frame.c: messages out of chunks of bytes */

struct reader {
  struct blx__buf kept;    /* bytes of earlier chunks that were not used up */
  struct blx__slice chunk; /* what is being read, borrowed or kept */
  size_t at;
  bool borrowed;
};

void reader_init(struct reader *r);
void reader_free(struct reader *r);

/* Look at @n more bytes (0: only what is kept). False: more than the maximum is held, or memory is out. */
bool reader_begin(struct reader *r, const uint8_t *p, size_t n) BLX__MUST;

/* The next whole message, valid until reader_end; false when there is none, or with *@rc set when the bytes are
 * refused: UNSUPPORTED (compressed), INVALID (too long). */
bool reader_next(struct reader *r, struct blx__slice *message, blx__rc *rc, blx_error *err);

/* Keep what was not used up. False as above. */
bool reader_end(struct reader *r) BLX__MUST;

/* Bytes of an unfinished message are held. */
bool reader_is_partial(const struct reader *r);

/* Head of a message of @n bytes. */
void frame_head(uint8_t out[FRAME_HEAD_BYTES], size_t n);

/* Framed messages that wait to be sent. */
struct writer {
  struct blx__buf out;
  size_t at;     /* bytes of it that are sent */
  bool has_more; /* a message was refused: whoever has it is to be told of room */
};

void writer_init(struct writer *w);
void writer_free(struct writer *w);
size_t writer_queued(const struct writer *w);

/* Room for a message of @size bytes; false: not now, and has_more is set. */
bool writer_has_room(struct writer *w, size_t size);

/* Append a message for which there is room. False: memory is out. */
bool writer_add(struct writer *w, const void *message, size_t size) BLX__MUST;

/* Move up to @length bytes to @buf. Returns how many. */
size_t writer_take(struct writer *w, uint8_t *buf, size_t length);

/* There is room again for who was refused. */
bool writer_calls_for_more(const struct writer *w);

/* ---- status.c */

enum { STATUS_TEXT_BYTES = 12, PERCENT_MAX_BYTES = 3 * sizeof(((blx_error *)0)->message), TIMEOUT_TEXT_BYTES = 12 };

int grpc_of_code(int code);
int code_of_grpc(int status);
int code_of_name(const uint8_t *name, size_t n); /* 0: unknown */

/* gRPC's percent-encoding; @out of PERCENT_MAX_BYTES takes any message. Returns the length. */
size_t percent_encode(const char *text, char *out, size_t out_size);
/* The reverse, cut to @out_size - 1 bytes and at a character; what is not UTF-8 becomes '?'. */
void percent_decode(const uint8_t *p, size_t n, char *out, size_t out_size);

/* The value of grpc-timeout in ms, rounded up, at most a year; false: not a timeout. */
bool timeout_parse(const uint8_t *p, size_t n, uint64_t *ms);
void timeout_format(uint64_t ms, char out[TIMEOUT_TEXT_BYTES]);

/* Header fields of an error, in storage of its own. */
struct status_fields {
  nghttp2_nv nv[8];
  size_t count;
  char status[STATUS_TEXT_BYTES];
  char message[PERCENT_MAX_BYTES], origin[3 * 64], leader[3 * 160];
};

/* Append grpc-status and, for an error, what a caller of ours rebuilds it from. @err NULL: good. */
void status_fields(struct status_fields *f, const blx_error *err);

/* One header field towards an error: true if it was one of ours. @status starts at -1. */
struct status_seen {
  int status;
  bool has_code;
  blx_error err;
};
void status_seen(struct status_seen *s, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len);

#endif

/* Inside lib/api: the driver of an embedder's, in parts. */
#ifndef BLX__API_VM_DRIVER_INT_H
#define BLX__API_VM_DRIVER_INT_H

#include "api/api_int.h"
#include "api/vm_driver.h"
#include "base/buf.h"
#include "io/timer.h"

#define OWN_ORIGIN "vm driver"

enum { OWN_RETRY_MS = 20, OWN_SIGNAL_MAX = 64, OWN_EXIT_STATUS_MAX = 255 };

struct driver {
  struct blx__vm_driver base;
  struct blx__vm_ops table; /* base.ops: without what the embedder's has not */
  const struct blx_vm_driver_ops *ops;
  struct blx__loop *loop;
  blx_vm_driver *handle;
  blx__vm_event_fn *on_event;
  void *event_user;
  struct blx__list calls, logs, sessions;
  size_t logs_count, sessions_count, stats_count;
  atomic_uint posted; /* events on their way to the loop */
  bool closing;
  struct blx__defer closed;
  void (*on_close)(void *user);
  void *close_user;
};

/* Under way, or with its answer on its way to the loop. */
struct call {
  struct blx__list link;
  struct driver *driver;
  const struct blx_vm_driver_ops *ops;
  struct blx_vm_driver_key key; /* while the table is called */
  blx_vm_driver_call *handle;   /* NULL: the table does not have it, or no more */
  struct blx__defer defer;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  blx__vm_stats_fn *measured; /* of the three, one */
  void *user;
  atomic_bool answered; /* who sets it fills in the answer */
  bool failed;
  blx_error err;
  struct blx__vm_status status;
  struct blx__vm_stats *rows;
  size_t count;
};

static inline struct driver *driver_of(struct blx__vm_driver *d) {
  return BLX__CONTAINER(d, struct driver, base);
}

static inline struct blx_vm_driver_key key_of(const struct blx__vm_key *key) {
  return (struct blx_vm_driver_key){
      .struct_size = sizeof(struct blx_vm_driver_key), .instance = key->instance, .uid = key->uid, .epoch = key->epoch};
}

/* Nobody finds @handle any more, and nobody is inside. */
void own_retire(const void *handle, enum blx__api_kind kind);
/* What a function of the table returned, or an answer says: UTF-8, cut, with a code of ours, never without a sentence.
 */
blx__rc own_told(int code, const blx_error *said, blx_error *err);
/* Free it, when it is closing and nothing is on its way to the loop any more. */
void own_close_if_idle(struct driver *d);

/* vm_driver_logs.c */
blx__rc own_logs(struct blx__vm_driver *base, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                 blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user, struct blx__vm_logs **out,
                 blx_error *err);
void own_logs_close(struct blx__vm_driver *base, struct blx__vm_logs *l);
void own_logs_cancel(struct driver *d);

/* vm_driver_session.c */
blx__rc own_session_open(struct blx__vm_driver *base, const struct blx__vm_key *key,
                         const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                         void *user, struct blx__vm_session **out, blx_error *err);
bool own_session_write(struct blx__vm_driver *base, struct blx__vm_session *s, const uint8_t *bytes, size_t n);
void own_session_resize(struct blx__vm_driver *base, struct blx__vm_session *s, uint16_t rows, uint16_t columns);
void own_session_close(struct blx__vm_driver *base, struct blx__vm_session *s);
void own_sessions_cancel(struct driver *d);

/* vm_driver_session.c: the embedder's rows as ours; @out: count of them, for free(). Errors: MISUSE, INVALID, NOMEM. */
blx__rc own_stats_take(const struct blx_instance_stats *const *stats, size_t count, struct blx__vm_stats **out,
                       blx_error *err);

#endif

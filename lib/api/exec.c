/* Commands in guests and their consoles: a stream that is written to, too. */
#include "api/api_int.h"

enum { WRITE_MAX = 32768, INPUT_MAX = 48 << 10 }; /* of vm_exec_input: its data, and all of it */

static void tell_output(blx__api_fn on, void *user, const blx_error *err, void *message) {
  ((blx_vm_exec_fn)on)(user, err, message);
}

/* @on NULL: a thread reads it. */
static int open_with(blx_client *client, const struct blx_vm_exec_request *request, blx_vm_exec_fn on, void *user,
                     blx_vm_exec **out, blx_error *reterr) {
  struct blx_vm_exec_input first = BLX_VM_EXEC_INPUT_INIT;
  const struct blx__reader_options options = {.kind = BLX__API_EXEC,
                                              .id = BLX__RPC_VM_EXEC,
                                              .request = &first,
                                              .tell = on ? tell_output : NULL,
                                              .on = (blx__api_fn)on,
                                              .user = user};
  blx_vm_exec *before = *out;
  void *handle = NULL;
  if (!request) return blx__api_misuse(reterr, "the request is NULL");
  first.request = (struct blx_vm_exec_request *)(uintptr_t)request;
  int rc = blx__reader_open(client, &options, &handle, reterr);
  if (rc != 0) return rc;
  *out = handle; /* where a function that is told may look for it */
  rc = blx__reader_start(handle, BLX__API_EXEC, reterr);
  if (rc != 0) *out = before;
  return rc;
}

int blx_vm_exec_open(blx_client *client, const struct blx_vm_exec_request *request, blx_vm_exec **out,
                     blx_error *reterr) {
  if (!out) return blx__api_misuse(reterr, "the place for the handle is NULL");
  return open_with(client, request, NULL, NULL, out, reterr);
}

int blx_vm_exec_open_async(blx_client *client, const struct blx_vm_exec_request *request, blx_vm_exec_fn on, void *user,
                           blx_vm_exec **out, blx_error *reterr) {
  if (!out || !on) return blx__api_misuse(reterr, "the place for the handle or the function to tell is NULL");
  return open_with(client, request, on, user, out, reterr);
}

int blx_vm_exec_next(blx_vm_exec *exec, uint32_t timeout_ms, struct blx_vm_exec_output **out, blx_error *reterr) {
  void *message = NULL;
  if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");
  int rc = blx__reader_next(exec, BLX__API_EXEC, timeout_ms, &message, reterr);
  if (rc == 1) *out = message;
  return rc;
}

/* How an input goes: a thread waits for room, or a function is told. */
struct way {
  uint32_t timeout_ms;
  blx_vm_exec_sent_fn done; /* NULL: a thread waits */
  void *user;
};

static int send_input(blx_vm_exec *exec, const struct blx_vm_exec_input *input, const struct way *way,
                      blx_error *reterr) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, INPUT_MAX);
  int rc = blx__msg_encode(blx__desc_vm_exec_input(), input, &bytes, reterr).code;
  const struct blx__slice message = {bytes.data, bytes.len};
  if (rc == 0 && way->done) rc = blx__reader_send(exec, BLX__API_EXEC, message, way->done, way->user, reterr);
  if (rc == 0 && !way->done) rc = blx__reader_write(exec, BLX__API_EXEC, message, way->timeout_ms, reterr);
  blx__buf_free(&bytes);
  return rc;
}

static int write_bytes(blx_vm_exec *exec, const void *bytes, size_t len, const struct way *way, blx_error *reterr) {
  struct blx_vm_exec_input input = BLX_VM_EXEC_INPUT_INIT;
  if (!bytes && len > 0) return blx__api_misuse(reterr, "the bytes are NULL");
  input.data = (struct blx_bytes){bytes, len < WRITE_MAX ? len : WRITE_MAX};
  input.end = len == 0;
  int rc = send_input(exec, &input, way, reterr);
  return rc == 0 ? (int)input.data.len : rc;
}

static int resize(blx_vm_exec *exec, uint32_t rows, uint32_t columns, const struct way *way, blx_error *reterr) {
  struct blx_vm_exec_input input = BLX_VM_EXEC_INPUT_INIT;
  if (rows < 1 || rows > UINT16_MAX || columns < 1 || columns > UINT16_MAX)
    return blx__fail(reterr, BLX_E_INVALID, "api", "a terminal has 1 to 65535 rows and columns, not %u and %u", rows,
                     columns)
        .code;
  input.rows = rows;
  input.columns = columns;
  return send_input(exec, &input, way, reterr);
}

int blx_vm_exec_write(blx_vm_exec *exec, const void *bytes, size_t len, uint32_t timeout_ms, blx_error *reterr) {
  return write_bytes(exec, bytes, len, &(struct way){.timeout_ms = timeout_ms}, reterr);
}

int blx_vm_exec_write_async(blx_vm_exec *exec, const void *bytes, size_t len, blx_vm_exec_sent_fn done, void *user,
                            blx_error *reterr) {
  if (!done) return blx__api_misuse(reterr, "the function to tell is NULL");
  return write_bytes(exec, bytes, len, &(struct way){.done = done, .user = user}, reterr);
}

int blx_vm_exec_resize(blx_vm_exec *exec, uint32_t rows, uint32_t columns, uint32_t timeout_ms, blx_error *reterr) {
  return resize(exec, rows, columns, &(struct way){.timeout_ms = timeout_ms}, reterr);
}

int blx_vm_exec_resize_async(blx_vm_exec *exec, uint32_t rows, uint32_t columns, blx_vm_exec_sent_fn done, void *user,
                             blx_error *reterr) {
  if (!done) return blx__api_misuse(reterr, "the function to tell is NULL");
  return resize(exec, rows, columns, &(struct way){.done = done, .user = user}, reterr);
}

void blx_vm_exec_close(blx_vm_exec *exec) {
  blx__reader_close(exec, BLX__API_EXEC);
}

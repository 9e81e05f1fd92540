#include "support_driver.h"

#include "io/file.h"

#include <time.h>

struct fake fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

char dir[64];
blx_node *node;
blx_client *client;

/* ---- on the node's thread */

static struct fake_vm *vm_of(const struct blx_vm_driver_key *key) {
  struct fake_vm *free_one = NULL;
  ck_assert_uint_eq(key->struct_size, sizeof *key);
  for (size_t i = 0; i < VMS_MAX; i++) {
    if (fake.vms[i].uid == key->uid) return &fake.vms[i];
    if (fake.vms[i].uid == 0 && !free_one) free_one = &fake.vms[i];
  }
  ck_assert_ptr_nonnull(free_one);
  free_one->uid = key->uid;
  (void)blx__str_copy(free_one->name, sizeof free_one->name, key->instance);
  return free_one;
}

/* Takes the lock. True: the call is held or failed. */
static bool enter(enum fn fn, blx_vm_driver_call *call) {
  pthread_mutex_lock(&fake.lock);
  fake.counts[fn]++;
  pthread_cond_broadcast(&fake.cond);
  if (fake.holds[fn]) {
    ck_assert_uint_lt(fake.n_held, HELD_MAX);
    fake.held[fake.n_held++] = call;
    return true;
  }
  if (fake.fails[fn] == 0) return false;
  blx_error err = fake.said;
  err.code = fake.fails[fn];
  ck_assert_int_eq(blx_vm_driver_done(call, &err, NULL), 0);
  return true;
}

static void leave(void) {
  pthread_mutex_unlock(&fake.lock);
}

void fake_tell(const struct fake_vm *vm, int32_t event, int32_t exit_status, int32_t signal, const char *text) {
  struct blx_vm_driver_key key = BLX_VM_DRIVER_KEY_INIT;
  struct blx_vm_driver_status status = BLX_VM_DRIVER_STATUS_INIT;
  key.instance = vm->name;
  key.uid = vm->uid;
  key.epoch = vm->epoch;
  status.exit_status = exit_status;
  status.signal = signal;
  status.text = text;
  ck_assert_int_eq(blx_vm_driver_event(fake.driver, &key, event, &status, NULL), 0);
}

void fake_end(struct fake_vm *vm, int32_t exit_status, const char *text) {
  if (vm->runs) fake_tell(vm, BLX_VM_DRIVER_EVENT_EXITED, exit_status, 0, text);
  vm->runs = vm->paused = false;
}

static int on_open(void *user, blx_vm_driver *driver, blx_error *err) {
  ck_assert_ptr_eq(user, &fake);
  pthread_mutex_lock(&fake.lock);
  fake.counts[OPEN]++;
  fake.driver = driver;
  int rc = fake.fails[OPEN];
  if (rc != 0) *err = fake.said;
  leave();
  return rc;
}

static void on_close(void *user) {
  ck_assert_ptr_eq(user, &fake);
  pthread_mutex_lock(&fake.lock);
  fake.counts[CLOSE]++;
  leave();
}

static int on_supported(void *user, const struct blx_vm_driver_key *key, const struct blx_vm_driver_desc *desc,
                        blx_error *err) {
  (void)user;
  (void)key;
  if (desc->memory_mib != 333) return 0;
  (void)blx__fail(err, BLX_E_UNSUPPORTED, "fake", "333 MiB are an unlucky number");
  return BLX_E_UNSUPPORTED;
}

static void on_prepare(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                       const struct blx_vm_driver_desc *desc) {
  (void)user;
  if (!enter(PREPARE, call)) {
    (void)vm_of(key);
    ck_assert_uint_eq(desc->struct_size, sizeof *desc);
    ck_assert_str_eq(desc->hypervisor, "qemu");
    fake.last_memory = desc->memory_mib;
    (void)blx__str_format(fake.last_config, sizeof fake.last_config, "%.*s", (int)desc->config.len,
                          (const char *)desc->config.data);
    ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  }
  leave();
}

static void on_start(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                     const struct blx_vm_driver_desc *desc) {
  (void)user;
  (void)desc;
  if (!enter(START, call)) {
    struct fake_vm *vm = vm_of(key);
    ck_assert(!vm->runs && key->epoch > vm->epoch);
    vm->runs = true;
    vm->epoch = key->epoch;
    ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
    fake_tell(vm, BLX_VM_DRIVER_EVENT_READY, -1, 0, NULL);
  }
  leave();
}

static void dies(enum fn fn, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  if (!enter(fn, call)) {
    fake_end(vm_of(key), 0, "it was asked to");
    ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  }
  leave();
}

static void on_stop(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key, uint32_t deadline_ms) {
  (void)user;
  ck_assert_uint_gt(deadline_ms, 0);
  dies(STOP, call, key);
}

static void on_kill(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user;
  dies(KILL, call, key);
}

static void on_pause(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key, uint32_t paused) {
  (void)user;
  if (!enter(PAUSE, call)) {
    vm_of(key)->paused = paused != 0;
    ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  }
  leave();
}

static void on_destroy(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user;
  if (!enter(DESTROY, call)) {
    struct fake_vm *vm = vm_of(key);
    ck_assert(!vm->runs);
    *vm = (struct fake_vm){0};
    ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  }
  leave();
}

static void on_adopt(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user;
  if (!enter(ADOPT, call)) {
    const struct fake_vm *vm = vm_of(key);
    struct blx_vm_driver_status status = BLX_VM_DRIVER_STATUS_INIT;
    status.state = vm->runs ? BLX_VM_DRIVER_READY : BLX_VM_DRIVER_ABSENT;
    status.epoch = vm->runs ? vm->epoch : 0;
    status.exit_status = -1;
    status.paused = vm->paused;
    REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
    ck_assert_int_eq(blx_vm_driver_found(call, &status, NULL), 0);
    REFUSED(BLX_E_MISUSE, blx_vm_driver_found(call, &status, &err));
  }
  leave();
}

static int on_logs(void *user, blx_vm_driver_logs *logs, const struct blx_vm_driver_key *key, uint32_t tail_lines,
                   uint32_t follow, blx_error *err) {
  (void)user;
  (void)key;
  pthread_mutex_lock(&fake.lock);
  fake.counts[LOGS]++;
  fake.logs = logs;
  fake.last_tail = tail_lines;
  fake.last_follow = follow;
  int rc = fake.fails[LOGS];
  if (rc == 0) ck_assert_int_eq(blx_vm_driver_logs_add(logs, "one\n", 4, NULL), 0);
  if (rc != 0) *err = fake.said;
  if (rc == 0 && !follow) ck_assert_int_eq(blx_vm_driver_logs_end(logs, NULL, NULL), 0);
  pthread_cond_broadcast(&fake.cond);
  leave();
  return rc;
}

static void on_logs_close(void *user, blx_vm_driver_logs *logs) {
  (void)user;
  pthread_mutex_lock(&fake.lock);
  ck_assert_ptr_eq(logs, fake.logs);
  fake.counts[LOGS_CLOSE]++;
  pthread_cond_broadcast(&fake.cond);
  leave();
}

static int on_session_open(void *user, blx_vm_driver_session *session, const struct blx_vm_driver_key *key,
                           const struct blx_vm_driver_session_spec *spec, blx_error *err) {
  (void)user;
  ck_assert_uint_eq(spec->struct_size, sizeof *spec);
  ck_assert_str_eq(key->instance, "web-1");
  ck_assert((spec->argv == NULL) == (spec->argc == 0));
  pthread_mutex_lock(&fake.lock);
  fake.counts[SESSION_OPEN]++;
  fake.session = session;
  fake.words[0] = '\0';
  for (size_t i = 0; i < spec->argc; i++) {
    size_t n = strlen(fake.words);
    (void)blx__str_format(fake.words + n, sizeof fake.words - n, "%s|", spec->argv[i]);
  }
  fake.tty = spec->tty;
  fake.rows = spec->rows;
  fake.columns = spec->columns;
  fake.input_len = 0;
  fake.input_ended = false;
  int rc = fake.fails[SESSION_OPEN];
  if (rc != 0) *err = fake.said;
  if (rc == 0) ck_assert_int_eq(blx_vm_driver_session_output(session, BLX_VM_DRIVER_STREAM_OUT, "hi\n", 3, NULL), 0);
  pthread_cond_broadcast(&fake.cond);
  leave();
  return rc;
}

static int on_session_write(void *user, blx_vm_driver_session *session, const void *bytes, size_t len) {
  (void)user;
  pthread_mutex_lock(&fake.lock);
  ck_assert_ptr_eq(session, fake.session);
  ck_assert_uint_le(len, BLX_VM_DRIVER_SESSION_BYTES_MAX);
  int taken = !fake.full;
  fake.counts[SESSION_WRITE]++;
  for (size_t i = 0; taken && i < len; i++, fake.input_len++)
    fake.input[fake.input_len % sizeof fake.input] = ((const char *)bytes)[i];
  fake.input_ended |= taken && len == 0;
  pthread_cond_broadcast(&fake.cond);
  leave();
  return taken;
}

static void on_session_resize(void *user, blx_vm_driver_session *session, uint32_t rows, uint32_t columns) {
  (void)user;
  pthread_mutex_lock(&fake.lock);
  ck_assert_ptr_eq(session, fake.session);
  fake.counts[SESSION_RESIZE]++;
  fake.rows = rows;
  fake.columns = columns;
  pthread_cond_broadcast(&fake.cond);
  leave();
}

static void on_session_close(void *user, blx_vm_driver_session *session) {
  (void)user;
  pthread_mutex_lock(&fake.lock);
  fake.closed = session;
  fake.counts[SESSION_CLOSE]++;
  pthread_cond_broadcast(&fake.cond);
  leave();
}

static void on_stats(void *user, blx_vm_driver_call *call) {
  struct blx_instance_stats rows[VMS_MAX];
  const struct blx_instance_stats *list[VMS_MAX];
  size_t n = 0;
  (void)user;
  if (!enter(STATS, call)) {
    for (size_t i = 0; i < VMS_MAX; i++) {
      if (!fake.vms[i].runs) continue;
      rows[n] = (struct blx_instance_stats)BLX_INSTANCE_STATS_INIT;
      rows[n].instance = fake.vms[i].name;
      rows[n].uid = fake.vms[i].uid;
      rows[n].has_cpu_us = rows[n].has_guest_memory_bytes = rows[n].has_guest_available_bytes = 1;
      rows[n].has_guest_uptime_ms = rows[n].has_guest_load_milli = rows[n].has_guest_processes = 1;
      rows[n].cpu_us = 1234567;
      rows[n].guest_memory_bytes = 5000;
      rows[n].guest_available_bytes = 4000;
      rows[n].guest_processes = 6;
      list[n] = &rows[n];
      n++;
    }
    ck_assert_int_eq(blx_vm_driver_measured(call, list, n, NULL), 0);
  }
  leave();
}

struct blx_vm_driver_ops fake_table(void) {
  struct blx_vm_driver_ops ops = BLX_VM_DRIVER_OPS_INIT;
  ops.user = &fake;
  ops.open = on_open;
  ops.supported = on_supported;
  ops.prepare = on_prepare;
  ops.start = on_start;
  ops.stop = on_stop;
  ops.kill = on_kill;
  ops.pause = on_pause;
  ops.destroy = on_destroy;
  ops.adopt = on_adopt;
  ops.logs = on_logs;
  ops.logs_close = on_logs_close;
  ops.close = on_close;
  ops.session_open = on_session_open;
  ops.session_write = on_session_write;
  ops.session_resize = on_session_resize;
  ops.session_close = on_session_close;
  ops.stats = on_stats;
  return ops;
}

/* ---- the test's side */

void fake_reset(void) {
  memset(fake.counts, 0, sizeof fake.counts);
  memset(fake.holds, 0, sizeof fake.holds);
  memset(fake.fails, 0, sizeof fake.fails);
  memset(fake.vms, 0, sizeof fake.vms);
  memset(&fake.said, 0, sizeof fake.said);
  fake.n_held = 0;
  fake.full = false;
}

void fake_set(enum fn fn, bool holds, int fails, const char *message) {
  pthread_mutex_lock(&fake.lock);
  fake.holds[fn] = holds;
  fake.fails[fn] = fails;
  (void)blx__str_copy(fake.said.message, sizeof fake.said.message, message);
  leave();
}

void fake_await(enum fn fn, unsigned count) {
  struct timespec until;
  int e = 0;
  (void)clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += WAIT_MS / 1000;
  pthread_mutex_lock(&fake.lock);
  while (fake.counts[fn] < count && e == 0) e = pthread_cond_timedwait(&fake.cond, &fake.lock, &until);
  ck_assert_msg(fake.counts[fn] >= count, "function %d was called %u times, not %u", fn, fake.counts[fn], count);
  leave();
}

unsigned fake_count(enum fn fn) {
  pthread_mutex_lock(&fake.lock);
  unsigned n = fake.counts[fn];
  leave();
  return n;
}

blx_vm_driver_call *fake_release(enum fn fn, unsigned count) {
  fake_await(fn, count);
  pthread_mutex_lock(&fake.lock);
  ck_assert_uint_gt(fake.n_held, 0);
  blx_vm_driver_call *call = fake.held[--fake.n_held];
  fake.holds[fn] = false;
  leave();
  return call;
}

/* ---- a node that has it */

int open_with(const struct blx_vm_driver_ops *ops, uint32_t simulate, blx_error *err) {
  static struct blx_resources capacity = {.struct_size = sizeof capacity, .vcpus = 64, .memory_mib = 1 << 16};
  char data[96];
  (void)blx__str_format(data, sizeof data, "%s/a", dir);
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  o.data_dir = data;
  o.name = "a";
  o.bootstrap = 1;
  o.simulate_vms = simulate;
  o.capacity = &capacity;
  o.heartbeat_ms = 50;
  o.election_ms = 500;
  o.vm_driver = ops;
  return blx_node_open(&o, &node, err);
}

void make_dir(void) {
  fake_reset();
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-api-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

void remove_dir(void) {
  blx_error err;
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}

void open_node(void) {
  struct blx_vm_driver_ops ops = fake_table();
  blx_error err = {0};
  ck_assert_msg(open_with(&ops, 0, &err) == 0, "%s", err.message);
  client = api_client_of(node);
}

void close_node(void) {
  blx_client_close(client);
  blx_node_close(node);
}

void create(uint32_t memory_mib) {
  static const uint8_t config[] = "{ anything = \"at all\"; }";
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  blx_error err = {0};
  spec.name = "web";
  spec.memory_mib = memory_mib;
  req.spec = &spec;
  req.config = (struct blx_bytes){config, sizeof config - 1};
  struct blx_vm *vm = NULL;
  ck_assert_msg(blx_vm_create(client, &req, &vm, &err) == 0, "%s", err.message);
  blx_vm_free(vm);
}

void verb(int (*fn)(blx_client *, const struct blx_vm_name_request *, struct blx_vm **, blx_error *)) {
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  blx_error err = {0};
  req.name = "web";
  struct blx_vm *vm = NULL;
  ck_assert_msg(fn(client, &req, &vm, &err) == 0, "%s", err.message);
  blx_vm_free(vm);
}

void wait_for(int phase) {
  blx_error err = {0};
  ck_assert_msg(blx_vm_wait(client, "web", phase, WAIT_MS, NULL, NULL, &err) == 0, "%s", err.message);
}

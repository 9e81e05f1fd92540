#include "support_driver.h"

#include <time.h>

struct fake fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

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

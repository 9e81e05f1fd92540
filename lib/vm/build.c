/* Building runners: one at a time on a node. A module file is wrapped into a flake by the runner's `wrap`; then `nix
 * build` makes DIR/current, which is a root of Nix's collector. */
#include "vm/vm_int.h"

#include "base/failpoint.h"
#include "io/file.h"
#include "io/work.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char origin[] = "vm/build";

enum {
  ARGS_MAX = 32,
  ENV_MAX = 12,
  FLAKE_MAX = 2048,
  NUMBER_MAX = 24,
  WORDS_MAX = 400, /* of a failed build, in its reason */
  WORDS_HEAD = 170 /* so many from their beginning, if there are more */
};

enum step { STEP_WAITING, STEP_FILES, STEP_WRAP, STEP_NIX, STEP_CLEAN };

struct vm_build {
  struct blx__list link;
  struct vm_instance *in;
  enum step step;
  bool cancelled, made_dir, has_config;
  struct blx__process *process;
  struct blx__defer gone; /* of one that was cancelled before its turn */
  char ref[FLAKE_MAX];    /* what is built: REF#ATTRIBUTE */
  char work[PATH_MAX];    /* builds/ID */
  uint32_t vcpus, memory_mib;
  char *nixpkgs_ref, *microvm_ref; /* told to `wrap`; NULL: not */
  struct blx__buf config;
  blx__rc rc;
  blx_error err;
};

static void next_step(struct vm_build *b);

static void fail(struct vm_build *b, const blx_error *err) {
  if (b->rc.code != 0) return;
  b->err = *err;
  b->rc = (blx__rc){err->code};
}

/* ---- the end of a build */

static void build_free(struct vm_build *b) {
  blx__list_remove(&b->link);
  blx__buf_free(&b->config);
  free(b->nixpkgs_ref);
  free(b->microvm_ref);
  free(b);
}

static void start_first(struct microvm *m) {
  struct blx__list *first = blx__list_first(&m->builds);
  if (!first) return;
  struct vm_build *b = BLX__CONTAINER(first, struct vm_build, link);
  if (b->step == STEP_WAITING) next_step(b);
}

static void finish(struct vm_build *b) {
  struct vm_instance *in = b->in;
  struct microvm *m = in->m;
  blx_error err = b->err;
  bool failed = b->rc.code != 0, cancelled = b->cancelled;
  in->build = NULL;
  in->holds--;
  m->jobs--;
  build_free(b);
  /* A cancelled one was completed when it was cancelled. */
  if (!cancelled) {
    vm_op_finish(in, failed ? &err : NULL);
  }
  vm_on_build_gone(in);
  vm_instance_settle(in);
  start_first(m);
  vm_close_check(m);
}

/* ---- steps on a worker */

/* The part of a worker's job that touches files; b is not touched by the loop meanwhile. */
static blx__rc make_files(struct vm_build *b) {
  char path[PATH_MAX];
  struct stat st;
  b->made_dir = stat(b->in->dir, &st) != 0;
  BLX__TRY(blx__dir_make(b->in->dir, 0755, &b->err));
  BLX__TRY(blx__dir_remove_tree(b->work, &b->err));
  BLX__TRY(blx__dir_make(b->work, 0700, &b->err));
  blx__failpoint(BLX__FAILPOINT_BUILD_FILES);
  if (!b->has_config) return BLX__OK;
  if (!blx__str_format(path, sizeof path, "%s/module.nix", b->work))
    return blx__fail(&b->err, BLX_E_INVALID, origin, "the path %.200s is too long", b->work);
  return blx__file_write_atomic(path, b->config.data, b->config.len, 0600, &b->err);
}

static void files_work(void *arg) {
  struct vm_build *b = arg;
  b->rc = make_files(b);
}

static void clean_work(void *arg) {
  struct vm_build *b = arg;
  blx_error err;
  blx__failpoint(BLX__FAILPOINT_BUILD_CLEAN);
  blx__rc rc = blx__dir_remove_tree(b->work, &err);
  if (rc.code == 0 && b->rc.code != 0 && b->made_dir) rc = blx__dir_remove_tree(b->in->dir, &err);
  /* Its runner is built: what could not be removed is removed by the next build. */
  (void)rc;
}

static void step_done(void *arg) {
  struct vm_build *b = arg;
  if (b->step == STEP_CLEAN)
    finish(b);
  else
    next_step(b);
}

static void step_on_worker(struct vm_build *b, void (*fn)(void *)) {
  blx_error err;
  if (blx__work(b->in->m->loop, fn, step_done, b, &err).code == 0) return;
  fail(b, &err);
  if (b->step == STEP_CLEAN) {
    finish(b);
    return;
  }
  b->step = STEP_NIX;
  next_step(b);
}

/* ---- steps in a process */

/* Text as one line without colours. */
static size_t squeeze(const char *from, char *out, size_t size) {
  size_t k = 0;
  bool space = true;
  for (; *from && k + 1 < size; from++) {
    unsigned char c = (unsigned char)*from;
    if (c == 0x1b) {
      /* Colours: ESC [ digits letter. */
      while (from[1] && !((from[1] | 0x20) >= 'a' && (from[1] | 0x20) <= 'z')) from++;
      if (from[1]) from++;
      continue;
    }
    if (c <= 0x20 && space) continue;
    space = c <= 0x20;
    out[k++] = space ? ' ' : (char)c;
  }
  while (k > 0 && out[k - 1] == ' ') k--;
  out[k] = '\0';
  return k;
}

static bool inside_character(char c) {
  return ((unsigned char)c & 0xc0) == 0x80;
}

/* What Nix says is long; its last "error:" is what people need, and of a builder's log behind that the end. */
static void last_words(struct blx__slice tail, char out[WORDS_MAX + 1]) {
  char text[VM_BUILD_TAIL_BYTES + 1], line[VM_BUILD_TAIL_BYTES + 1];
  size_t n = tail.len < VM_BUILD_TAIL_BYTES ? tail.len : VM_BUILD_TAIL_BYTES;
  if (n > 0) memcpy(text, tail.data + (tail.len - n), n);
  text[n] = '\0';
  const char *from = text, *at = text;
  while ((at = strstr(at, "error:"))) from = at++;
  /* It only says how to see more of the log. */
  char *more = strstr(text, "For full logs, run");
  if (more && more > from) *more = '\0';
  size_t len = squeeze(from, line, sizeof line);
  if (len <= WORDS_MAX) {
    (void)blx__str_copy(out, WORDS_MAX + 1, line);
    return;
  }
  size_t head = WORDS_HEAD, rest = len - (WORDS_MAX - WORDS_HEAD - strlen(" ... "));
  while (head > 0 && inside_character(line[head])) head--;
  while (inside_character(line[rest])) rest++;
  (void)blx__str_format(out, WORDS_MAX + 1, "%.*s ... %s", (int)head, line, line + rest);
}

static void on_exit_of_step(void *user, int exit_status, int signal, bool timed_out, struct blx__slice tail) {
  struct vm_build *b = user;
  char words[WORDS_MAX + 1];
  blx_error err;
  const char *what = b->step == STEP_WRAP ? "wrapping its module" : "building its runner";
  b->process = NULL;
  if (timed_out) {
    (void)blx__fail(&err, BLX_E_TIMEOUT, origin, "%s for %s took too long and was stopped", what, b->in->name);
    fail(b, &err);
  } else if (exit_status != 0) {
    last_words(tail, words);
    if (signal != 0)
      (void)blx__fail(&err, BLX_E_IO, origin, "%s for %s was ended by signal %d", what, b->in->name, signal);
    else
      (void)blx__fail(&err, BLX_E_INVALID, origin, "%s for %s failed: %s", what, b->in->name, words);
    fail(b, &err);
  }
  next_step(b);
}

struct strings {
  const char *at[ARGS_MAX + 1];
  unsigned count;
};

static void add(struct strings *s, const char *text) {
  BLX__ASSERT(s->count < ARGS_MAX);
  s->at[s->count++] = text;
}

static void add_pair(struct strings *s, const char *name, const char *value) {
  add(s, name);
  add(s, value);
}

/* A store of our own needs no daemon, no build users and nothing outside the state directory. The sandbox is off since
 * a Debian runner's builder reads the host's kernel and QEMU, by hash. */
static const char own_store_config[] = "NIX_CONFIG=experimental-features = nix-command flakes\nbuild-users-group =\n"
                                       "sandbox = false\nsubstituters =\nwarn-dirty = false";
static const char system_store_config[] =
    "NIX_CONFIG=experimental-features = nix-command flakes\nsandbox = false\nwarn-dirty = false";

static void spawn(struct vm_build *b, const struct strings *argv, uint64_t deadline_ms) {
  const struct microvm *m = b->in->m;
  const char *prefix = m->opt.nix_store_dir;
  char text[6][PATH_MAX + 32];
  struct strings env = {0};
  add(&env, "PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  add(&env, "LC_ALL=C.UTF-8");
  add(&env, prefix ? own_store_config : system_store_config);
  (void)blx__str_format(text[0], sizeof text[0], "HOME=%s", m->state_dir);
  (void)blx__str_format(text[1], sizeof text[1], "XDG_CACHE_HOME=%s/cache", m->state_dir);
  add(&env, text[0]);
  add(&env, text[1]);
  if (prefix) {
    (void)blx__str_format(text[2], sizeof text[2], "NIX_STORE_DIR=%s/store", prefix);
    (void)blx__str_format(text[3], sizeof text[3], "NIX_STATE_DIR=%s/var/nix", prefix);
    (void)blx__str_format(text[4], sizeof text[4], "NIX_LOG_DIR=%s/var/log/nix", prefix);
    (void)blx__str_format(text[5], sizeof text[5], "NIX_CONF_DIR=%s/etc", prefix);
    for (unsigned i = 2; i < 6; i++) add(&env, text[i]);
  }
  struct blx__process_spec spec = {.argv = argv->at,
                                   .env = env.at,
                                   .cwd = b->work,
                                   .new_session = true,
                                   .with_us = true, /* or nobody would end a build that hangs */
                                   .output_max = VM_BUILD_TAIL_BYTES,
                                   .deadline_ms = deadline_ms};
  blx_error err;
  if (blx__process_spawn(m->loop, &spec, on_exit_of_step, b, &b->process, &err).code == 0) return;
  b->process = NULL;
  fail(b, &err);
  next_step(b);
}

static void spawn_wrap(struct vm_build *b) {
  const struct microvm *m = b->in->m;
  char wrap[PATH_MAX], flake[PATH_MAX], module[PATH_MAX], cache[PATH_MAX], vcpu[NUMBER_MAX], mem[NUMBER_MAX];
  char user[2 * NUMBER_MAX];
  (void)blx__str_format(wrap, sizeof wrap, "%s/wrap", m->opt.runner_dir);
  (void)blx__str_format(flake, sizeof flake, "%s/flake", b->work);
  (void)blx__str_format(module, sizeof module, "%s/module.nix", b->work);
  (void)blx__str_format(cache, sizeof cache, "%s/accel", m->state_dir);
  (void)blx__str_format(vcpu, sizeof vcpu, "%u", b->vcpus);
  (void)blx__str_format(mem, sizeof mem, "%u", b->memory_mib);
  (void)blx__str_format(user, sizeof user, "%u:%u", m->opt.vmm_uid, m->opt.vmm_gid);
  struct strings argv = {0};
  add(&argv, wrap);
  add_pair(&argv, "--out", flake);
  add_pair(&argv, "--name", "vm");
  add_pair(&argv, "--module", module);
  add_pair(&argv, "--kernel", m->opt.kernel_dir);
  add_pair(&argv, "--guest", m->opt.guest_path);
  add_pair(&argv, "--accel-cache", cache);
  add_pair(&argv, "--user", user);
  if (b->nixpkgs_ref) add_pair(&argv, "--nixpkgs", b->nixpkgs_ref);
  if (b->microvm_ref) add_pair(&argv, "--microvm", b->microvm_ref);
  if (b->vcpus) add_pair(&argv, "--vcpu", vcpu);
  if (b->memory_mib) add_pair(&argv, "--mem", mem);
  spawn(b, &argv, VM_WRAP_DEADLINE_MS);
  blx__failpoint(BLX__FAILPOINT_BUILD_WRAP);
}

/* Nix writes it last when it makes a store's database. */
static bool store_is_made(const char *store) {
  char path[PATH_MAX];
  struct stat st;
  return blx__str_format(path, sizeof path, "%s/var/nix/db/schema", store) && stat(path, &st) == 0 && st.st_size > 0;
}

static void spawn_nix(struct vm_build *b) {
  const struct microvm *m = b->in->m;
  char current[PATH_MAX];
  char lock[PATH_MAX];
  struct strings argv = {0};
  /* Nix 2.8 may find the schema of a store damaged that another process is just making: nodes that share one take
   * turns until it is there. Not longer, or a build that hangs would hold up the others' too. */
  if (m->opt.nix_store_dir && !store_is_made(m->opt.nix_store_dir)) {
    (void)blx__str_format(lock, sizeof lock, "%s/build.lock", m->opt.nix_store_dir);
    add(&argv, "flock");
    add_pair(&argv, "--no-fork", lock);
  }
  add(&argv, m->opt.nix_path ? m->opt.nix_path : "nix");
  add(&argv, "build");
  add(&argv, "--no-write-lock-file");
  add_pair(&argv, "--out-link", vm_path(b->in, "current", current));
  add(&argv, b->ref);
  spawn(b, &argv, m->opt.build_deadline_ms ? m->opt.build_deadline_ms : VM_BUILD_DEADLINE_MS);
  blx__failpoint(BLX__FAILPOINT_BUILD_NIX);
}

/* What follows the step that has just ended. After a failure only the cleaning is left. */
static void next_step(struct vm_build *b) {
  bool failed = b->rc.code != 0 || b->cancelled;
  if (b->cancelled && b->rc.code == 0) b->rc = (blx__rc){BLX_E_CANCELLED};
  switch (b->step) {
  case STEP_WAITING:
    b->step = STEP_FILES;
    step_on_worker(b, files_work);
    return;
  case STEP_FILES:
    if (!failed && b->has_config) {
      b->step = STEP_WRAP;
      spawn_wrap(b);
      return;
    }
    __attribute__((fallthrough));
  case STEP_WRAP:
    if (!failed) {
      b->step = STEP_NIX;
      spawn_nix(b);
      return;
    }
    __attribute__((fallthrough));
  case STEP_NIX:
    b->step = STEP_CLEAN;
    step_on_worker(b, clean_work);
    return;
  case STEP_CLEAN: return;
  }
}

/* ---- the beginning */

/* Percent-encode a path for a flake's URL. */
static bool encode(const char *path, char *out, size_t size) {
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  for (; *path; path++) {
    unsigned char c = (unsigned char)*path;
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("/._-", c);
    if (n + 4 > size) return false;
    if (plain) {
      out[n++] = (char)c;
      continue;
    }
    out[n++] = '%';
    out[n++] = hex[c >> 4];
    out[n++] = hex[c & 15];
  }
  out[n] = '\0';
  return true;
}

static blx__rc flake_ref(struct vm_build *b, const char *flake, blx_error *err) {
  BLX__TRY(blx__vm_flake_check(flake, err));
  const char *hash = strchr(flake, '#');
  if (!blx__str_format(b->ref, sizeof b->ref, "%.*s#nixosConfigurations.\"%s\".config.microvm.declaredRunner",
                       (int)(hash - flake), flake, hash + 1))
    return blx__fail(err, BLX_E_INVALID, origin, "the flake's reference is longer than %d bytes", FLAKE_MAX - 64);
  return BLX__OK;
}

/* The cluster's wins over this node's own. */
static bool keep_ref(char **to, const char *told, const char *own) {
  const char *ref = told ? told : own;
  *to = ref ? strdup(ref) : NULL;
  return !ref || *to;
}

static blx__rc config_ref(struct vm_build *b, const struct blx__vm_desc *desc, blx_error *err) {
  char encoded[FLAKE_MAX];
  const struct microvm *m = b->in->m;
  if (!m->opt.runner_dir || !m->opt.kernel_dir || !m->opt.guest_path)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "this node has no runner flake for module files: give it one, or create the VM with --flake");
  if (desc->config_len == 0 || desc->config_len > BLX__VM_CONFIG_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "the module has %zu bytes; 1 to %d are allowed", desc->config_len,
                     BLX__VM_CONFIG_MAX);
  b->has_config = true;
  if (!keep_ref(&b->nixpkgs_ref, desc->nixpkgs_ref, m->opt.nixpkgs_ref) ||
      !keep_ref(&b->microvm_ref, desc->microvm_ref, m->opt.microvm_ref))
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a flake reference");
  blx__buf_init(&b->config, BLX__VM_CONFIG_MAX);
  if (!blx__buf_add(&b->config, desc->config, desc->config_len))
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for the module");
  if (!encode(b->work, encoded, sizeof encoded) ||
      !blx__str_format(b->ref, sizeof b->ref, "path:%s/flake#nixosConfigurations.\"vm\".config.microvm.declaredRunner",
                       encoded))
    return blx__fail(err, BLX_E_INVALID, origin, "the path %.200s is too long", b->work);
  return BLX__OK;
}

static void gone(void *arg) {
  finish(arg);
}

blx__rc vm_build_begin(struct vm_instance *in, const struct blx__vm_desc *desc, blx_error *err) {
  struct microvm *m = in->m;
  BLX__ASSERT(!in->build);
  struct vm_build *b = calloc(1, sizeof *b);
  if (!b) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a build");
  b->in = in;
  b->vcpus = desc->vcpus;
  b->memory_mib = desc->memory_mib;
  blx__list_init(&b->link);
  blx__defer_init(&b->gone, gone, b);
  blx__buf_init(&b->config, BLX__VM_CONFIG_MAX);
  bool fits = blx__str_format(b->work, sizeof b->work, "%s/builds/%s", m->state_dir, in->id);
  BLX__ASSERT(fits);
  blx__rc rc = desc->flake && desc->flake[0] ? flake_ref(b, desc->flake, err) : config_ref(b, desc, err);
  if (rc.code != 0) {
    build_free(b);
    return rc;
  }
  in->build = b;
  in->holds++;
  m->jobs++;
  blx__list_push(&m->builds, &b->link);
  start_first(m);
  return BLX__OK;
}

void vm_build_cancel(struct vm_instance *in) {
  struct vm_build *b = in->build;
  if (!b || b->cancelled) return;
  b->cancelled = true;
  if (b->process) blx__process_kill(b->process, SIGTERM);
  if (b->step != STEP_WAITING) return;
  /* Its turn may be ten minutes away, and it has nothing to clean. */
  b->step = STEP_CLEAN;
  blx__loop_defer(in->m->loop, &b->gone);
}

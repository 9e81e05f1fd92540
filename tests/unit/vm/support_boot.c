#include "support_boot.h"

#include "io/file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct boot_paths boot;
uint32_t boot_build_deadline_ms;
static char missing[256];
const char boot_module[] = "{ microvm = { hypervisor = \"qemu\"; vcpu = 1; mem = 128; };\n"
                           "  networking.hostName = \"hello\"; }\n";

static bool find(const char *what, const char *folder, const char *path, char out[PATH_MAX]) {
  char name[PATH_MAX];
  if (folder && blx__str_format(name, sizeof name, "%s/%s", folder, path) && realpath(name, out)) return true;
  if (!folder && realpath(path, out)) return true;
  (void)blx__str_format(missing, sizeof missing, "%s is missing", what);
  return false;
}

bool boot_program(const char *name, char out[PATH_MAX]) {
  char self[PATH_MAX], folder[PATH_MAX + 16];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return false;
  self[n] = '\0';
  *strrchr(self, '/') = '\0';
  (void)blx__str_format(folder, sizeof folder, "%s/../../../bin", self);
  if (find(name, folder, name, out)) return true;
  const char *build = getenv("BLX_BUILD");
  (void)blx__str_format(folder, sizeof folder, "%s/bin", build ? build : "build/release");
  return find(name, folder, name, out) || find(name, "build/release/bin", name, out);
}

static bool equipped(void) {
  char ignored[PATH_MAX];
  if (geteuid() != 0) {
    (void)blx__str_copy(missing, sizeof missing, "only root may set limits and build");
    return false;
  }
  return find("nix", NULL, "/usr/bin/nix", ignored) && find("QEMU", NULL, "/usr/bin/qemu-system-x86_64", ignored) &&
         find("busybox", NULL, "/bin/busybox", ignored) && find("cpio", NULL, "/usr/bin/cpio", ignored) &&
         find("the guests' kernel (make deps)", NULL, "build/deps/kernel", boot.kernel) &&
         find("the runner flake", NULL, "nix/debian-runner", boot.runner) && boot_program("blixard-shim", boot.shim) &&
         boot_program("blixard-guest", boot.guest);
}

void boot_open(struct bench *b) {
  char tag[32]; /* another test at the same time has other cgroups, or each would take the other's guests for its own */
  bench_open(b);
  (void)blx__str_format(tag, sizeof tag, "blixard-unit-%d", getpid());
  struct blx__vm_options o = {.state_dir = boot.dir,
                              .host_tag = tag,
                              .shim_path = boot.shim,
                              .runner_dir = boot.runner,
                              .kernel_dir = boot.kernel,
                              .guest_path = boot.guest,
                              .nix_store_dir = boot.store,
                              .vmm_uid = 65534,
                              .vmm_gid = 65534,
                              .build_deadline_ms = boot_build_deadline_ms,
                              .on_event = bench_event,
                              .user = b};
  blx_error err;
  ck_assert_msg(blx__vm_microvm_open(b->loop, &o, &b->driver, &err).code == 0, "%s", err.message);
}

struct blx__vm_desc boot_desc(const char *name, uint64_t uid) {
  return (struct blx__vm_desc){.key = {.instance = name, .uid = uid, .epoch = uid + 40},
                               .vcpus = 1,
                               .memory_mib = 128,
                               .hypervisor = "qemu",
                               .config = (const uint8_t *)boot_module,
                               .config_len = strlen(boot_module),
                               .config_name = "hello.nix"};
}

int boot_main(const char *name, const TTest *const *tests, size_t count) {
  if (!equipped()) {
    printf("SKIP: no guest can be booted: %s\n", missing);
    return 77;
  }
  char template[] = "/tmp/blixard-boot-XXXXXX";
  if (!mkdtemp(template) || chmod(template, 0755) != 0) return 1;
  (void)blx__str_copy(boot.dir, sizeof boot.dir, template);
  (void)blx__str_format(boot.store, sizeof boot.store, "%s/nix", template);
  Suite *suite = suite_create(name);
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 300);
  for (size_t i = 0; i < count; i++) tcase_add_test(tcase, tests[i]);
  suite_add_tcase(suite, tcase);
  SRunner *runner_of_suite = srunner_create(suite);
  srunner_run_all(runner_of_suite, CK_NORMAL);
  int failed = srunner_ntests_failed(runner_of_suite);
  srunner_free(runner_of_suite);
  if (blx__dir_remove_tree(boot.dir, NULL).code != 0) failed++;
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

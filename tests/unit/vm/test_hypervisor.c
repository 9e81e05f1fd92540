#include "../harness.h"

#include "vm/driver.h"

#include <string.h>

START_TEST(flakes__that_no_node_could_build_are_refused_before_anything_is_made) {
  static const char *const bad[] = {"",      "noname",      "#x",     "x#",      "-rf#x",
                                    "./x#y", ".#x",         "x#a b",  "x#$(id)", "x#a.b",
                                    "x#a#b", "path:/a b#x", "a\"b#x", "a\nb#x",  "--option#x"};
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    blx_error err = {0};
    ck_assert_msg(blx__vm_flake_check(bad[i], &err).code == BLX_E_INVALID, "%s", bad[i]);
    ck_assert_msg(strlen(err.message) > 20, "%s", bad[i]);
  }
  static const char *const good[] = {"path:/srv/vms#web", "github:astro/microvm.nix#qemu-example", "/srv/vms#web_1",
                                     "git+file:///srv/x?ref=main#a-b", "path:/a%20b#x"};
  for (size_t i = 0; i < BLX__COUNT(good); i++) {
    blx_error err = {0};
    ck_assert_msg(blx__vm_flake_check(good[i], &err).code == 0, "%s: %s", good[i], err.message);
  }
}
END_TEST

START_TEST(hypervisors__that_are_not_driven_or_cannot_take_the_size_say_so) {
  blx_error err;
  ck_assert_int_eq(blx__vm_hypervisor_check("qemu", 1, 128, &err).code, 0);
  ck_assert_int_eq(blx__vm_hypervisor_check(NULL, 1, 128, &err).code, 0);
  ck_assert_int_eq(blx__vm_hypervisor_check("qemu", 1, 2048, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__vm_hypervisor_check("cloud_hypervisor", 1, 128, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_int_eq(blx__vm_hypervisor_check("vmware", 1, 128, &err).code, BLX_E_INVALID);
}
END_TEST

BLX_TEST_MAIN("vm/hypervisor", flakes__that_no_node_could_build_are_refused_before_anything_is_made,
              hypervisors__that_are_not_driven_or_cannot_take_the_size_say_so)

/* Backups, restores and recoveries through the public functions. */
#include "support.h"

#include "io/file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VMS = 1500 };

static char dir[64], file[96], data[96];

static void dir_make(void) {
  ck_assert(blx__str_copy(dir, sizeof dir, "/tmp/blx-offline-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert(blx__str_format(file, sizeof file, "%s/backup", dir));
  ck_assert(blx__str_format(data, sizeof data, "%s/data", dir));
}

static void dir_remove(void) {
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

static void create(blx_client *c, const char *name) {
  struct blx_vm_create_request r = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm *vm = NULL;
  blx_error why = {0};
  spec.name = name;
  spec.flake = "path:/nothing#vm";
  r.spec = &spec;
  r.stopped = 1;
  ck_assert_msg(blx_vm_create(c, &r, &vm, &why) == 0, "%s", why.message);
  blx_vm_free(vm);
}

static size_t vms_of(blx_client *c) {
  const struct blx_vm_list_request r = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  blx_error why = {0};
  for (int i = 0; i < 200; i++) { /* until it leads */
    if (blx_vm_list_get(c, &r, &list, &why) == 0) break;
    usleep(50000);
  }
  ck_assert_msg(list != NULL, "%s", why.message);
  size_t n = list->n_vms;
  blx_vm_list_free(list);
  return n;
}

START_TEST(a_saved_cluster__is_restored_as_another_one_with_all_its_vms) {
  blx_node *node = api_open_node(BLX_COMPLETIONS_THREAD);
  blx_client *c = api_client_of(node);
  struct blx_backup_info *saved = NULL, *read = NULL;
  blx_error why = {0};
  struct stat st;
  char id[33], name[32];
  dir_make();
  for (int i = 0; i < VMS; i++) {
    ck_assert(blx__str_format(name, sizeof name, "vm-%d", i));
    create(c, name);
  }
  ck_assert_msg(blx_cluster_backup_save(c, file, 0, 0, &saved, &why) == 0, "%s", why.message);
  ck_assert_uint_eq(saved->vms, VMS);
  ck_assert_uint_gt(saved->bytes, 3 * 96 * 1024); /* in several parts */
  ck_assert_int_eq(stat(file, &st), 0);
  ck_assert_uint_eq((uint64_t)st.st_size, saved->bytes);
  REFUSED(BLX_E_EXISTS, blx_cluster_backup_save(c, file, 0, 0, &read, &err));
  ck_assert_msg(blx_backup_inspect(file, &read, &why) == 0, "%s", why.message);
  ck_assert_str_eq(read->sha256, saved->sha256);
  ck_assert_uint_eq(read->records, saved->records);

  struct blx_restore_options o = BLX_RESTORE_OPTIONS_INIT;
  o.path = file;
  o.data_dir = data;
  o.name = "b";
  ck_assert_msg(blx_backup_restore(&o, id, NULL, &why) == 0, "%s", why.message);
  ck_assert_str_ne(id, saved->cluster_id);
  struct blx_node_options n = BLX_NODE_OPTIONS_INIT;
  blx_node *other = NULL;
  n.data_dir = data;
  n.name = "b";
  n.simulate_vms = 1;
  n.heartbeat_ms = 50;
  n.election_ms = 500;
  ck_assert_msg(blx_node_open(&n, &other, &why) == 0, "%s", why.message);
  blx_client *d = api_client_of(other);
  ck_assert_uint_eq(vms_of(d), VMS);
  create(d, "one-more");
  blx_client_close(d);
  blx_node_close(other);
  blx_backup_info_free(saved);
  blx_backup_info_free(read);
  dir_remove();
  api_close(node, c);
}
END_TEST

START_TEST(a_recovery__looks_only_where_no_node_runs_and_is_not_for_who_is_alone) {
  blx_node *node = api_open_node(BLX_COMPLETIONS_THREAD);
  blx_client *c = api_client_of(node);
  struct blx_recover_options o = BLX_RECOVER_OPTIONS_INIT;
  struct blx_recover_member *m = NULL;
  struct blx_recover_plan *plan = NULL;
  blx_error why = {0};
  char own[128];
  ck_assert_uint_eq(vms_of(c), 0);
  ck_assert(blx__str_copy(own, sizeof own, blx_node_address(node) + strlen("unix:")));
  *strrchr(own, '/') = '\0';
  REFUSED(BLX_E_BUSY, blx_recover_inspect(own, &m, &err));
  blx_client_close(c);
  blx_node_close(node);
  ck_assert_msg(blx_recover_inspect(own, &m, &why) == 0, "%s", why.message);
  ck_assert(m->uid == 1 && m->n_servers == 1 && m->servers[0]->voter && m->voter);
  ck_assert_str_eq(m->name, "a");
  o.data_dir = own;
  ck_assert_msg(blx_recover(&o, &plan, &why) == 0, "%s", why.message);
  ck_assert(plan->obstacle_code == BLX_E_CONFLICT && strstr(plan->obstacle, "only one already") && !plan->done);
  blx_recover_plan_free(plan);
  o.yes_cluster_id = m->cluster_id;
  REFUSED(BLX_E_CONFLICT, blx_recover(&o, &plan, &err));
  const struct blx_recover_member *others[] = {m};
  o.others = others;
  o.n_others = 1;
  REFUSED(BLX_E_INVALID, blx_recover(&o, &plan, &err)); /* itself */
  m->cluster_id = NULL;
  REFUSED(BLX_E_INVALID, blx_recover(&o, &plan, &err));
  blx_recover_member_free(m);
  api_close(NULL, NULL);
}
END_TEST

START_TEST(null_and_nonsense__is_refused) {
  struct blx_backup_info *info = NULL;
  struct blx_recover_member *m = NULL;
  struct blx_recover_plan *plan = NULL;
  struct blx_restore_options r = BLX_RESTORE_OPTIONS_INIT;
  struct blx_recover_options o = BLX_RECOVER_OPTIONS_INIT;
  char id[33];
  dir_make();
  REFUSED(BLX_E_MISUSE, blx_cluster_backup_save(NULL, file, 0, 0, &info, &err));
  REFUSED(BLX_E_MISUSE, blx_backup_inspect(NULL, &info, &err));
  REFUSED(BLX_E_MISUSE, blx_backup_inspect(file, NULL, &err));
  REFUSED(BLX_E_NOT_FOUND, blx_backup_inspect(file, &info, &err));
  REFUSED(BLX_E_INVALID, blx_backup_inspect(dir, &info, &err));
  REFUSED(BLX_E_MISUSE, blx_backup_restore(NULL, id, &info, &err));
  REFUSED(BLX_E_INVALID, blx_backup_restore(&r, id, &info, &err));
  r.path = file;
  r.data_dir = data;
  r.name = "b";
  REFUSED(BLX_E_NOT_FOUND, blx_backup_restore(&r, id, &info, &err));
  r.struct_size = 3;
  REFUSED(BLX_E_MISUSE, blx_backup_restore(&r, id, &info, &err));
  REFUSED(BLX_E_MISUSE, blx_recover_inspect(NULL, &m, &err));
  REFUSED(BLX_E_INVALID, blx_recover_inspect("", &m, &err));
  REFUSED(BLX_E_NOT_FOUND, blx_recover_inspect(dir, &m, &err));
  REFUSED(BLX_E_MISUSE, blx_recover(NULL, &plan, &err));
  REFUSED(BLX_E_MISUSE, blx_recover(&o, &plan, &err));
  o.data_dir = dir;
  o.n_others = 1;
  REFUSED(BLX_E_INVALID, blx_recover(&o, &plan, &err));
  ck_assert_int_ne(access(data, F_OK), 0);
  blx_backup_info_free(NULL);
  blx_recover_member_free(NULL);
  blx_recover_plan_free(NULL);
  blx_node *node = api_open_node(BLX_COMPLETIONS_THREAD);
  blx_client *c = api_client_of(node);
  REFUSED(BLX_E_MISUSE, blx_cluster_backup_save(c, file, 2, 0, &info, &err));
  REFUSED(BLX_E_INVALID, blx_cluster_backup_save(c, file, 0, 3600001, &info, &err));
  REFUSED(BLX_E_INVALID, blx_cluster_backup_save(c, "", 0, 0, &info, &err));
  blx_node_close(node);
  REFUSED(BLX_E_UNAVAILABLE, blx_cluster_backup_save(c, file, 0, 0, &info, &err));
  api_close(NULL, c);
  dir_remove();
}
END_TEST

BLX_TEST_MAIN("api/offline", a_saved_cluster__is_restored_as_another_one_with_all_its_vms,
              a_recovery__looks_only_where_no_node_runs_and_is_not_for_who_is_alone, null_and_nonsense__is_refused)

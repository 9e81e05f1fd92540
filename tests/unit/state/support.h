/* A state under test, and one line per operation. */
#ifndef BLX_TESTS_STATE_SUPPORT_H
#define BLX_TESTS_STATE_SUPPORT_H

#include "schema/codec.h"
#include "state/state.h"
#include <check.h>

struct t {
  struct blx__state *st;
  uint64_t index, time_ms;
  struct blx__arena arena;     /* of the last answer */
  struct blx_op_result result; /* of the last operation */
  const char *request_id, *tenant;
  bool by_tenant;     /* what t_assign() says */
  const char *digest; /* of the request, 32 bytes at most */
};

void t_open(struct t *t, uint32_t keys_max);
void t_open_cluster(struct t *t, unsigned nodes); /* initialised, nodes node1.. with 8 vCPUs and 1024 MiB each */
void t_close(struct t *t);

/* Apply in an entry of its own; returns the code. */
int t_apply(struct t *t, const struct blx_op *op);
int t_apply_bytes(struct t *t, const void *bytes, size_t n);

int t_init(struct t *t);
int t_join(struct t *t, const char *name, uint32_t vcpus, uint64_t memory_mib);
int t_cordon(struct t *t, const char *name, bool cordoned);
int t_config(struct t *t, const char *text, char sha256[65]);
struct blx_vm_spec t_spec(const char *name, uint32_t replicas);
int t_create(struct t *t, const struct blx_vm_spec *spec, int32_t desired);
int t_create_named(struct t *t, const char *name, uint32_t replicas);
/* Wanted running, of that size. */
int t_create_sized(struct t *t, const char *name, uint32_t replicas, uint32_t memory_mib, uint32_t priority);
int t_desire(struct t *t, const char *name, int32_t desired);
int t_delete(struct t *t, const char *name);
int t_restart(struct t *t, const char *name, int32_t ending);
int t_pause(struct t *t, const char *name, bool paused);
int t_kill(struct t *t, const char *name);
int t_scale(struct t *t, const char *name, uint32_t replicas);
int t_assign(struct t *t, const char *instance, uint64_t node_uid); /* with the epoch it has */
int t_explain(struct t *t, const char *instance, int32_t code, const char *text);

/* One report of the instance's node, in its epoch, with the next sequence number. */
struct t_seen {
  int32_t phase, code;
  const char *text;
  bool dead, gone, has_exit, paused, local_data;
  int32_t exit_status;
  uint64_t era;
  bool data_known;
};
int t_report(struct t *t, const char *instance, struct t_seen seen);
/* It is given the node, and reported to run there; both are accepted. */
void t_run(struct t *t, const char *instance, uint64_t node_uid);
int t_report_as(struct t *t, uint64_t node_uid, uint64_t instance_uid, uint64_t epoch, uint64_t seq,
                struct t_seen seen);

/* As if the leader did not hear from the node @silent_uid; 0: it hears from all. */
int t_delete_force(struct t *t, const char *name, uint64_t silent_uid);
/* "zone=b disk-": sets and takes away, at most 8 of each. */
int t_label(struct t *t, const char *node, const char *changes);

int t_placement(struct t *t, const struct blx_placement_settings *settings);
/* For @instance, with its epoch, on a node; of the instances named, up to a NULL. */
int t_preempt(struct t *t, const char *instance, uint64_t node_uid, const char *const *victims);
int t_taint(struct t *t, const char *node, const char *key, const char *value, int32_t effect);
int t_untaint(struct t *t, const char *node, const char *key);
int t_quota(struct t *t, const struct blx_quota *quota);
int t_quota_remove(struct t *t, const char *tenant);

/* A VM with that policy, wanted running, of one replica. */
int t_create_ha(struct t *t, const char *name, int32_t ha);
/* The node says of itself in @incarnation that it can have highly available instances, those with auto too. */
int t_register_ha(struct t *t, uint64_t uid, uint64_t incarnation);
/* And that its agent looks for disks. */
int t_register_disks(struct t *t, uint64_t uid, uint64_t incarnation);
int t_return(struct t *t, uint64_t uid, uint64_t incarnation);
int t_fence_begin(struct t *t, uint64_t uid, uint64_t incarnation, bool by_operator);
int t_fence_done(struct t *t, uint64_t uid, uint64_t incarnation);
int t_disarm(struct t *t, uint64_t for_ms);
int t_fence_command(struct t *t, const char *node, const char *command);
int t_remove(struct t *t, const char *node);

const struct blx_instance *t_instance(const struct t *t, const char *name);
/* What its node is told about the instance; in t->arena. NULL: nothing. */
const struct blx_assignment *t_told(struct t *t, const char *instance);
const struct blx_vm *t_vm(const struct t *t, const char *name);

/* Recompute every index from the records and compare. Fails the test that calls it. */
void t_check_rebuilt(const struct t *t);

/* And no node has more than its capacity, which holds while no node comes back smaller. */
void t_check_indexes(const struct t *t);

#define T_SHALL(expected, call)                                                                             \
  do {                                                                                                      \
    int t_code_ = (call);                                                                                   \
    ck_assert_msg(t_code_ == (expected), "code %d: %s", t_code_, t.result.message ? t.result.message : ""); \
  } while (0)
#define T_SAYS(text_expected) ck_assert_str_eq(t.result.message, text_expected)

#endif

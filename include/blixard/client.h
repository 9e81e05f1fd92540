/* A connection to a cluster, and the calls about the cluster itself. VMs: blixard/vm.h; events: blixard/watch.h.
 *
 * Every verb comes twice. The blocking one returns when the answer is there. The _async one returns at once; its
 * completion fires exactly once, never before the call returned, where blixard/completions.h says. The result given to
 * a completion is the completion's to free. When submitting fails (the call does not return 0) there is no completion.
 * Every call, blocking or not, ends by the client's timeout with BLX_E_TIMEOUT at the latest.
 *
 * Handles (blx_node, blx_client, blx_watch, blx_vm_logs, blx_vm_exec, blx_consensus, blx_placement, and those of
 * blixard/sys/vm_driver.h) are no pointers to memory: each call looks theirs up. NULL, a handle that was closed, of
 * another kind, of another process (after a fork) or anything else is BLX_E_MISUSE, however long ago it was valid; a
 * close then does nothing. At most 65536 are open in a process; one more is BLX_E_BUSY. A close may come while other
 * threads are in calls of the handle: these end, with BLX_E_CANCELLED if they were waiting, and the close waits for
 * them. What is not a handle is plain memory, as ever in C: a result (struct blx_vm, text) that is used after, or given
 * twice to, its _free is an error nobody can report. */
#ifndef BLIXARD_CLIENT_H
#define BLIXARD_CLIENT_H

#include <blixard/completions.h>
#include <blixard/error.h>
#include <blixard/log.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blx_client blx_client;

struct blx_client_options {
  size_t struct_size;
  const char *const *addresses; /* "unix:PATH" or a path; tried in turn; 1..16 */
  size_t n_addresses;
  uint32_t timeout_ms; /* 0: 30000; 1..3600000: how long one call may take */
  blx_log_fn log;      /* NULL: silent; called on the client's thread */
  void *log_user;
  int32_t log_level;   /* BLX_LOG_* */
  uint32_t reserved;   /* 0: older programs have padding here */
  int32_t completions; /* BLX_COMPLETIONS_*; 0: on the client's thread */
  uint32_t reserved_2; /* 0: older programs have padding here */
  const char *reason;  /* why this client changes what it changes, for the audit log; as blx_client_set_reason() */
  const char *tenant;  /* that its calls are of; as blx_client_set_tenant() */
};

#define BLX_CLIENT_OPTIONS_INIT BLX_INIT_(struct blx_client_options)
BLX_INIT_FN_(client_options)

/* Open a client. No connection is made yet: the first call connects, and says UNAVAILABLE when nobody answers.
 * @options  borrowed for the call
 * @out      close with blx_client_close(); untouched on error.
 * Errors: BLX_E_INVALID (names the option), BLX_E_UNSUPPORTED (the struct is of a newer library), BLX_E_BUSY (65536
 * handles), BLX_E_NOMEM, BLX_E_IO (no descriptors left), BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_client_open(const struct blx_client_options *options, blx_client **out, blx_error *reterr);

/* Close a client: its calls complete first, those in flight with BLX_E_CANCELLED (blixard/completions.h). Watches and
 * log readers of it that are still open say BLX_E_MISUSE from then on, and are closed as ever. NULL is allowed, and so
 * is a second time. From a completion of this client, or in a child of fork, nothing happens. Thread: any but where its
 * completions run. Since 0.1. */
BLX_API void blx_client_close(blx_client *client);

/* Why what is asked for from now on is asked for: kept in the audit log with each change that a later call of this
 * client makes, until another reason is set. A program whose threads have reasons of their own opens a client for each.
 * @reason  one line of at most 256 bytes without control characters, copied; NULL or "": none
 * Errors: BLX_E_INVALID (the reason stays as it was), BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_client_set_reason(blx_client *client, const char *reason, blx_error *reterr);

/* The tenant of calls that name none, from now on: of requests whose tenant is empty, and of blx_vm_wait(). What names
 * one is of that one; blx_quota_get() and blx_audit_list_get() without one are of all. A tenant is there as soon as it
 * has a VM or a quota. It tells names and quotas apart and gives no rights: whoever may connect may name any.
 * @tenant  a name of at most 56 bytes, copied; NULL or "": default
 * Errors: BLX_E_INVALID (the tenant stays as it was), BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_client_set_tenant(blx_client *client, const char *tenant, blx_error *reterr);

/* The descriptor that is readable while completions wait. It stays the library's: poll it, do not close it; it is valid
 * until the client is closed (a node's client: until the last of the node and its clients is).
 * Returns it (0 or more). Errors: BLX_E_MISUSE (not opened with BLX_COMPLETIONS_DISPATCH). Thread: any. Since 0.1. */
BLX_API int blx_client_fd(blx_client *client, blx_error *reterr);

/* Run completions that wait, on this thread. It does not block.
 * @max  at most so many, 0: those that wait now; what they add waits for the next dispatch
 * Returns how many ran (0 or more). Errors: BLX_E_MISUSE (from a completion, while another thread dispatches, or not
 * opened with BLX_COMPLETIONS_DISPATCH). Thread: any, one at a time. Since 0.1. */
BLX_API int blx_client_dispatch(blx_client *client, uint32_t max, blx_error *reterr);

/* @err is NULL on success, else @result is. Both functions: where completions run; @err is valid during the call, the
 * result is to be freed by the function that is given it. */
typedef void (*blx_cluster_status_fn)(void *user, const blx_error *err, struct blx_cluster_status *result);
typedef void (*blx_node_list_fn)(void *user, const blx_error *err, struct blx_node_list *result);
typedef void (*blx_node_detail_fn)(void *user, const blx_error *err, struct blx_node_detail *result);
typedef void (*blx_node_info_fn)(void *user, const blx_error *err, struct blx_node_info *result);
typedef void (*blx_settings_detail_fn)(void *user, const blx_error *err, struct blx_settings_detail *result);
typedef void (*blx_quota_fn)(void *user, const blx_error *err, struct blx_quota *result);
typedef void (*blx_quota_list_fn)(void *user, const blx_error *err, struct blx_quota_list *result);

/* Make a cluster of the daemon that is asked.
 * @request  name: for people, 0..56 characters
 * @out      the new cluster; free with blx_cluster_status_free()
 * Errors: BLX_E_CONFLICT (it is in a cluster already), BLX_E_INVALID, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT; those of every
 * call: BLX_E_BUSY (BLX_CLIENT_CALLS_MAX are not completed), BLX_E_CANCELLED (the client was closed), BLX_E_FATAL (the
 * node stopped itself), BLX_E_NOMEM, BLX_E_MISUSE. Thread: any; blocking: any but where completions run. Since 0.1. */
BLX_API int blx_cluster_init(blx_client *client, const struct blx_cluster_init_request *request,
                             struct blx_cluster_status **out, blx_error *reterr);
BLX_API int blx_cluster_init_async(blx_client *client, const struct blx_cluster_init_request *request,
                                   blx_cluster_status_fn done, void *user, blx_error *reterr);

/* Bring the daemon that is asked and the one at request->address together: the one that is in no cluster joins the
 * other's, as request->role says: a server, which votes, or a worker, which runs instances alone. Errors:
 * BLX_E_CONFLICT (both, or neither, are in a cluster), BLX_E_EXISTS (the node name is taken), BLX_E_UNAVAILABLE,
 * BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_cluster_join(blx_client *client, const struct blx_cluster_join_request *request,
                             struct blx_cluster_status **out, blx_error *reterr);
BLX_API int blx_cluster_join_async(blx_client *client, const struct blx_cluster_join_request *request,
                                   blx_cluster_status_fn done, void *user, blx_error *reterr);

/* How the cluster is. A daemon outside any cluster answers with an empty id.
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_cluster_status_get(blx_client *client, const struct blx_cluster_status_request *request,
                                   struct blx_cluster_status **out, blx_error *reterr);
BLX_API int blx_cluster_status_get_async(blx_client *client, const struct blx_cluster_status_request *request,
                                         blx_cluster_status_fn done, void *user, blx_error *reterr);

/* Free a result. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_cluster_status_free(struct blx_cluster_status *status);

/* The nodes by name.
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_node_list_get(blx_client *client, const struct blx_node_list_request *request,
                              struct blx_node_list **out, blx_error *reterr);
BLX_API int blx_node_list_get_async(blx_client *client, const struct blx_node_list_request *request,
                                    blx_node_list_fn done, void *user, blx_error *reterr);

/* Free a result. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_node_list_free(struct blx_node_list *list);

/* One node: what it is, how it is and why, what is free, its instances, and what it must still remove.
 * @request  name required, 1..63 bytes; stale
 * @out      free with blx_node_detail_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND, BLX_E_INVALID, BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_node_get(blx_client *client, const struct blx_node_name_request *request, struct blx_node_detail **out,
                         blx_error *reterr);
BLX_API int blx_node_get_async(blx_client *client, const struct blx_node_name_request *request, blx_node_detail_fn done,
                               void *user, blx_error *reterr);
BLX_API void blx_node_detail_free(struct blx_node_detail *detail);

/* Place nothing new on a node, until blx_node_uncordon(). What runs there runs on; what ends there and shall run is
 * started elsewhere. A node that is cordoned already stays so, with the new reason if there is one.
 * @request  name required; reason: for people, 0..256 bytes; if_revision
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND, BLX_E_STALE (if_revision), BLX_E_INVALID, BLX_E_CONFLICT (the request_id was used for
 * another request), BLX_E_NO_LEADER (retry), BLX_E_TIMEOUT (outcome unknown: send the same request_id again).
 * Thread: any. Since 0.1. */
BLX_API int blx_node_cordon(blx_client *client, const struct blx_node_cordon_request *request,
                            struct blx_node_info **out, blx_error *reterr);
BLX_API int blx_node_cordon_async(blx_client *client, const struct blx_node_cordon_request *request,
                                  blx_node_info_fn done, void *user, blx_error *reterr);
/* Errors and @out: as blx_node_cordon(). Thread: any. Since 0.1. */
BLX_API int blx_node_uncordon(blx_client *client, const struct blx_node_name_request *request,
                              struct blx_node_info **out, blx_error *reterr);
BLX_API int blx_node_uncordon_async(blx_client *client, const struct blx_node_name_request *request,
                                    blx_node_info_fn done, void *user, blx_error *reterr);

/* Set labels on a node, and take such away. The labels that a node carries are those set here, and of those its daemon
 * was started with (blx_node_options.labels) the ones with other keys: a label set here wins and stays when the daemon
 * restarts; the daemon's follow each of its starts. Taking a set label away shows the daemon's of that key again.
 * @request  name required; set: at most 64, each in place of the one with its key; unset: keys, at most 64; a key that
 *           no label has is no error
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: as blx_node_cordon(); BLX_E_CONFLICT also for a label to unset that the daemon gives, BLX_E_QUOTA (more than
 * 64 would be set). Thread: any. Since 0.1. */
BLX_API int blx_node_label(blx_client *client, const struct blx_node_label_request *request, struct blx_node_info **out,
                           blx_error *reterr);
BLX_API int blx_node_label_async(blx_client *client, const struct blx_node_label_request *request,
                                 blx_node_info_fn done, void *user, blx_error *reterr);
/* Set taints on a node, which keep away what does not tolerate them, and take such away. What runs there runs on.
 * @request  name required; set: at most 16, each in place of the one with its key and effect; unset: keys, at most 16,
 *           whatever their effect; a key that no taint has is no error
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: as blx_node_cordon(); BLX_E_QUOTA (it would have more than 16). Thread: any. Since 0.1. */
BLX_API int blx_node_taint(blx_client *client, const struct blx_node_taint_request *request, struct blx_node_info **out,
                           blx_error *reterr);
BLX_API int blx_node_taint_async(blx_client *client, const struct blx_node_taint_request *request,
                                 blx_node_info_fn done, void *user, blx_error *reterr);
BLX_API void blx_node_info_free(struct blx_node_info *node);

/* Say what a tenant may have, all of it: what is absent has no limit. A limit below what it has stops only what would
 * be more. With remove: no limits any more for quota->tenant.
 * @request  quota required; its used_* are of no meaning; if_revision: of the quota, which is the index of its last
 * change
 * @out      the quota with what the tenant has; free with blx_quota_free(); untouched on error
 * Errors: as blx_node_cordon(), but for BLX_E_NOT_FOUND; BLX_E_QUOTA (the cluster has as many tenants as it can).
 * Thread: any. Since 0.1. */
BLX_API int blx_quota_set(blx_client *client, const struct blx_quota_set_request *request, struct blx_quota **out,
                          blx_error *reterr);
BLX_API int blx_quota_set_async(blx_client *client, const struct blx_quota_set_request *request, blx_quota_fn done,
                                void *user, blx_error *reterr);
BLX_API void blx_quota_free(struct blx_quota *quota);

/* What tenants may have, and what they have: VMs and instances that are defined, running or not.
 * @request  tenant: only this one's; empty: of all that have a quota or a VM; stale
 * @out      by tenant, revision 0: it has no quota; free with blx_quota_list_free(); untouched on error
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_quota_get(blx_client *client, const struct blx_quota_get_request *request, struct blx_quota_list **out,
                          blx_error *reterr);
BLX_API int blx_quota_get_async(blx_client *client, const struct blx_quota_get_request *request, blx_quota_list_fn done,
                                void *user, blx_error *reterr);
BLX_API void blx_quota_list_free(struct blx_quota_list *list);

/* What holds for the whole cluster: leases, the flakes that modules are built with.
 * @out  free with blx_settings_detail_free(); untouched on error
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_settings_get(blx_client *client, const struct blx_settings_request *request,
                             struct blx_settings_detail **out, blx_error *reterr);
BLX_API int blx_settings_get_async(blx_client *client, const struct blx_settings_request *request,
                                   blx_settings_detail_fn done, void *user, blx_error *reterr);

/* Change them. Modules that are built from then on are built with the new flakes; what runs, or is being built, is not
 * touched.
 * @request  change: lease (what is 0 in it stays; NULL: all), nixpkgs_ref and microvm_ref (with has_...; pinned, or
 *           empty: what each daemon was started with); leases_of_ms (with has_...): 2000..400000, instead of a lease;
 *           placement: all of it (NULL: as it is)
 * @out      as they are now; free with blx_settings_detail_free(); untouched on error
 * Errors: BLX_E_INVALID (a number out of its range, lease settings that contradict each other, a reference that is not
 * pinned), BLX_E_STALE (if_revision), BLX_E_BUSY (leases were changed a moment ago: says when it can be done again),
 * and as blx_node_cordon(). Thread: any. Since 0.1. */
BLX_API int blx_settings_set(blx_client *client, const struct blx_settings_set_request *request,
                             struct blx_settings_detail **out, blx_error *reterr);
BLX_API int blx_settings_set_async(blx_client *client, const struct blx_settings_set_request *request,
                                   blx_settings_detail_fn done, void *user, blx_error *reterr);
BLX_API void blx_settings_detail_free(struct blx_settings_detail *detail);

/* Let another server lead: request->node, which must vote, or, without a name, any that does.
 * @out  the cluster as it is then; free with blx_cluster_status_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND (no such node), BLX_E_CONFLICT (it does not vote, or nobody else does), BLX_E_BUSY (the group
 * is being changed), BLX_E_TIMEOUT (it did not take over), BLX_E_NO_LEADER, BLX_E_UNAVAILABLE. Thread: any. Since 0.1.
 */
BLX_API int blx_cluster_transfer(blx_client *client, const struct blx_cluster_transfer_request *request,
                                 struct blx_cluster_status **out, blx_error *reterr);
BLX_API int blx_cluster_transfer_async(blx_client *client, const struct blx_cluster_transfer_request *request,
                                       blx_cluster_status_fn done, void *user, blx_error *reterr);

/* The node that is asked leaves its cluster: it is cordoned, hands over leadership and vote, and is removed. It stops
 * itself then (on_fatal, BLX_E_CORRUPT); its data directory is of no use any more and must be emptied.
 * @out  as of a daemon that is in no cluster; free with blx_cluster_status_free(); untouched on error
 * Errors: as blx_node_remove(). Thread: any. Since 0.1. */
BLX_API int blx_cluster_leave(blx_client *client, const struct blx_cluster_leave_request *request,
                              struct blx_cluster_status **out, blx_error *reterr);
BLX_API int blx_cluster_leave_async(blx_client *client, const struct blx_cluster_leave_request *request,
                                    blx_cluster_status_fn done, void *user, blx_error *reterr);

/* Take a node out of the cluster for good: one that is not heard from, or was fenced, and holds nothing that may run. A
 * server is replaced as a voter first, where another one can vote. Should it come back it is refused.
 * @request  name required; if_revision; leaves: 0, what a node sets that asks for its own removal
 * @out      the node as it was; free with blx_node_info_free(); untouched on error
 * Errors: BLX_E_CONFLICT (it is heard from; it is the only server; what ties it to the cluster), BLX_E_NOT_FOUND,
 * BLX_E_STALE (if_revision), BLX_E_BUSY (another one is being removed; this leader is new), BLX_E_NO_LEADER and
 * BLX_E_TIMEOUT (the same request goes on where it stopped). Thread: any. Since 0.1. */
BLX_API int blx_node_remove(blx_client *client, const struct blx_node_remove_request *request,
                            struct blx_node_info **out, blx_error *reterr);
BLX_API int blx_node_remove_async(blx_client *client, const struct blx_node_remove_request *request,
                                  blx_node_info_fn done, void *user, blx_error *reterr);

/* A message as JSON: one document, fields by their names in blixard.proto, zero values included.
 * @type  message name as in types.h without blx_ ("vm", "vm_list")
 * @out   NUL-terminated; free with blx_string_free()
 * Errors: BLX_E_INVALID (no such type, or text that is not UTF-8), BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_to_json(const char *type, const void *message, char **out, blx_error *reterr);

/* The same with a line for each value, two spaces a level, for people; no newline at the end. Since 0.1. */
BLX_API int blx_to_json_pretty(const char *type, const void *message, char **out, blx_error *reterr);

/* A message from JSON of at most 2 MiB, checked against the limits of its fields.
 * @out  free with blx_message_free(); untouched on error.
 * Errors: BLX_E_INVALID (names the field, the value and the bound), BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_from_json(const char *type, const char *json, size_t json_len, void **out, blx_error *reterr);

/* What the schema says of a message or an enum, as JSON.
 * @type  as for blx_to_json() ("vm_spec"), or an enum ("phase"); NULL: {"types": [{name, kind, doc}]} of all there are
 * @out   NUL-terminated; free with blx_string_free(). A message: {name, kind: "message", doc, fields: [{name, type,
 * doc, and where they apply of: "message" or "enum", unit, repeated, optional, elements_max, default, min and max: of a
 * number its bounds, of text its bytes}]}. An enum: {name, kind: "enum", doc, values: [{name, number, doc}]} Errors:
 * BLX_E_NOT_FOUND (no such type), BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_describe(const char *type, char **out, blx_error *reterr);

/* Free what the library gave. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_message_free(void *message);
BLX_API void blx_string_free(char *string);

#ifdef __cplusplus
}
#endif
#endif

/* The audit log: a record for each operation that changed the cluster or was refused, with who asked, from where, why,
 * and what came of it. Each record's hash covers the one before, so that a change is noticed. Every server keeps it, in
 * its data directory, within its limits of age and size (blx_node_options.audit_max_age_days, audit_max_size_mib). The
 * reason of a change is the client's: blx_client_options.reason, blx_client_set_reason(). See client.h for blocking and
 * _async calls. */
#ifndef BLIXARD_AUDIT_H
#define BLIXARD_AUDIT_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*blx_audit_list_fn)(void *user, const blx_error *err, struct blx_audit_list *result);
typedef void (*blx_audit_verdict_fn)(void *user, const blx_error *err, struct blx_audit_verdict *result);

/* Records of the audit log, in parts.
 * @request  what is wanted: since_ms, until_ms, principal, verb ("vm.create", or "vm" for all that begin so), object
 *           ("vm/web", or "web"), result ("ok", "refused", "CONFLICT"); from_seq and backward; limit 0..1000, 0: 100;
 *           denied: the requests that the member refused before they came to the log
 * @out      the records, and next_seq: to go on, ask again with from_seq = next_seq until that is 0. A part may be
 *           empty and not the last: one step looks at 20,000 records. Free with blx_audit_list_free(); untouched on
 *           error
 * Errors: BLX_E_INVALID, BLX_E_CORRUPT (a record cannot be read: verify says which), BLX_E_NO_LEADER, BLX_E_BUSY,
 * BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_audit_list_get(blx_client *client, const struct blx_audit_list_request *request,
                               struct blx_audit_list **out, blx_error *reterr);
BLX_API int blx_audit_list_get_async(blx_client *client, const struct blx_audit_list_request *request,
                                     blx_audit_list_fn done, void *user, blx_error *reterr);
BLX_API void blx_audit_list_free(struct blx_audit_list *list);

/* Recompute the chain of the member that is asked, all of it, and compare its end with the head in the cluster's state.
 * @request  denied: the chain of the requests that this member refused, instead
 * @out      ok, or the first bad record and what is wrong with it; what this member does not have. A chain that is
 *           broken is an answer, no error. Free with blx_audit_verdict_free(); untouched on error
 * Errors: BLX_E_CONFLICT (the daemon is in no cluster), BLX_E_BUSY, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any.
 * Since 0.1. */
BLX_API int blx_audit_verify(blx_client *client, const struct blx_audit_verify_request *request,
                             struct blx_audit_verdict **out, blx_error *reterr);
BLX_API int blx_audit_verify_async(blx_client *client, const struct blx_audit_verify_request *request,
                                   blx_audit_verdict_fn done, void *user, blx_error *reterr);
BLX_API void blx_audit_verdict_free(struct blx_audit_verdict *verdict);

#ifdef __cplusplus
}
#endif
#endif

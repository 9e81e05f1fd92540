/* A cluster whose servers are lost but for a few goes on with one of them. This is for the case that no majority of
 * them will ever come back: what a lost server had acknowledged and the survivor's log does not hold is lost. */
#ifndef BLIXARD_RECOVER_H
#define BLIXARD_RECOVER_H

#include <blixard/error.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Look at the data directory of a server that does not run; nothing is changed. Blocks.
 * @out  free with blx_recover_member_free(); untouched on error. As JSON (blx_to_json "recover_member") it can be
 *       carried to where it is compared
 * Errors: BLX_E_NOT_FOUND (no node is there), BLX_E_BUSY (a daemon has it open), BLX_E_CONFLICT (a worker's, or nothing
 * of a cluster is there yet), BLX_E_CORRUPT (as opening a node would say), BLX_E_UNSUPPORTED, BLX_E_DENIED, BLX_E_IO,
 * BLX_E_NOMEM, BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_recover_inspect(const char *data_dir, struct blx_recover_member **out, blx_error *reterr);

struct blx_recover_options {
  size_t struct_size;
  const char *data_dir;                           /* of the server that shall go on; required */
  const struct blx_recover_member *const *others; /* what other survivors hold, at most 64; each should be given */
  size_t n_others;
  const char *yes_cluster_id; /* NULL: only say what would be done; else the cluster's id, in full, and it is done */
};
#define BLX_RECOVER_OPTIONS_INIT BLX_INIT_(struct blx_recover_options)
BLX_INIT_FN_(recover_options)

/* Make a server the only one of its cluster, with all of its log. It is opened as ever afterwards, leads alone, and
 * others join it as new nodes. Those that were servers before are gone for good: their messages are dropped, and each
 * that comes back with what it had stops itself when it hears so. Blocks: the sockets of the known servers are asked,
 * two seconds each.
 * @out  what was found and done; free with blx_recover_plan_free(); untouched on error. Without yes_cluster_id what
 *       forbids it is in obstacle, and no error
 * Errors: those of blx_recover_inspect(); BLX_E_CONFLICT (another survivor has the longer log, it says which; so many
 * servers answer that with this one they are a majority; it is the only server already; it was given up by an earlier
 * recovery), BLX_E_INVALID (the id is another one; the others are not of this cluster), BLX_E_NOSPACE. Thread: any.
 * Since 0.1. */
BLX_API int blx_recover(const struct blx_recover_options *options, struct blx_recover_plan **out, blx_error *reterr);

/* NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_recover_member_free(struct blx_recover_member *member);
BLX_API void blx_recover_plan_free(struct blx_recover_plan *plan);

#ifdef __cplusplus
}
#endif
#endif

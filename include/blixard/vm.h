/* VMs: create, look, start, stop, delete, wait, console, commands in guests. See client.h for blocking and _async
 * calls. */
#ifndef BLIXARD_VM_H
#define BLIXARD_VM_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*blx_vm_fn)(void *user, const blx_error *err, struct blx_vm *result);
typedef void (*blx_vm_list_fn)(void *user, const blx_error *err, struct blx_vm_list *result);

/* Create a VM; placement chooses its nodes.
 * @request  borrowed. spec->name required; flake, or config (text of a microvm.nix module, at most 49152 bytes),
 * required; memory_mib 32..1048576, vcpus 1..512, replicas 0..1000; what is zero gets its default (types.h)
 * @out      the VM at the index it was committed, phase Pending; free with blx_vm_free(); untouched on error
 * Errors: BLX_E_INVALID (field, value, bound), BLX_E_EXISTS, BLX_E_CONFLICT (the request_id was used for another
 * request), BLX_E_UNSUPPORTED (hypervisor or strategy), BLX_E_NO_LEADER (retry), BLX_E_BUSY (retry), BLX_E_TIMEOUT
 * (outcome unknown: send the same request_id again). Thread: any. Since 0.1. */
BLX_API int blx_vm_create(blx_client *client, const struct blx_vm_create_request *request, struct blx_vm **out,
                          blx_error *reterr);
BLX_API int blx_vm_create_async(blx_client *client, const struct blx_vm_create_request *request, blx_vm_fn done,
                                void *user, blx_error *reterr);

/* One VM with its instances; request->name may also be an instance's name.
 * Errors: BLX_E_NOT_FOUND, BLX_E_INVALID, BLX_E_NO_LEADER, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_vm_get(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                       blx_error *reterr);
BLX_API int blx_vm_get_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done, void *user,
                             blx_error *reterr);

/* The VMs of a tenant by name, with all_tenants of all by tenant and name. One answer is at most 4 MiB, some 12,000
 * plain VMs; a longer list is read in parts: with limit set, call again with after = the answer's next (and
 * after_tenant = its next_tenant) until that is empty. Each part is true at its own index; to go on with a watch, begin
 * at the first part's. Errors: BLX_E_INVALID (limit is 0 and the list does not fit into one answer), BLX_E_NO_LEADER,
 * BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_vm_list_get(blx_client *client, const struct blx_vm_list_request *request, struct blx_vm_list **out,
                            blx_error *reterr);
BLX_API int blx_vm_list_get_async(blx_client *client, const struct blx_vm_list_request *request, blx_vm_list_fn done,
                                  void *user, blx_error *reterr);

/* Want a VM running, or stopped (its guests get spec.stop_timeout_ms to shut down, then they are killed).
 * @out  the VM as wanted; watch or wait for the phase.
 * Errors: BLX_E_NOT_FOUND, BLX_E_CONFLICT (it is being deleted), BLX_E_STALE (if_revision), BLX_E_NO_LEADER,
 * BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_vm_start(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                         blx_error *reterr);
BLX_API int blx_vm_start_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                               void *user, blx_error *reterr);
BLX_API int blx_vm_stop(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                        blx_error *reterr);
BLX_API int blx_vm_stop_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done, void *user,
                              blx_error *reterr);

/* End the instances of a VM, or the one whose name is given, and start them again at once, whatever the restart policy
 * says. request->force: they are killed, their guests are not asked.
 * Errors: as blx_vm_stop(), and BLX_E_CONFLICT when the VM is stopped. Thread: any. Since 0.1. */
BLX_API int blx_vm_restart(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                           blx_error *reterr);
BLX_API int blx_vm_restart_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                                 void *user, blx_error *reterr);

/* Want a VM stopped at once: its guests are not asked, and what depends on it is not waited for. Also after a
 * blx_vm_stop() that takes too long. Errors: as blx_vm_stop(). Thread: any. Since 0.1. */
BLX_API int blx_vm_kill(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                        blx_error *reterr);
BLX_API int blx_vm_kill_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done, void *user,
                              blx_error *reterr);

/* Want another number of replicas. More: they wait for nodes. Fewer: those with the highest ordinals are removed as by
 * blx_vm_delete(), and their names are free when their nodes confirmed; to scale up over such a name is refused until
 * then. One whose node does not come back can be given up by blx_vm_delete_force() with the instance's name.
 * @request  name required; replicas (with has_replicas): 0..1000, 1 when absent; if_revision
 * @out      the VM; free with blx_vm_free(); untouched on error
 * Errors: as blx_vm_stop(); BLX_E_CONFLICT (an instance of that name is being removed), BLX_E_EXISTS (a VM has the name
 * that a replica would get), BLX_E_QUOTA (with what the tenant has and may have). Thread: any. Since 0.1. */
BLX_API int blx_vm_scale(blx_client *client, const struct blx_vm_scale_request *request, struct blx_vm **out,
                         blx_error *reterr);
BLX_API int blx_vm_scale_async(blx_client *client, const struct blx_vm_scale_request *request, blx_vm_fn done,
                               void *user, blx_error *reterr);

/* Let the instances of a VM stand still in memory as soon as they run, or go on. Their phase stays Running;
 * instance->paused says when it is so. Start, stop and kill end it.
 * Errors: as blx_vm_stop(), and BLX_E_CONFLICT when the VM is stopped. Thread: any. Since 0.1. */
BLX_API int blx_vm_pause(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                         blx_error *reterr);
BLX_API int blx_vm_pause_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                               void *user, blx_error *reterr);
BLX_API int blx_vm_resume(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                          blx_error *reterr);
BLX_API int blx_vm_resume_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                                void *user, blx_error *reterr);

/* Delete a VM: its instances are stopped and removed from their nodes; the name is free when they confirmed.
 * @out  the VM as it was, deleting = 1. Errors: as blx_vm_stop(). Thread: any. Since 0.1. */
BLX_API int blx_vm_delete(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                          blx_error *reterr);
BLX_API int blx_vm_delete_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                                void *user, blx_error *reterr);

/* Delete a VM whose instances are on nodes that the leader does not hear from, without waiting for those: they are
 * forgotten at once, and each such node keeps a tombstone, by which it stops and removes its instance when it comes
 * back. Until then nothing of that instance's name starts there. Instances on other nodes are removed as by
 * blx_vm_delete(); when there are none, the VM is gone and its name free. With the name of an instance that leaves
 * after blx_vm_scale(), that one alone is given up. What a silent node runs may run on until it comes back. Works on a
 * VM that is being deleted, too.
 * @out  the VM as it was, deleting = 1
 * Errors: as blx_vm_delete(); BLX_E_CONFLICT (no node of it is silent: delete it without force), BLX_E_QUOTA (the
 * cluster keeps 4096 tombstones, the most it can: bring back a silent node). Thread: any. Since 0.1. */
BLX_API int blx_vm_delete_force(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out,
                                blx_error *reterr);
BLX_API int blx_vm_delete_force_async(blx_client *client, const struct blx_vm_name_request *request, blx_vm_fn done,
                                      void *user, blx_error *reterr);

/* What a VM can be waited for that is no phase. */
enum {
  BLX_VM_WAIT_GONE = -1,
  BLX_VM_WAIT_PAUSED = -2,  /* every instance stands still */
  BLX_VM_WAIT_RESUMED = -3, /* every instance is Running and does not stand still */
};

/* Wait, on the server's events and without polling, until every instance of a VM is in a phase, or until the VM is
 * gone, paused or resumed.
 * @phase       enum blx_phase, or BLX_VM_WAIT_*
 * @timeout_ms  1..86400000
 * @cancel      may be NULL; when another thread sets it to non-zero the wait ends within 250 ms: BLX_E_CANCELLED
 * @out         may be NULL; the VM as it is then (NULL for BLX_VM_WAIT_GONE); free with blx_vm_free()
 * Errors: BLX_E_TIMEOUT (the message says where it is and why), BLX_E_NOT_FOUND, BLX_E_CANCELLED, BLX_E_UNAVAILABLE,
 * BLX_E_BUSY (a wait is two of BLX_CLIENT_CALLS_MAX), BLX_E_INVALID (phase), BLX_E_NOMEM, BLX_E_MISUSE. Thread: any;
 * blocking: any but where completions run. Since 0.1.
 * The _async twin: @name is copied; @cancel and @user are needed until @done runs, which is given the VM, or NULL for
 * BLX_VM_WAIT_GONE. A close of the client ends the wait with BLX_E_CANCELLED. */
BLX_API int blx_vm_wait(blx_client *client, const char *name, int phase, uint32_t timeout_ms,
                        const volatile int *cancel, struct blx_vm **out, blx_error *reterr);
BLX_API int blx_vm_wait_async(blx_client *client, const char *name, int phase, uint32_t timeout_ms,
                              const volatile int *cancel, blx_vm_fn done, void *user, blx_error *reterr);

/* Free a result. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_vm_free(struct blx_vm *vm);
BLX_API void blx_vm_list_free(struct blx_vm_list *list);

/* A reader of consoles. */
typedef struct blx_vm_logs blx_vm_logs;

/* Read the consoles of a VM's instances, or of one instance, wherever they run.
 * @request  tail_lines: from how many lines before the end (absent: all that is kept); since_ms: only lines that began
 *           then or later; follow: go on with what comes
 * @out      close with blx_vm_logs_close(); untouched on error
 * Errors: BLX_E_NOT_FOUND, BLX_E_INVALID, BLX_E_UNAVAILABLE, BLX_E_BUSY, BLX_E_NOMEM, BLX_E_MISUSE; the first and the
 * third are told by blx_vm_logs_next(). Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_vm_logs_open(blx_client *client, const struct blx_vm_logs_request *request, blx_vm_logs **out,
                             blx_error *reterr);

/* The same, its pieces told to a function, which frees them with blx_log_chunk_free(); at last, exactly once, with a
 * NULL @chunk. All that blx_watch_open_async() says of events holds. Thread: any; @on: where the client's completions
 * run. Since 0.1. */
typedef void (*blx_log_chunk_fn)(void *user, const blx_error *err, struct blx_log_chunk *chunk);
BLX_API int blx_vm_logs_open_async(blx_client *client, const struct blx_vm_logs_request *request, blx_log_chunk_fn on,
                                   void *user, blx_vm_logs **out, blx_error *reterr);

/* The next piece.
 * @timeout_ms  how long to wait for one, 0..3600000
 * @out         free with blx_log_chunk_free(); untouched unless 1 is returned
 * Returns 1 with a piece, 0 at the end, or an error: BLX_E_TIMEOUT (none came in time: call again), BLX_E_UNAVAILABLE,
 * BLX_E_CANCELLED (another thread closed it), BLX_E_MISUSE. Thread: any but where the client's completions run. Since
 * 0.1. */
BLX_API int blx_vm_logs_next(blx_vm_logs *logs, uint32_t timeout_ms, struct blx_log_chunk **out, blx_error *reterr);

/* Close a reader: as blx_watch_close(). Thread: any. Since 0.1. */
BLX_API void blx_vm_logs_close(blx_vm_logs *logs);

/* Free a piece. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_log_chunk_free(struct blx_log_chunk *chunk);

/* A command in a guest, or the guest's serial console. */
typedef struct blx_vm_exec blx_vm_exec;

/* Run a command in the guest of an instance, wherever it runs, or use its console.
 * @request  name: of an instance, or of a VM that has one; argv: 1..64 words, 2048 bytes with a byte more for each; or
 *           console. tty, rows, columns: the command gets a terminal of that size
 * @out      close with blx_vm_exec_close(); untouched on error
 * Errors: BLX_E_BUSY, BLX_E_NOMEM, BLX_E_MISUSE; what the cluster says is told by blx_vm_exec_next(). It is not tried
 * again once it was sent. Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_vm_exec_open(blx_client *client, const struct blx_vm_exec_request *request, blx_vm_exec **out,
                             blx_error *reterr);

/* What it says, as blx_vm_exec_next() has it: @err is NULL, @output is to be freed by blx_vm_exec_output_free(). And at
 * last, exactly once, that none will follow: @output is NULL, @err says why, with the errors of blx_vm_exec_next(), or
 * is NULL after an output that said `ended`. After a close of the session that is all that comes (BLX_E_CANCELLED):
 * @user is needed until then. Thread: where the client's completions run (blixard/completions.h). Since 0.1. */
typedef void (*blx_vm_exec_fn)(void *user, const blx_error *err, struct blx_vm_exec_output *output);

/* The same session, what it says told to @on. Nothing is read before @on returned, or, with BLX_COMPLETIONS_DISPATCH,
 * at most 64 outputs wait for a dispatch: who is slow stops the command.
 * @on   runs after @out was set; it may write, and close the session
 * @out  close with blx_vm_exec_close(), also after its end; untouched on error
 * Errors: as above. Thread: any. Since 0.1. */
BLX_API int blx_vm_exec_open_async(blx_client *client, const struct blx_vm_exec_request *request, blx_vm_exec_fn on,
                                   void *user, blx_vm_exec **out, blx_error *reterr);

/* The next thing it says: first, when the guest is reached, only its instance; then out or err, at most 65536 bytes; at
 * last ended, with exit_status and signal. Who does not read stops the command when it has written some MiB.
 * @timeout_ms  how long to wait, 0..3600000
 * @out         free with blx_vm_exec_output_free(); untouched unless 1 is returned
 * Returns 1, 0 after the last, or an error: BLX_E_TIMEOUT (nothing came in time: call again); before the first:
 * BLX_E_NOT_FOUND (no such VM), BLX_E_INVALID (the request; the VM has several instances), BLX_E_CONFLICT (it does not
 * run), BLX_E_UNSUPPORTED (its guest, or its node's driver, cannot), BLX_E_BUSY, BLX_E_UNAVAILABLE (its node does not
 * answer); after it: BLX_E_NOT_FOUND (no such program), BLX_E_UNAVAILABLE (the guest or its node went away: how far the
 * command came is not known); BLX_E_CANCELLED (another thread closed it), BLX_E_MISUSE.
 * Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_vm_exec_next(blx_vm_exec *exec, uint32_t timeout_ms, struct blx_vm_exec_output **out,
                             blx_error *reterr);

/* Give it bytes to read: they are copied and sent when the command takes them. Another thread may be in
 * blx_vm_exec_next() meanwhile, and somebody should: a command that cannot write may not read either.
 * @len         0: its input ends here; else 1.., of which at most 32768 are taken at a time
 * @timeout_ms  how long to wait for room, 0..3600000
 * Returns how many were taken. Errors: BLX_E_TIMEOUT (no room in time, none was taken: call again), BLX_E_CONFLICT (it
 * has ended), BLX_E_CANCELLED (another thread closed it), BLX_E_BUSY, BLX_E_NOMEM, BLX_E_MISUSE. Thread: any but where
 * the client's completions run. Since 0.1. */
BLX_API int blx_vm_exec_write(blx_vm_exec *exec, const void *bytes, size_t len, uint32_t timeout_ms, blx_error *reterr);

/* Its terminal has another size: 1..65535 each. Errors: BLX_E_INVALID, and as blx_vm_exec_write(). Thread: any but
 * where the client's completions run. Since 0.1. */
BLX_API int blx_vm_exec_resize(blx_vm_exec *exec, uint32_t rows, uint32_t columns, uint32_t timeout_ms,
                               blx_error *reterr);

/* What was written was sent (@err NULL), and the next may be; or it was not: BLX_E_CONFLICT (it had ended),
 * BLX_E_CANCELLED (it, or its client, was closed). Thread: where the client's completions run. Since 0.1. */
typedef void (*blx_vm_exec_sent_fn)(void *user, const blx_error *err);

/* As blx_vm_exec_write() and blx_vm_exec_resize(), of a session opened either way, without waiting: what was taken is
 * copied, and @done told exactly once when it was sent, which is when the command makes room. One at a time, of both
 * together: until that was told another is BLX_E_BUSY.
 * Return how many bytes were taken, 0 for a size. Errors: BLX_E_BUSY, BLX_E_CONFLICT, BLX_E_CANCELLED, BLX_E_INVALID,
 * BLX_E_NOMEM, BLX_E_MISUSE: then @done is not told. Thread: any, also where completions run. Since 0.1. */
BLX_API int blx_vm_exec_write_async(blx_vm_exec *exec, const void *bytes, size_t len, blx_vm_exec_sent_fn done,
                                    void *user, blx_error *reterr);
BLX_API int blx_vm_exec_resize_async(blx_vm_exec *exec, uint32_t rows, uint32_t columns, blx_vm_exec_sent_fn done,
                                     void *user, blx_error *reterr);

/* Close it: a command that runs still is killed, a console goes on. As blx_watch_close(). Thread: any. Since 0.1. */
BLX_API void blx_vm_exec_close(blx_vm_exec *exec);

/* Free what it said. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_vm_exec_output_free(struct blx_vm_exec_output *output);

#ifdef __cplusplus
}
#endif
#endif

/* What the commands about VMs share. */
#ifndef BLX_CLI_VM_COMMON_H
#define BLX_CLI_VM_COMMON_H

#include "output.h"

/* "vm/NAME", and a table of the VM and its instances. */
extern const struct cli_view vm_view;
extern const struct cli_view vm_list_view;

/* Phases that can be waited for; cli_phase_label() knows BLX_VM_WAIT_* too: "gone", "paused", "resumed". */
extern const struct cli_choice cli_phases[];
extern const size_t cli_n_phases;
const char *cli_phase_label(int phase);

enum { VM_NAME_MAX = 56, INSTANCE_NAME_MAX = 63 };

/* Milliseconds of a clock that only goes forward. */
uint64_t cli_now_ms(void);

/* After a change, and with --wait: wait until @name is in @phase, or what else BLX_VM_WAIT_* says.
 * @started_ms  cli_now_ms() when the command began: --timeout counts from there
 * @out         the VM as it is then, NULL for BLX_VM_WAIT_GONE; free with blx_vm_free()
 * 0, or the exit status after saying why not. */
int cli_vm_wait(const struct cli_args *args, blx_client *client, const char *name, int phase, uint64_t started_ms,
                struct blx_vm **out);

/* Print what became of a change to @vm, and wait if --wait asks for it. Does not free @vm. */
int cli_vm_changed(const struct cli_args *args, blx_client *client, const struct blx_vm *vm, const char *done,
                   int phase, uint64_t started_ms);

#endif

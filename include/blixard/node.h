/* A node: this process's part of a cluster. Open one and the process takes part in consensus, placement and running
 * VMs. */
#ifndef BLIXARD_NODE_H
#define BLIXARD_NODE_H

#include <blixard/completions.h>
#include <blixard/error.h>
#include <blixard/log.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blx_node blx_node;
typedef struct blx_client blx_client;
struct blx_vm_driver_ops;

/* The node stopped itself: every call completes with BLX_E_FATAL from now on; close it, and open it anew after the
 * cause is mended. Once. @code BLX_E_*, @text one sentence; valid during the call. Thread: the node's, and it must not
 * call the library; with BLX_COMPLETIONS_DISPATCH the one that dispatches or closes. Since 0.1. */
typedef void (*blx_fatal_fn)(void *user, int code, const char *text);

struct blx_node_options {
  size_t struct_size;
  const char *data_dir;           /* created with mode 0711 when missing; at most 80 bytes; required */
  const char *name;               /* node name, [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters; required */
  const char *socket_path;        /* where the API answers; NULL: data_dir/blixard.sock; at most 107 bytes */
  uint32_t bootstrap;             /* 1: make a one-node cluster when the data directory is in none yet */
  uint32_t simulate_vms;          /* 1: virtual machines are simulated; everything else is real */
  struct blx_resources *capacity; /* what instances may use; NULL: what the machine has, less a reserve */
  struct blx_label **labels;      /* labels of the node, at most 64; one set by blx_node_label() wins over its key's */
  size_t n_labels;
  const char *shim_path; /* the blixard-shim program; NULL: beside the library's install prefix */
  const char
      *runner_dir; /* builds runners from .nix modules: nix/debian-runner, nix/vm-template; NULL: the installed one */
  const char *kernel_dir;    /* the guests' kernel; NULL: runner_dir/kernel */
  const char *nix_store_dir; /* an own Nix store; NULL: the machine's */
  uint32_t heartbeat_ms;     /* 0: 200; 10..1000 */
  uint32_t election_ms;      /* 0: 2000; at least 5 heartbeats, at most 10000 */
  blx_log_fn log;            /* NULL: silent */
  void *log_user;
  int32_t log_level;     /* BLX_LOG_*; lines above it are dropped */
  blx_fatal_fn on_fatal; /* may be NULL */
  void *fatal_user;
  const char *guest_path; /* the static blixard-guest program; NULL: beside the shim */
  uint32_t unsafe_fs;     /* 1: also on file systems other than ext4, XFS and tmpfs, where a crash may cost the log */
  uint32_t reserved;      /* 0: older programs have padding here */
  int32_t completions;    /* BLX_COMPLETIONS_*, of this node and of its clients; 0: on their threads */
  uint32_t reserved_2;    /* 0: older programs have padding here */
  const struct blx_vm_driver_ops *vm_driver; /* what runs VMs here, blixard/sys/vm_driver.h; copied; NULL: the library;
                                                not together with simulate_vms */
  const char
      *nixpkgs_ref; /* flake references, pinned, of which nix/vm-template as runner_dir makes guests; NULL: none */
  const char *microvm_ref;
  const char *share_paths;     /* directories, "A:B", below which a VM may have shares; /nix/store always; NULL: none */
  const char *virtiofsd_path;  /* the virtiofsd program; NULL: looked for */
  uint32_t audit_max_age_days; /* audit records so much older than the newest go; 0: 365; at most 36500 */
  uint32_t audit_max_size_mib; /* of audit records with what their database needs beside them; the oldest go; 0: 256; at
                                  most 65536 */
  const char *watchdog_path;   /* the blixard-watchdog program; NULL: the installed one */
  const char *watchdog_device; /* resets the machine when that process hangs: "/dev/watchdog"; NULL: none */
  uint32_t no_watchdog;        /* 1: instances with ha=auto run here without that device and without a fence command */
  uint32_t reserved_3;         /* 0: older programs have padding here */
  uint32_t events_max_age_days; /* events so much older than the newest go; 0: 30; at most 36500 */
  uint32_t events_max_size_mib; /* of events with what their database needs beside them; the oldest go; 0: 128; at most
                                   65536 */
  uint32_t reserve_vcpus;       /* without a capacity: processors that the host keeps for itself */
  uint32_t reserve_memory_mib;  /* and memory in MiB; 0: the larger of 512 and an eighth of what it has */
};

#define BLX_NODE_OPTIONS_INIT BLX_INIT_(struct blx_node_options)
BLX_INIT_FN_(node_options)

/* Open a node: lock its data directory, read what it was part of, serve its socket.
 * @options  borrowed for the call
 * @out      the node; close with blx_node_close(); untouched on error
 * Returns when the API answers. A node in a cluster may still wait for a leader then; calls say NO_LEADER meanwhile.
 * Errors: BLX_E_INVALID, BLX_E_UNSUPPORTED (the struct is of a newer library), BLX_E_BUSY (another process has the
 * directory or the socket; 65536 handles are open), BLX_E_CORRUPT (names the file and the way back), BLX_E_DENIED,
 * BLX_E_NOSPACE, BLX_E_IO, BLX_E_NOMEM, BLX_E_MISUSE. Blocks up to a few seconds. Thread: any but a
 * node's. Since 0.1. */
BLX_API int blx_node_open(const struct blx_node_options *options, blx_node **out, blx_error *reterr);

/* Close a node: calls in flight complete with BLX_E_CANCELLED or BLX_E_UNAVAILABLE, VMs run on and are found again by
 * the next open. Blocks until its thread has ended; an on_fatal that waits for a dispatch is told here. NULL is
 * allowed, and so is a second time. From a completion, or in a child of fork, nothing happens. Its clients stay open,
 * find nobody, and are closed as ever. Thread: any but the node's, or where completions run. Since 0.1. */
BLX_API void blx_node_close(blx_node *node);

/* Address of the node's API, "unix:PATH"; "" for what is no open node. Valid while the node is open. Thread: any. Since
 * 0.1. */
BLX_API const char *blx_node_address(const blx_node *node);

/* As blx_client_fd() and blx_client_dispatch(), for the node's on_fatal and for all clients of blx_node_client().
 * Errors: as there. Thread: any; of a node and its clients one dispatches at a time. Since 0.1. */
BLX_API int blx_node_fd(blx_node *node, blx_error *reterr);
BLX_API int blx_node_dispatch(blx_node *node, uint32_t max, blx_error *reterr);

/* A client of this node, with the same verbs as a remote one; close it with blx_client_close() before the node.
 * Errors: as blx_client_open(). Thread: any but the node's. Since 0.1. */
BLX_API int blx_node_client(blx_node *node, blx_client **out, blx_error *reterr);

/* 1 if @ref, a flake reference, says which revision it is, as nixpkgs_ref and microvm_ref must: with rev= or narHash=,
 * or as github:OWNER/REPO/REV (gitlab:, sourcehut:); else, and for NULL, 0. Thread: any. Since 0.1. */
BLX_API int blx_flake_ref_is_pinned(const char *ref);

/* Version of the library, "0.1.0". Static. Thread: any. Since 0.1. */
BLX_API const char *blx_version(void);

#ifdef __cplusplus
}
#endif
#endif

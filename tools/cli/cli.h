/* What the commands of blixard(1) share: the parsed command line, the two tables it is parsed by, errors, the
 * connection. A command is a row of verbs.c, a flag is a row of its table; main.c, help.c and complete.c only read
 * these rows. One thread, but for the input of `vm exec`; functions return the exit status of the program unless they
 * say otherwise. */
#ifndef BLX_CLI_H
#define BLX_CLI_H

#include "place.h"

#include <blixard/blixard.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How an answer is printed. PLAIN is what a command does when nothing was asked for: a table, or one line for a change.
 */
enum cli_output { CLI_OUT_PLAIN, CLI_OUT_TABLE, CLI_OUT_WIDE, CLI_OUT_JSON, CLI_OUT_YAML, CLI_OUT_NAME };

enum cli_sort { CLI_SORT_CPU, CLI_SORT_MEMORY };

/* Exit statuses that do not come from a blx_error. */
enum { CLI_EXIT_OK = 0, CLI_EXIT_INTERNAL = 1, CLI_EXIT_USAGE = 2, CLI_EXIT_RETRY = 6 };

enum { CLI_WORDS_MAX = 65, CLI_LABELS_MAX = 64, CLI_NAMES_MAX = 32, CLI_REQUEST_ID_SIZE = 33, CLI_NODE_NAME_MAX = 63 };

/* Repeated KEY=VALUE flags, ready for a request. */
struct cli_labels {
  struct blx_label rows[CLI_LABELS_MAX];
  struct blx_label *list[CLI_LABELS_MAX];
  size_t count;
};

/* Repeated NAME flags. */
struct cli_names {
  const char *list[CLI_NAMES_MAX];
  size_t count;
};

/* One command line, parsed. Strings are borrowed from argv. */
struct cli_args {
  const char *words[CLI_WORDS_MAX]; /* what is not a flag, after group and verb */
  unsigned n_words;
  const char *socket;
  const char *tenant;   /* NULL: not given; see cli_tenant() */
  uint32_t all_tenants; /* of lists */
  uint32_t timeout_ms;  /* 0: not given */
  int32_t output;       /* enum cli_output */
  uint32_t help, stale, verbose, stopped, follow, wait, worker;
  uint32_t tail, has_tail;
  const char *name, *node_id, *address;
  const char *microvm_config, *request_id, *until, *reason;
  uint32_t force, stdin_too, tty;
  uint64_t if_revision; /* 0: whatever it has */
  struct blx_vm_spec spec;
  struct cli_labels labels, selectors;
  struct cli_names depends_on, cpu_features;
  struct cli_place place;
  uint32_t plan, all, pending;
  const char *columns, *sort_by; /* of lists */
  struct cli_labels filters;     /* FIELD=VALUE; of FIELD!=VALUE the key ends with '!' */
  uint32_t watch, no_headers;
  const char *since_time; /* of logs, audit and events */
  const char *of_vm, *of_node;
  int32_t event_kind; /* enum blx_event_kind and one; 0: not given */
  uint32_t timestamps;
  int32_t sort; /* of top: enum cli_sort */
  uint32_t once;
  uint32_t for_ms;      /* of ha disarm; 0: not given */
  const char *yes_name; /* what a person would type to go on */
  const char *proved, *command;
  uint32_t unset;
  uint32_t fast_leases, leases_of_ms; /* of settings */
  struct cli_names overcommit, distances;
  uint32_t survive_nodes, has_survive_nodes;
  const char *survive_level;
  const char *principal, *audit_verb, *object, *result; /* of audit; its --until is in until */
  uint32_t denied, limit, has_limit;
  char request_id_made[CLI_REQUEST_ID_SIZE];
};

enum cli_kind {
  CLI_BOOL,   /* uint32_t, 1 when given */
  CLI_U32,    /* whole number lo..hi of @unit */
  CLI_U64,    /* the same, as uint64_t */
  CLI_MS,     /* duration lo..hi ms, written 500ms, 30s, 2m or 1h */
  CLI_TEXT,   /* const char * */
  CLI_CHOICE, /* int32_t, one of @choices */
  CLI_LABEL,  /* struct cli_labels, hi at most */
  CLI_NAME,   /* struct cli_names, hi at most */
  CLI_OWN,    /* what its function reads */
  CLI_ABSENT, /* known, not supported: @doc says why */
};

struct cli_choice {
  const char *label;
  int32_t value;
};

/* A flag. @at: where in struct cli_args its value goes; @has_at: 0, or where a uint32_t tells that it was given. */
struct cli_flag {
  const char *name;
  char letter; /* 0: none */
  enum cli_kind kind;
  size_t at, has_at;
  uint64_t lo, hi;
  const char *value; /* its value in help texts: "MiB" */
  const char *unit;  /* of a number */
  const char *also;  /* NULL, or a second name */
  const struct cli_choice *choices;
  size_t n_choices;
  const char *doc;
  int (*parse)(struct cli_args *args, const struct cli_flag *flag, char *value); /* of CLI_OWN */
};

/* A command. */
struct cli_verb {
  const char *group; /* "" for a command of one word */
  const char *name;
  const char *also;  /* NULL, or a second name */
  const char *words; /* its arguments in help texts: "NAME"; with " -- ": what follows the first is a command's */
  unsigned words_min, words_max;
  const struct cli_flag *flags;
  size_t n_flags;
  int (*run)(struct cli_args *args); /* NULL: not supported, @doc says why */
  const char *doc;
  const char *more; /* NULL, or paragraphs for its help */
};

/* The tables of verbs.c; static. */
const struct cli_verb *cli_verbs(size_t *count);
const struct cli_flag *cli_global_flags(size_t *count);

/* From the second word on all are those of a command, whatever they look like. */
bool cli_verb_runs_command(const struct cli_verb *verb);

/* The row of @group @name; NULL if there is none. @group "" finds commands of one word. */
const struct cli_verb *cli_verb_find(const char *group, const char *name);

/* Say what is wrong with the command line, in one line on stderr. Returns CLI_EXIT_USAGE. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Say that something known is not there yet, in one line on stderr. Returns CLI_EXIT_USAGE. */
int cli_unsupported(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Say a failure of the library in one line on stderr: message, code, origin, where to ask instead. Returns its status.
 */
int cli_fail(const blx_error *err);

/* The same for a call that changes something: when the outcome is unknown, how to send it again safely. */
int cli_fail_change(const struct cli_args *args, const blx_error *err);

/* A hint on stderr, only when somebody is there to read it. */
void cli_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Quote @text for a message: control characters escaped, cut at 64 bytes. @buf: at least CLI_QUOTE_SIZE bytes;
 * returned. */
enum { CLI_QUOTE_SIZE = 280 };
const char *cli_quote(char *buf, size_t size, const char *text);

/* --tenant, else $BLIXARD_TENANT, else NULL: the cluster's default. */
const char *cli_tenant(const struct cli_args *args);

/* Open a client of --socket, of $BLIXARD_SOCKET, or of the default socket, whose calls are of cli_tenant(). 0, or the
 * exit status after saying why not. */
int cli_connect(const struct cli_args *args, blx_client **out);

/* The user's --request-id, or a random one made for this command line. NULL: no randomness, said on stderr. */
const char *cli_request_id(struct cli_args *args);

/* Check a VM's or instance's name of at most @max bytes; a leading "vm/" is dropped. NULL: it is not one, said on
 * stderr. */
const char *cli_vm_name(const char *word, size_t max);

/* Have the user type @name, for what cannot be taken back: on a terminal he is asked, else it must be --yes-name. 0, or
 * the exit status after saying what is missing. */
int cli_confirm_name(const struct cli_args *args, const char *name, const char *what);

/* Check a node's name; a leading "node/" is dropped. NULL: it is not one, said on stderr. */
const char *cli_node_name(const char *word);

/* Count SIGINT in the returned flag from now on instead of ending; a second one ends the program. */
const volatile int *cli_catch_interrupt(void);

/* True when nobody reads the standard output any more. */
bool cli_output_closed(void);

/* Offered names in turn, @best is the one nearest to @word; NULL if none is near. */
struct cli_nearest {
  const char *word, *best;
  unsigned distance;
};
void cli_nearest_offer(struct cli_nearest *nearest, const char *name);

/* Commands, one per row of verbs.c. */
int cmd_cluster_init(struct cli_args *args);
int cmd_cluster_join(struct cli_args *args);
int cmd_cluster_status(struct cli_args *args);
int cmd_cluster_backup(struct cli_args *args);
int cmd_cluster_transfer(struct cli_args *args);
int cmd_cluster_leave(struct cli_args *args);
int cmd_node_remove(struct cli_args *args);
int cmd_cluster_settings(struct cli_args *args);
int cmd_node_list(struct cli_args *args);
int cmd_node_describe(struct cli_args *args);
int cmd_node_cordon(struct cli_args *args);
int cmd_node_uncordon(struct cli_args *args);
int cmd_node_label(struct cli_args *args);
int cmd_node_taint(struct cli_args *args);
int cmd_node_fence(struct cli_args *args);
int cmd_node_fence_command(struct cli_args *args);
int cmd_ha_status(struct cli_args *args);
int cmd_ha_disarm(struct cli_args *args);
int cmd_ha_arm(struct cli_args *args);
int cmd_vm_create(struct cli_args *args);
int cmd_vm_explain(struct cli_args *args);
int cmd_vm_scale(struct cli_args *args);
int cmd_cluster_capacity(struct cli_args *args);
int cmd_quota_set(struct cli_args *args);
int cmd_quota_get(struct cli_args *args);
int cmd_quota_list(struct cli_args *args);
int cmd_quota_delete(struct cli_args *args);
int cmd_vm_list(struct cli_args *args);
int cmd_events(struct cli_args *args);
int cmd_get(struct cli_args *args);
int cmd_explain(struct cli_args *args);
int cmd_vm_get(struct cli_args *args);
int cmd_vm_describe(struct cli_args *args);
int cmd_vm_start(struct cli_args *args);
int cmd_vm_stop(struct cli_args *args);
int cmd_vm_restart(struct cli_args *args);
int cmd_vm_kill(struct cli_args *args);
int cmd_vm_pause(struct cli_args *args);
int cmd_vm_resume(struct cli_args *args);
int cmd_vm_delete(struct cli_args *args);
int cmd_vm_wait(struct cli_args *args);
int cmd_vm_logs(struct cli_args *args);
int cmd_vm_exec(struct cli_args *args);
int cmd_vm_console(struct cli_args *args);
int cmd_audit_list(struct cli_args *args);
int cmd_audit_show(struct cli_args *args);
int cmd_audit_verify(struct cli_args *args);
int cmd_audit_export(struct cli_args *args);
int cmd_top(struct cli_args *args);
int cmd_version(struct cli_args *args);
int cmd_completion(struct cli_args *args);

/* `blixard __complete WORD...`, which the scripts of `blixard completion` call: what the last word may become, one a
 * line, or ":files". Asks the daemon for names, if it answers at once. */
int cli_complete(int argc, char **argv);

/* Help: of the program (@group NULL), of a group (@verb NULL), of a command. Returns CLI_EXIT_OK or CLI_EXIT_USAGE. */
int cli_help(const char *group, const char *verb);
int cmd_help(struct cli_args *args);

#endif

/* The kinds of objects that can be listed, one row each, and how they are fetched. */
#ifndef BLX_CLI_KINDS_H
#define BLX_CLI_KINDS_H

#include "output.h"

/* What was fetched. Free with cli_list_free(). */
struct cli_list {
  const char *type;    /* of @message; NULL: there is only the document */
  const void *message; /* the whole list as the library has it */
  json_t *document;    /* NULL until cli_list_document() */
  uint64_t index;      /* a watch that goes on begins after this index */
  struct blx_vm_list whole, **parts;
  size_t n_parts;
  struct blx_node_list *nodes;
  struct blx_quota_list *quotas;
};

struct cli_object_kind {
  const char *name, *also;       /* "vm", "vms" */
  const char *type;              /* of one object, as for blx_describe() */
  const char *labels;            /* path of its labels, or NULL */
  const struct cli_view *view;   /* of a list; its first block is the table */
  const struct cli_column *wide; /* columns of -o wide, behind those of the table */
  size_t n_wide;
  enum blx_event_kind event;
  /* Fetch all of them into the empty @list. 0, or the exit status after saying why not; free @list in any case. */
  int (*fetch)(const struct cli_args *args, blx_client *client, struct cli_list *list);
  /* One object, of @tenant or, NULL, of the client's. 0 and the caller's @out, or an error of the library in @err.
   * NULL: it has no name to be asked by. */
  int (*fetch_one)(const struct cli_args *args, blx_client *client, const char *tenant, const char *name, json_t **out,
                   blx_error *err);
  bool of_tenant; /* each is one tenant's */
};

/* The table of nodes (cmd_cluster.c); that of VMs is in vm_common.h. */
extern const struct cli_view node_view;

extern const struct cli_object_kind cli_kind_vm, cli_kind_node, cli_kind_instance, cli_kind_event, cli_kind_quota;

/* VMs of which an instance waits: a table with the reason, no kind that can be asked for by name. */
extern const struct cli_object_kind cli_kind_pending;

/* The kind called @name of @len bytes, NULL if there is none; by turn, NULL behind the last. */
const struct cli_object_kind *cli_kind_find(const char *name, size_t len);
const struct cli_object_kind *cli_kind_at(size_t i);

/* The list as a document, made at the first call and the list's. NULL: @status is set, and it was said why. */
json_t *cli_list_document(struct cli_list *list, int *status);

/* Name @i of a list that has no document yet, borrowed; NULL behind the last. */
const char *cli_list_name(const struct cli_list *list, size_t i);
void cli_list_free(struct cli_list *list);

#endif

/* Flags about placement: from "zone in a,b" to a row of the request. */
#ifndef BLX_CLI_PLACE_H
#define BLX_CLI_PLACE_H

#include <blixard/blixard.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As many as the schema takes. */
enum {
  CLI_MATCHES_MAX = 16,
  CLI_MATCH_VALUES_MAX = 16,
  CLI_AMOUNTS_MAX = 16,
  CLI_TOLERATIONS_MAX = 16,
  CLI_AFFINITY_MAX = 8,
  CLI_SPREAD_MAX = 4,
  CLI_PARTS_MAX = 4,
  CLI_NEAR_MAX = 4,
  CLI_DATA_MAX = 16,
};

/* Repeated conditions on a node's labels, ready for a request. */
struct cli_matches {
  struct blx_node_match rows[CLI_MATCHES_MAX];
  struct blx_node_match *list[CLI_MATCHES_MAX];
  const char *values[CLI_MATCHES_MAX][CLI_MATCH_VALUES_MAX];
  size_t count;
};

struct cli_amounts {
  struct blx_amount rows[CLI_AMOUNTS_MAX];
  struct blx_amount *list[CLI_AMOUNTS_MAX];
  size_t count;
};

struct cli_affinity {
  struct blx_vm_affinity rows[CLI_AFFINITY_MAX];
  struct blx_vm_affinity *list[CLI_AFFINITY_MAX];
  struct blx_label labels[CLI_AFFINITY_MAX][16];
  struct blx_label *selectors[CLI_AFFINITY_MAX][16];
  size_t count;
};

/* What was asked for. Strings are borrowed from argv, which is cut in place. */
struct cli_place {
  struct cli_matches constraints, preferences;
  struct cli_amounts resources;
  struct cli_affinity affinity;
  struct blx_toleration tolerations[CLI_TOLERATIONS_MAX];
  struct blx_toleration *toleration_list[CLI_TOLERATIONS_MAX];
  size_t n_tolerations;
  struct blx_vm_spread spreads[CLI_SPREAD_MAX];
  struct blx_vm_spread *spread_list[CLI_SPREAD_MAX];
  size_t n_spreads;
  struct blx_strategy_weight parts[CLI_PARTS_MAX];
  struct blx_strategy_weight *part_list[CLI_PARTS_MAX];
  size_t n_parts;
  struct blx_near nears[CLI_NEAR_MAX];
  struct blx_near *near_list[CLI_NEAR_MAX];
  struct blx_label domains[CLI_NEAR_MAX];
  size_t n_nears;
  struct blx_data_item data[CLI_DATA_MAX];
  struct blx_data_item *data_list[CLI_DATA_MAX];
  size_t n_data;
  uint32_t no_preempt, has_survive, survive;
};

struct cli_args;
struct cli_flag;

/* How a flag of the kind CLI_OWN is read: one value, which may be cut, into @args. 0, or CLI_EXIT_USAGE after saying
 * what is wrong with it. */
int cli_parse_cpu(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_shape(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_resource(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_constraint(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_preference(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_toleration(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_together(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_apart(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_spread(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_strategy(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_near(struct cli_args *args, const struct cli_flag *flag, char *value);
int cli_parse_data(struct cli_args *args, const struct cli_flag *flag, char *value);

/* Hand what was asked for over to args->spec. */
void cli_place_fill(struct cli_args *args);

/* Processors as "2", "1.5" or "500m", in thousandths 1..@max. False if it is none; @out then untouched. */
bool cli_parse_milli(const char *text, uint32_t max, uint32_t *out);

/* Bytes as "512", "4MiB", "10G": whole, with one of K, M, G, T, or these and iB. False if it is none or too many. */
bool cli_parse_bytes(const char *text, uint64_t *out);

/* A named amount, "gpu=1", "disk/ssd=20GiB" (of a disk in MiB, or with a unit), into the empty @row. False: it is none.
 */
bool cli_parse_amount(char *text, struct blx_amount *row);

#endif

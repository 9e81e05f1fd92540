/* One small language for what a VM demands of its node: KEY OP VALUES, LEVEL:name=N, SELECTOR@LEVEL:WEIGHT. */
#include "cli.h"
#include "flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
  KEY_MAX = 63,
  VALUE_MAX = 253,
  SELECTOR_MAX = 16,
  WEIGHT_MAX = 100,
  REPLICAS_MAX = 1000,
  CPU_MAX = 512000,
  MEMORY_MAX = 1048576,
};

static int refuse(const struct cli_flag *flag, const char *value, const char *why) {
  char quoted[CLI_QUOTE_SIZE];
  return cli_usage("--%s: %s is not %s%s%s", flag->name, cli_quote(quoted, sizeof quoted, value), flag->value,
                   *why != '\0' ? ": " : "", why);
}

static int too_many(const struct cli_flag *flag, unsigned most) {
  return cli_usage("--%s may be given %u times at most", flag->name, most);
}

static char *trim(char *text) {
  text += strspn(text, " \t");
  size_t n = strlen(text);
  while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t')) text[--n] = '\0';
  return text;
}

/* ---- numbers */

bool cli_parse_milli(const char *text, uint32_t max, uint32_t *out) {
  char whole[12];
  size_t n = strspn(text, "0123456789");
  uint64_t value = 0, part = 0;
  if (n >= sizeof whole) return false;
  memcpy(whole, text, n);
  whole[n] = '\0';
  bool milli = strcmp(text + n, "m") == 0;
  if (!cli_parse_number(whole, 0, max, &value)) return false;
  if (!milli) value *= 1000;
  const char *rest = text + n;
  if (*rest == '.') {
    size_t digits = strspn(rest + 1, "0123456789");
    if (digits == 0 || digits > 3 || rest[1 + digits] != '\0') return false;
    for (size_t i = 0; i < 3; i++) part = part * 10 + (i < digits ? (uint64_t)(rest[1 + i] - '0') : 0);
  } else if (*rest != '\0' && !milli) {
    return false;
  }
  value += part;
  if (value == 0 || value > max) return false;
  *out = (uint32_t)value;
  return true;
}

bool cli_parse_bytes(const char *text, uint64_t *out) {
  static const char units[] = "KMGT";
  char whole[24];
  size_t n = strspn(text, "0123456789");
  uint64_t value = 0;
  if (n >= sizeof whole) return false;
  memcpy(whole, text, n);
  whole[n] = '\0';
  if (!cli_parse_number(whole, 0, UINT64_MAX, &value)) return false;
  const char *unit = text[n] != '\0' ? strchr(units, text[n]) : NULL;
  if (text[n] != '\0' && (unit == NULL || (text[n + 1] != '\0' && strcmp(text + n + 1, "iB") != 0))) return false;
  for (const char *p = units; unit != NULL && p <= unit; p++)
    if (__builtin_mul_overflow(value, 1024U, &value)) return false;
  *out = value;
  return true;
}

bool cli_parse_amount(char *text, struct blx_amount *row) {
  enum { MIB = 1048576 };
  static const uint64_t max = 1099511627776;
  char *equals = strchr(text, '=');
  uint64_t amount = 0;
  if (equals == NULL || equals == text || equals - text > KEY_MAX) return false;
  if (!cli_parse_number(equals + 1, 0, max, &amount)) {
    if (strncmp(text, "disk/", 5) != 0 || !cli_parse_bytes(equals + 1, &amount) || amount % MIB != 0) return false;
    amount /= MIB;
  }
  if (amount > max) return false;
  *equals = '\0';
  *row = (struct blx_amount)BLX_AMOUNT_INIT;
  row->name = text;
  row->amount = amount;
  return true;
}

int cli_parse_cpu(struct cli_args *args, const struct cli_flag *flag, char *value) {
  if (cli_parse_milli(value, CPU_MAX, &args->spec.cpu_milli)) return 0;
  return refuse(flag, value, "processors from 1m to 512, written 500m, 1.5 or 2");
}

/* "2c4g": processors and memory. Half a processor is a virtual CPU that reserves half of one. */
int cli_parse_shape(struct cli_args *args, const struct cli_flag *flag, char *value) {
  static const char why[] = "processors and memory: 2c4g, 0.5c512m, 1500mc2g";
  char cpu[16], digits[16];
  uint64_t memory = 0;
  uint32_t milli = 0;
  const char *c = strchr(value, 'c');
  size_t n = c != NULL ? strlen(c + 1) : 0;
  if (n < 2 || n > sizeof digits || (size_t)(c - value) >= sizeof cpu) return refuse(flag, value, why);
  snprintf(cpu, sizeof cpu, "%.*s", (int)(c - value), value);
  snprintf(digits, sizeof digits, "%.*s", (int)(n - 1), c + 1);
  uint64_t unit = c[n] == 'g' || c[n] == 'G' ? 1024 : c[n] == 'm' || c[n] == 'M' ? 1 : 0;
  if (unit == 0 || !cli_parse_milli(cpu, CPU_MAX, &milli) || !cli_parse_number(digits, 1, MEMORY_MAX, &memory))
    return refuse(flag, value, why);
  if (memory * unit > MEMORY_MAX || memory * unit < 32) return refuse(flag, value, "memory is 32 MiB to 1024 GiB");
  args->spec.vcpus = (milli + 999) / 1000;
  args->spec.cpu_milli = milli;
  args->spec.memory_mib = (uint32_t)(memory * unit);
  return 0;
}

int cli_parse_resource(struct cli_args *args, const struct cli_flag *flag, char *value) {
  struct cli_amounts *to = &args->place.resources;
  if (to->count == CLI_AMOUNTS_MAX) return too_many(flag, CLI_AMOUNTS_MAX);
  struct blx_amount *row = &to->rows[to->count];
  if (!cli_parse_amount(value, row))
    return refuse(flag, value,
                  "a name of at most 63 bytes and a whole number, of disk/POOL in MiB, or with GiB or TiB");
  for (size_t i = 0; i < to->count; i++)
    if (strcmp(to->rows[i].name, row->name) == 0) return cli_usage("--%s: %s is given twice", flag->name, row->name);
  to->list[to->count++] = row;
  return 0;
}

/* ---- conditions */

static bool is_key(const char *text) {
  size_t n = strlen(text);
  return n > 0 && n <= KEY_MAX && strcspn(text, " \t=!<>,()") == n;
}

static bool is_integer(const char *text) {
  uint64_t value = 0;
  return cli_parse_number(text + (*text == '-'), 0, INT64_MAX, &value);
}

/* "a,b" or "(a, b)". */
static const char *take_values(char *text, struct blx_node_match *row, const char **values) {
  text = trim(text);
  size_t n = strlen(text);
  if (n > 1 && text[0] == '(' && text[n - 1] == ')') {
    text[n - 1] = '\0';
    text++;
  }
  row->values = values;
  while (text != NULL) {
    char *comma = strchr(text, ',');
    if (comma != NULL) *comma = '\0';
    text = trim(text);
    if (*text == '\0') return "a value is missing";
    if (strlen(text) > VALUE_MAX) return "a value has more than 253 bytes";
    if (row->n_values == CLI_MATCH_VALUES_MAX) return "it has more than 16 values";
    values[row->n_values++] = text;
    text = comma != NULL ? comma + 1 : NULL;
  }
  return NULL;
}

/* "KEY in A,B" and "KEY not in A,B": @at is where the word behind the key begins. */
static const char *take_words(char *text, char *at, struct blx_node_match *row, const char **values) {
  char *word = at + strspn(at, " \t");
  bool negated = strncmp(word, "not ", 4) == 0;
  if (negated) word += 4 + strspn(word + 4, " \t");
  if (strncmp(word, "notin ", 6) == 0) {
    negated = true;
    word += 3;
  }
  if (strncmp(word, "in ", 3) != 0 && strncmp(word, "in(", 3) != 0)
    return "behind the key comes in, not in, =, !=, > or <";
  *at = '\0';
  row->key = text;
  row->op = negated ? BLX_MATCH_OP_NOT_IN : BLX_MATCH_OP_IN;
  return take_values(word + 2, row, values);
}

/* "KEY=V", "KEY!=V", "KEY>N", "KEY<N": @at is the first character of the operator. */
static const char *take_sign(char *text, char *at, struct blx_node_match *row, const char **values) {
  char sign = *at;
  if (sign == '!' && at[1] != '=') return "behind the key comes in, not in, =, !=, > or <";
  char *value = at + (sign == '!' ? 2 : 1);
  if (*value == '=' && sign != '=') return "there is no >=, <= or !==";
  value += *value == '=';
  *at = '\0';
  row->key = trim(text);
  row->op = sign == '>'   ? BLX_MATCH_OP_GREATER
            : sign == '<' ? BLX_MATCH_OP_LESS
            : sign == '!' ? BLX_MATCH_OP_NOT_IN
                          : BLX_MATCH_OP_IN;
  const char *why = take_values(value, row, values);
  bool number = sign == '>' || sign == '<';
  if (why == NULL && number && (row->n_values != 1 || !is_integer(values[0])))
    return "it compares with one whole number";
  return why;
}

/* NULL, or what is wrong. */
static const char *take_match(char *text, struct blx_node_match *row, const char **values) {
  *row = (struct blx_node_match)BLX_NODE_MATCH_INIT;
  text = trim(text);
  bool negated = *text == '!';
  if (negated) text = trim(text + 1);
  char *at = text + strcspn(text, " \t=!<>");
  char *sign = at + strspn(at, " \t");
  const char *why = NULL;
  if (*at == '\0') {
    row->key = text;
    row->op = negated ? BLX_MATCH_OP_NOT_EXISTS : BLX_MATCH_OP_EXISTS;
  } else if (negated) {
    why = "behind !KEY comes nothing";
  } else if (strchr("=!<>", *sign) != NULL) {
    why = take_sign(text, sign, row, values);
  } else {
    why = take_words(text, at, row, values);
  }
  if (why == NULL && !is_key(row->key)) return "the key has 1 to 63 bytes, and none of \" =!<>,()\"";
  return why;
}

static int add_match(struct cli_matches *to, const struct cli_flag *flag, char *text, uint32_t weight) {
  char shown[128];
  if (to->count == CLI_MATCHES_MAX) return too_many(flag, CLI_MATCHES_MAX);
  snprintf(shown, sizeof shown, "%s", text);
  struct blx_node_match *row = &to->rows[to->count];
  const char *why = take_match(text, row, to->values[to->count]);
  if (why != NULL) return refuse(flag, shown, why);
  row->weight = weight;
  to->list[to->count++] = row;
  return 0;
}

int cli_parse_constraint(struct cli_args *args, const struct cli_flag *flag, char *value) {
  return add_match(&args->place.constraints, flag, value, 0);
}

/* Cuts ":WEIGHT" off the end. */
static bool take_weight(char *text, uint32_t *out) {
  uint64_t weight = 0;
  char *colon = strrchr(text, ':');
  if (colon == NULL || !cli_parse_number(colon + 1, 1, WEIGHT_MAX, &weight)) return false;
  *colon = '\0';
  *out = (uint32_t)weight;
  return true;
}

int cli_parse_preference(struct cli_args *args, const struct cli_flag *flag, char *value) {
  uint32_t weight = 0;
  if (!take_weight(value, &weight)) return refuse(flag, value, "behind the condition comes its weight, 1 to 100");
  return add_match(&args->place.preferences, flag, value, weight);
}

/* "*" tolerates everything. */
int cli_parse_toleration(struct cli_args *args, const struct cli_flag *flag, char *value) {
  struct cli_place *place = &args->place;
  char *equals = strchr(value, '=');
  if (place->n_tolerations == CLI_TOLERATIONS_MAX) return too_many(flag, CLI_TOLERATIONS_MAX);
  size_t n = equals != NULL ? (size_t)(equals - value) : strlen(value);
  bool any = strcmp(value, "*") == 0;
  if (n == 0 || n > KEY_MAX || (equals != NULL && strlen(equals + 1) > VALUE_MAX))
    return refuse(flag, value, "a key of 1 to 63 bytes, or * for every taint");
  if (equals != NULL) *equals = '\0';
  struct blx_toleration *row = &place->tolerations[place->n_tolerations];
  *row = (struct blx_toleration)BLX_TOLERATION_INIT;
  row->key = any ? "" : value;
  row->has_value = equals != NULL;
  row->value = equals != NULL ? equals + 1 : NULL;
  place->toleration_list[place->n_tolerations++] = row;
  return 0;
}

/* ---- other VMs */

/* "app=web,tier=front"; "self", or nothing: the VM itself. */
static const char *take_selector(char *text, struct cli_affinity *to, size_t at) {
  struct blx_vm_affinity *row = &to->rows[at];
  row->selector = to->selectors[at];
  if (*text == '\0' || strcmp(text, "self") == 0) return NULL;
  while (text != NULL) {
    char *comma = strchr(text, ',');
    if (comma != NULL) *comma = '\0';
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) return "VMs are named by labels they carry: app=web,tier=front, or self";
    if (row->n_selector == SELECTOR_MAX) return "it has more than 16 labels";
    *equals = '\0';
    struct blx_label *label = &to->labels[at][row->n_selector];
    *label = (struct blx_label)BLX_LABEL_INIT;
    label->key = text;
    label->value = equals + 1;
    to->selectors[at][row->n_selector++] = label;
    text = comma != NULL ? comma + 1 : NULL;
  }
  return NULL;
}

static int add_affinity(struct cli_args *args, const struct cli_flag *flag, char *value, bool apart) {
  struct cli_affinity *to = &args->place.affinity;
  char shown[128];
  uint32_t weight = 0;
  if (to->count == CLI_AFFINITY_MAX) return too_many(flag, CLI_AFFINITY_MAX);
  snprintf(shown, sizeof shown, "%s", value);
  char *level = strrchr(value, '@');
  bool weighted = take_weight(level != NULL ? level : value, &weight);
  if (!weighted && level != NULL && strchr(level, ':') != NULL)
    return refuse(flag, shown, "behind the level comes its weight, 1 to 100, or nothing if it must be so");
  if (level != NULL) *level = '\0';
  if (level != NULL && !is_key(level + 1)) return refuse(flag, shown, "the level is host, rack, zone or another label");
  struct blx_vm_affinity *row = &to->rows[to->count];
  *row = (struct blx_vm_affinity)BLX_VM_AFFINITY_INIT;
  const char *why = take_selector(value, to, to->count);
  if (why != NULL) return refuse(flag, shown, why);
  row->level = level != NULL ? level + 1 : NULL;
  row->apart = apart;
  row->weight = weight;
  to->list[to->count++] = row;
  return 0;
}

int cli_parse_together(struct cli_args *args, const struct cli_flag *flag, char *value) {
  return add_affinity(args, flag, value, false);
}

int cli_parse_apart(struct cli_args *args, const struct cli_flag *flag, char *value) {
  return add_affinity(args, flag, value, true);
}

/* "max=2" of "rack:max=2:skew=1". */
static bool take_spread_part(const char *part, struct blx_vm_spread *row) {
  const struct {
    const char *name;
    uint32_t *to;
    uint64_t max;
  } parts[] = {{"max=", &row->max_per_domain, REPLICAS_MAX},
               {"skew=", &row->max_skew, REPLICAS_MAX},
               {"weight=", &row->weight, WEIGHT_MAX}};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    size_t n = strlen(parts[i].name);
    uint64_t number = 0;
    if (strncmp(part, parts[i].name, n) != 0) continue;
    if (!cli_parse_number(part + n, 1, parts[i].max, &number)) return false;
    *parts[i].to = (uint32_t)number;
    return true;
  }
  return false;
}

int cli_parse_spread(struct cli_args *args, const struct cli_flag *flag, char *value) {
  static const char why[] = "a level (host, rack, zone or another label), max=1..1000 or skew=1..1000, weight=1..100";
  struct cli_place *place = &args->place;
  char shown[128];
  if (place->n_spreads == CLI_SPREAD_MAX) return too_many(flag, CLI_SPREAD_MAX);
  snprintf(shown, sizeof shown, "%s", value);
  struct blx_vm_spread *row = &place->spreads[place->n_spreads];
  *row = (struct blx_vm_spread)BLX_VM_SPREAD_INIT;
  char *colon = strchr(value, ':');
  while (colon != NULL) {
    char *part = colon + 1;
    *colon = '\0';
    colon = strchr(part, ':');
    if (colon != NULL) *colon = '\0';
    if (!take_spread_part(part, row)) return refuse(flag, shown, why);
  }
  if (!is_key(value)) return refuse(flag, shown, why);
  if (row->weight != 0 && row->max_skew == 0) return refuse(flag, shown, "a weight is for skew=N");
  if (row->max_per_domain == 0 && row->max_skew == 0) row->max_skew = 1;
  row->level = value;
  place->spread_list[place->n_spreads++] = row;
  return 0;
}

/* ---- how a node is chosen */

static bool find_strategy(const struct cli_flag *flag, const char *name, size_t len, int32_t *out) {
  for (size_t i = 0; i < flag->n_choices; i++) {
    if (strlen(flag->choices[i].label) != len || memcmp(flag->choices[i].label, name, len) != 0) continue;
    *out = flag->choices[i].value;
    return true;
  }
  return false;
}

/* "BestFit=70" of "BestFit=70,DataLocality=30". */
static bool take_part(struct cli_place *place, const struct cli_flag *flag, const char *text, size_t len) {
  const char *equals = memchr(text, '=', len);
  char number[8];
  uint64_t weight = 0;
  if (equals == NULL || place->n_parts == CLI_PARTS_MAX) return false;
  size_t digits = len - (size_t)(equals + 1 - text);
  struct blx_strategy_weight *row = &place->parts[place->n_parts];
  *row = (struct blx_strategy_weight)BLX_STRATEGY_WEIGHT_INIT;
  if (digits >= sizeof number || !find_strategy(flag, text, (size_t)(equals - text), &row->strategy)) return false;
  snprintf(number, sizeof number, "%.*s", (int)digits, equals + 1);
  if (!cli_parse_number(number, 1, WEIGHT_MAX, &weight)) return false;
  for (size_t i = 0; i < place->n_parts; i++)
    if (place->parts[i].strategy == row->strategy) return false;
  row->weight = (uint32_t)weight;
  place->part_list[place->n_parts++] = row;
  return true;
}

int cli_parse_strategy(struct cli_args *args, const struct cli_flag *flag, char *value) {
  char quoted[CLI_QUOTE_SIZE], known[128] = "";
  args->place.n_parts = 0;
  for (size_t i = 0; i < flag->n_choices; i++) {
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", flag->choices[i].label);
  }
  if (find_strategy(flag, value, strlen(value), &args->spec.strategy)) return 0;
  if (strchr(value, '=') == NULL)
    return cli_usage("--%s: %s is not one of %s, or several of these with weights: BestFit=70,DataLocality=30",
                     flag->name, cli_quote(quoted, sizeof quoted, value), known);
  args->spec.strategy = BLX_STRATEGY_COMBINED;
  for (const char *at = value; at != NULL;) {
    size_t len = strcspn(at, ",");
    if (!take_part(&args->place, flag, at, len))
      return cli_usage("--%s: %s is not NAME=WEIGHT,NAME=WEIGHT with weights from 1 to 100 and each of %s once at most",
                       flag->name, cli_quote(quoted, sizeof quoted, value), known);
    at = at[len] == ',' ? at + len + 1 : NULL;
  }
  return 0;
}

int cli_parse_near(struct cli_args *args, const struct cli_flag *flag, char *value) {
  struct cli_place *place = &args->place;
  if (place->n_nears == CLI_NEAR_MAX) return too_many(flag, CLI_NEAR_MAX);
  struct blx_near *row = &place->nears[place->n_nears];
  struct blx_label *domain = &place->domains[place->n_nears];
  *row = (struct blx_near)BLX_NEAR_INIT;
  char *equals = strchr(value, '=');
  if (strncmp(value, "vm/", 3) == 0 || strncmp(value, "node/", 5) == 0) {
    bool vm = value[0] == 'v';
    const char *name = cli_vm_name(value + (vm ? 3 : 5), vm ? 56 : CLI_NODE_NAME_MAX);
    if (name == NULL) return CLI_EXIT_USAGE;
    row->vm = vm ? name : NULL;
    row->node = vm ? NULL : name;
  } else if (equals != NULL && equals != value && equals - value <= KEY_MAX && strlen(equals + 1) <= VALUE_MAX) {
    *equals = '\0';
    *domain = (struct blx_label)BLX_LABEL_INIT;
    domain->key = value;
    domain->value = equals + 1;
    row->domain = domain;
  } else {
    return refuse(flag, value, "");
  }
  place->near_list[place->n_nears++] = row;
  return 0;
}

int cli_parse_data(struct cli_args *args, const struct cli_flag *flag, char *value) {
  struct cli_place *place = &args->place;
  char *equals = strrchr(value, '=');
  uint64_t bytes = 0;
  if (place->n_data == CLI_DATA_MAX) return too_many(flag, CLI_DATA_MAX);
  if (equals == NULL || equals == value || equals - value > 128 || !cli_parse_bytes(equals + 1, &bytes))
    return refuse(flag, value, "a key of at most 128 bytes and how much: volume/db=10GiB, template/debian=800MiB");
  *equals = '\0';
  struct blx_data_item *row = &place->data[place->n_data];
  *row = (struct blx_data_item)BLX_DATA_ITEM_INIT;
  row->key = value;
  row->bytes = bytes;
  place->data_list[place->n_data++] = row;
  return 0;
}

void cli_place_fill(struct cli_args *args) {
  struct blx_vm_spec *spec = &args->spec;
  struct cli_place *place = &args->place;
  spec->labels = args->labels.list;
  spec->n_labels = args->labels.count;
  spec->node_selector = args->selectors.list;
  spec->n_node_selector = args->selectors.count;
  spec->resources = place->resources.list;
  spec->n_resources = place->resources.count;
  spec->constraints = place->constraints.list;
  spec->n_constraints = place->constraints.count;
  spec->preferences = place->preferences.list;
  spec->n_preferences = place->preferences.count;
  spec->tolerations = place->toleration_list;
  spec->n_tolerations = place->n_tolerations;
  spec->affinity = place->affinity.list;
  spec->n_affinity = place->affinity.count;
  spec->spread = place->spread_list;
  spec->n_spread = place->n_spreads;
  spec->cpu_features = args->cpu_features.list;
  spec->n_cpu_features = args->cpu_features.count;
  spec->strategies = place->part_list;
  spec->n_strategies = place->n_parts;
  spec->near = place->near_list;
  spec->n_near = place->n_nears;
  spec->data = place->data_list;
  spec->n_data = place->n_data;
  spec->has_preemptible = place->no_preempt;
}

/* The fleet's parts. Nothing here depends on the order in which things were told: lists are searched for the least, not
 * for the first. */
#ifndef BLX__PLACEMENT_FLEET_INT_H
#define BLX__PLACEMENT_FLEET_INT_H

#include "base/map.h"
#include "placement/fleet.h"
#include "placement/fit.h"
#include "placement/survive.h"

enum {
  FLEET_SELF_MAX = BLX__PLACEMENT_AFFINITY_MAX + BLX__PLACEMENT_SPREAD_MAX,
  FLEET_LEVELS_OWN = 4, /* host, rack, zone, and what must be survived */
  /* Those of a cluster's VMs, and of one shape that is only asked about. */
  FLEET_LEVELS_MAX = BLX__PLACEMENT_LEVELS_MAX + FLEET_LEVELS_OWN + FLEET_SELF_MAX,
  FLEET_NEAR_MAX = 4,
  FLEET_COST_MAX = 1000000, /* of a strategy; 100 * FLEET_WEIGHT of a preference */
  FLEET_WEIGHT = 10000,
  FLEET_LINE = 64, /* bytes, of most caches */
  FLEET_VM_ON = 8, /* instances whose nodes a VM's record holds: it is one line then */
};
#define FLEET_NONE UINT32_MAX /* no slot */

/* uid -> slot of a record that begins with it: open addressing, at most four fifths full. */
struct fleet_ids {
  struct fleet_id {
    uint32_t hash, plus_one; /* of the uid; slot + 1, 0: free */
  } * at;
  size_t room, count;  /* room: a power of two, or 0 */
  const void *records; /* borrowed; of every uid that is in */
  size_t record_bytes;
};
void fleet_ids_of(struct fleet_ids *ids, const void *records, size_t record_bytes); /* also when they moved */
bool fleet_ids_reserve(struct fleet_ids *ids, size_t n) BLX__MUST; /* for so many in all; false: no memory */
bool fleet_ids_set(struct fleet_ids *ids, uint64_t uid, uint32_t slot) BLX__MUST; /* not in yet; false: no memory */
uint32_t fleet_ids_get(const struct fleet_ids *ids, uint64_t uid);                /* FLEET_NONE: not there */
void fleet_ids_remove(struct fleet_ids *ids, uint64_t uid);                       /* before its record is another */
void fleet_ids_fetch(const struct fleet_ids *ids, uint64_t uid);                  /* it will be asked for soon */
void fleet_ids_clear(struct fleet_ids *ids);
void fleet_ids_free(struct fleet_ids *ids);

/* Room for @bytes in place of @records, of which @used are kept: whole lines of a cache, so that a record lies in as
 * few as may be. NULL: no memory, and the old are as they were. */
void *fleet_grow(void *records, size_t used, size_t bytes);

/* ---- levels: into which domains a label divides the nodes */

struct fleet_level {
  char *name;
  uint32_t refs;
  struct blx__map ids;           /* value, with its NUL -> struct fleet_domain */
  struct fleet_domain **domains; /* by number, NULL where free */
  uint32_t n_domains;            /* numbers given out, free ones among them */
  uint32_t *of;                  /* per node's slot */
};

struct fleet_domain {
  uint32_t number, nodes;
  char value[];
};

/* A selector of VMs of a tenant at a level, shared by all that name it. */
struct fleet_rule {
  struct fleet_level *level;
  struct blx_vm_affinity *said; /* owned; its selector counts */
  uint32_t refs;
  uint32_t *match, *holders; /* per domain: instances that match; instances with this as a hard apart rule */
  uint32_t matches, all_holders, room;
};

struct fleet_tenant {
  char *name;
  uint32_t refs;         /* classes and VMs */
  struct blx__map vms;   /* name -> struct fleet_vm */
  struct blx__map rules; /* digest -> struct fleet_rule */
  struct fleet_class *classes;
};

/* What VMs have in common that differ by name and number of replicas only. */
struct fleet_class {
  struct fleet_class *next, *prev; /* in its tenant */
  struct fleet_tenant *tenant;
  uint8_t key[32];
  uint32_t refs, instances; /* VMs, placed instances of them */
  struct blx_vm_spec *spec; /* owned */
  struct blx_quota *quota;  /* owned, or NULL */
  struct blx__placement_need need;
  struct fleet_rule *rule[BLX__PLACEMENT_AFFINITY_MAX]; /* NULL: the VM itself */
  struct fleet_level *level[BLX__PLACEMENT_AFFINITY_MAX], *spread[BLX__PLACEMENT_SPREAD_MAX];
  bool itself[BLX__PLACEMENT_AFFINITY_MAX];
  struct fleet_rule **matched; /* rules of its tenant that its labels match */
  size_t n_matched, matched_room;
  struct fleet_rule *apart[BLX__PLACEMENT_AFFINITY_MAX]; /* its hard apart rules, each once */
  size_t n_apart;
  bool node_quota, is_auto;
  bool fits;                        /* BestFit has a say */
  bool moves, proximity;            /* its cost depends on residents; by NetworkProximity */
  struct fleet_shape *shape, *pair; /* pair: both shape and kind */
  struct fleet_kind *kind;
};

struct fleet_vm {
  uint64_t uid;
  struct fleet_class *class;
  char *name;
  uint32_t first, n;        /* its placed instances */
  uint32_t on[FLEET_VM_ON]; /* their nodes, in no order, as long as they are so few */
};

struct fleet_instance {
  uint64_t uid;
  uint32_t vm, node; /* slots */
  uint32_t next_on_node, prev_on_node, next_of_vm, prev_of_vm;
};

/* What of an instance is seldom asked for. */
struct fleet_term {
  uint64_t epoch;
  bool ending;
};

/* What a decision asks for is in its first line, and in that of the view's end. */
struct fleet_node {
  _Alignas(FLEET_LINE) struct blx__placement_node view; /* begins with the uid */
  bool usable;
  uint32_t first, n; /* its instances */
  uint32_t autos;    /* of them with ha=auto */
  uint64_t hash;
  struct blx_node_info *rec; /* owned; what view points to */
  struct blx__placement_amount *named;
  uint64_t *named_extra, extra_cpu_milli, extra_memory_mib; /* of what is allocated: by what was not told */
  uint64_t raw_cpu_milli, raw_memory_mib;                   /* before overcommit */
  const char *why_not;
};

struct fleet_strategy {
  char name[64];
  blx__fleet_score_fn fn;
  void *user;
};

/* Instances of the asking VM per domain, filled at the begin of a question and empty again at its end. */
struct fleet_self {
  struct fleet_level *level;
  uint32_t *count; /* per domain */
};

/* What the entries of spec.near name, a bit for each entry, from the begin of a question to its end. */
struct fleet_near {
  uint8_t *host, *rack, *zone; /* per domain */
  struct fleet_apart {
    uint32_t zone, far;
  } apart[FLEET_NEAR_MAX][2 * BLX__PLACEMENT_DISTANCES_MAX]; /* per entry: zones that are so far from one of its own */
  size_t n_apart[FLEET_NEAR_MAX];
};

struct blx__fleet {
  struct blx__fleet_options options;
  struct blx_placement_settings *settings; /* owned, or NULL */

  struct fleet_node *nodes; /* nodes_max; uid 0: free; from nodes_used on: not set */
  struct fleet_ids node_ids;
  uint32_t nodes_used, nodes_free; /* slots ever used; the first free one, linked by `first` */
  struct fleet_level *levels[FLEET_LEVELS_MAX];
  size_t n_levels;
  struct fleet_level *host, *rack, *zone; /* rack: within its zone */
  struct fleet_level *survive;            /* NULL: no domain must be survived */

  struct fleet_vm *vms;
  struct fleet_ids vm_ids;
  uint32_t vms_used, vms_free, vms_room;
  struct blx__map tenants, classes; /* name -> fleet_tenant, digest -> fleet_class */

  struct fleet_instance *instances;
  struct fleet_term *terms; /* per instance */
  struct fleet_ids instance_ids;
  uint32_t instances_used, instances_free, instances_room, instances_count;

  struct fleet_strategy strategies[BLX__FLEET_STRATEGIES_MAX];
  size_t n_strategies;
  struct fleet_learn *learn; /* NULL: nothing was told yet, and it does not count itself */

  struct fleet_index *index;

  /* of one question */
  struct fleet_self self[FLEET_SELF_MAX];
  uint32_t *replicas;         /* per slot, of the asking VM */
  uint8_t *out;               /* per slot: enum fleet_out */
  uint64_t *weights;          /* per domain, for survive */
  uint64_t *places, *weighed; /* per slot, for survive */
  struct fleet_near near;
  size_t record_bytes;
};

enum fleet_out { FLEET_IN, FLEET_BARRED = 1, FLEET_RESERVED = 2 };

/* A question: what is counted once for all nodes. */
struct fleet_query {
  struct blx__fleet *f;
  const struct blx__fleet_request *request;
  struct fleet_vm *vm;
  const struct fleet_class *class;
  uint32_t own, own_node; /* the instance taken away meanwhile, or FLEET_NONE; and where it was */
  size_t n_self;
  size_t self_of_affinity[BLX__PLACEMENT_AFFINITY_MAX], self_of_spread[BLX__PLACEMENT_SPREAD_MAX];
  uint32_t emptiest[BLX__PLACEMENT_SPREAD_MAX]; /* per spread rule: replicas in the domain with the fewest */
  bool others;                                  /* what is around a node has a say */
  size_t also;                                  /* replicas that were not told */
  bool demanded, unsettled;                     /* survival is; and was weighed with instances away */
  bool survives;                                /* it is demanded */
  struct blx__survive_shape shape;
  uint64_t places;                            /* all places of that shape */
  uint64_t worst[BLX__SURVIVE_NODES_MAX + 1]; /* the heaviest nodes, and one more */
  uint32_t worst_slot[BLX__SURVIVE_NODES_MAX + 1];
  uint64_t first_domain, second_domain; /* weights of the two heaviest domains, and the number of the first */
  uint32_t first_number;
  const struct fleet_vm *near_vm[FLEET_NEAR_MAX];
  uint8_t near_found; /* entries of spec.near by which any node is marked */
};

/* False: the VM is not known. Every begin has its end, between which nothing is told. */
bool fleet_query_begin(struct fleet_query *q, struct blx__fleet *f, const struct blx__fleet_request *request);
void fleet_query_end(struct fleet_query *q);

/* Instances that match an affinity rule in the node's domain; other replicas in its domain of a spread rule. */
uint32_t fleet_near(const struct fleet_query *q, uint32_t slot, size_t rule);
uint32_t fleet_replicas(const struct fleet_query *q, uint32_t slot, size_t rule);
void fleet_around(const struct fleet_query *q, uint32_t slot, struct blx__placement_around *out);
/* The name of a VM whose hard apart rule keeps the asking one from a node, the one with the lowest uid; NULL: none. */
const char *fleet_unwanted_by(const struct fleet_query *q, uint32_t slot);
bool fleet_fits(const struct fleet_query *q, uint32_t slot);
/* All obstacles, the engine's among them. */
void fleet_obstacles(const struct fleet_query *q, uint32_t slot, struct blx__placement_around *around,
                     struct blx__placement_verdict *out);
/* Within a question instances of one node went away, or came back: one of the asking VM's own is counted so; and does
 * it fit now. */
void fleet_query_own(struct fleet_query *q, uint32_t slot, bool there);
bool fleet_query_fits(struct fleet_query *q, uint32_t slot);
void fleet_query_settle(struct fleet_query *q); /* all are back */
void fleet_verdict(const struct fleet_query *q, uint32_t slot, struct blx__fleet_verdict *out);

/* ---- places in order */
struct fleet_rank {
  bool avoided, not_sticky, avoids;
  uint32_t replicas;
  uint64_t cost, hash, uid;
};
struct fleet_rank fleet_rank(const struct fleet_query *q, uint32_t slot);
bool fleet_ranks_before(const struct fleet_rank *a, const struct fleet_rank *b);

/* ---- levels and rules */
struct fleet_level *fleet_level_ref(struct blx__fleet *f, const char *name, blx_error *err); /* NULL: see @err */
void fleet_level_unref(struct blx__fleet *f, struct fleet_level *level);
bool fleet_levels_put(struct blx__fleet *f, uint32_t slot) BLX__MUST; /* into its domains, out of those before */
void fleet_levels_drop(struct blx__fleet *f, uint32_t slot);
void fleet_levels_free(struct blx__fleet *f);
blx__rc fleet_class_rules(struct blx__fleet *f, struct fleet_class *c, blx_error *err) BLX__MUST;
void fleet_class_rules_drop(struct blx__fleet *f, struct fleet_class *c);
/* Room for one more domain in the counters of every rule of a level. */
bool fleet_rules_grow(struct blx__fleet *f, const struct fleet_level *level) BLX__MUST;
void fleet_count_rules(const struct fleet_class *c, uint32_t slot, int32_t by);
/* A node left its domains, or comes into them: so do its instances. */
void fleet_count_node(struct blx__fleet *f, uint32_t slot, int32_t by);

/* ---- what BestFit goes by */
struct fleet_learn *fleet_learn_new(const struct blx__fleet_options *o); /* NULL: no memory */
void fleet_learn_free(struct fleet_learn *l);
size_t fleet_learn_bytes(const struct blx__fleet *f);
const struct blx__fit *fleet_fit(const struct blx__fleet *f); /* NULL: nothing is known yet */
void fleet_arrived(struct blx__fleet *f, const struct fleet_class *c);

/* ---- instances */
void fleet_attach(struct blx__fleet *f, uint32_t instance, uint32_t node);
void fleet_detach(struct blx__fleet *f, uint32_t instance);
void fleet_use(struct blx__fleet *f, uint32_t node, const struct fleet_class *c, bool used);
void fleet_instance_free(struct blx__fleet *f, uint32_t instance); /* detached */

/* The class of a VM that is told anew. NULL: see @err. */
struct fleet_class *fleet_class_ref(struct blx__fleet *f, const char *tenant, const struct blx_vm_spec *spec,
                                    const struct blx_quota *quota, blx_error *err);
void fleet_class_unref(struct blx__fleet *f, struct fleet_class *c);
void fleet_vms_free(struct blx__fleet *f);
void fleet_tenant_unref(struct blx__fleet *f, struct fleet_tenant *t);

#endif

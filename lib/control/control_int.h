/* Inside lib/control: the view, which is a cache of the state, and the parts of a step. */
#ifndef BLX__CONTROL_CONTROL_INT_H
#define BLX__CONTROL_CONTROL_INT_H

#include "base/map.h"
#include "control/control.h"
#include "placement/fleet.h"

/* ---- view.c: what the engine was told, and by which revisions */
struct view_told {
  uint64_t uid, vm_uid, epoch;
  bool ending;
};

struct view_node {
  uint64_t uid, revision, share;
  struct blx__control_soft soft; /* as it was told; what it points to is not looked at */
  uint64_t cpu_milli, memory_mib;
  struct view_told *told; /* the instances there, by uid */
  size_t n_told, told_room;
  bool changed;
  bool unclear; /* since a recovery it has not said what runs there */
};

struct view_tenant {
  char name[57];
  size_t vms;                     /* that were told */
  uint64_t cpu_milli, memory_mib; /* of its instances that have a node, those given one on paper too */
};

struct view_vm {
  uint64_t uid, spec_revision, quota_revision;
  size_t placed;
  struct view_tenant *tenant;
  uint64_t cpu_milli, memory_mib; /* of one instance */
};

enum { CONTROL_SHAPES_MAX = 128 };

struct blx__control {
  struct blx__fleet *fleet; /* NULL: to be built anew */
  struct view_node *nodes;  /* by uid */
  size_t n_nodes, nodes_room;
  size_t unknown;          /* nodes not heard from since this leader was elected */
  struct blx__map vms;     /* uid -> struct view_vm */
  struct blx__map tenants; /* name -> struct view_tenant */
  uint64_t settings_revision;
  struct blx__fleet_shape shapes[CONTROL_SHAPES_MAX];
  size_t n_shapes;
  bool shapes_told, stale;        /* stale: something was told since the engine last looked at all of it */
  uint64_t cpu_milli, memory_mib; /* of all nodes */
  struct paper *paper;            /* what the engine was told beside what is so, to be taken back */
  size_t n_paper, paper_room;
};

/* Something said on paper: an instance that was given a node, or one that is to end. */
struct paper {
  struct blx__fleet_instance was, is; /* was.node_uid 0: it had none */
};

/* ---- view.c */
/* Bring the view up to date. Takes back what is on paper. */
blx__rc blx__view_update(struct blx__control *c, const struct blx__control_input *in, blx_error *err) BLX__MUST;
/* The VM is told, as it is now; one that is not there, with the uid CONTROL_UID, until it is dropped. NULL: an error.
 */
enum { CONTROL_MOST_NODES = 20 /* in a report that is not to have all */ };
#define CONTROL_UID (UINT64_MAX / 2)
struct view_vm *blx__view_guest(struct blx__control *c, const struct blx__state *st, const char *tenant,
                                const struct blx_vm_spec *spec, blx_error *err);
void blx__view_drop_guest(struct blx__control *c);
struct view_vm *blx__view_vm(struct blx__control *c, const struct blx__state *st, const struct blx_vm *vm,
                             blx_error *err);
struct view_node *blx__view_node(const struct blx__control *c, uint64_t uid);
/* @vm's instance takes the node on paper; or, on its node already, ends on paper. */
blx__rc blx__view_give(struct blx__control *c, struct view_vm *vm, const struct blx__fleet_instance *to,
                       blx_error *err) BLX__MUST;
blx__rc blx__view_end(struct blx__control *c, const struct blx_instance *victim, blx_error *err) BLX__MUST;
void blx__view_undo(struct blx__control *c);
/* The greatest part that the tenant has of all processors, or of all memory, in millionths. */
uint64_t blx__view_share(const struct blx__control *c, const struct view_tenant *t);

/* ---- step.c */
/* Encode @op into the arena, as the next of @out, which has room. Errors: NOMEM. */
blx__rc blx__control_propose(struct blx__control_out *out, struct blx__arena *arena, const struct blx_op *op,
                             blx_error *err) BLX__MUST;
/* Step again at @at_ms, or earlier. */
void blx__control_due(struct blx__control_out *out, uint64_t at_ms);

/* ---- fence.c */
blx__rc blx__control_fence(const struct blx__control_input *in, struct blx__arena *arena, struct blx__control_out *out,
                           blx_error *err) BLX__MUST;

/* ---- schedule.c: instances that are not there yet, and have their turn among those that wait */
struct blx__guest_did {
  const struct blx_instance *i;
  uint64_t node_uid;                 /* that it is given; 0: none, and */
  struct blx__fleet_preemption room; /* others end for it there; node_uid 0: nowhere, and */
  const char *text;                  /* why none can take it */
  size_t before;                     /* so many of those that wait were given a node before it, */
  const struct blx_instance *first;  /* this one first */
};

struct blx__guests {
  const struct blx_vm *vm;
  const struct blx_instance *list; /* of it, by ordinal; uids above CONTROL_UID, as old as they are */
  size_t n;
  void *user;
  /* What is asked for each of them, before it is given anything; and what became of it. */
  blx__rc (*looked)(void *user, const struct blx_instance *i, const struct blx__fleet_request *r, bool found,
                    blx_error *err);
  blx__rc (*done)(void *user, const struct blx__guest_did *did, blx_error *err);
};

/* On paper, which stays, until all of them had their turn. The view is up to date, and knows the VM. Errors: NOMEM, and
 * those of the functions. */
blx__rc blx__control_seat(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                          const struct blx__guests *guests, blx_error *err) BLX__MUST;

/* ---- queue.c: in which order the instances that wait have their turn */
struct queue;
/* @guests  NULL: none */
blx__rc blx__queue_new(struct blx__control *c, const struct blx__control_input *in, const struct blx__guests *guests,
                       struct blx__arena *arena, struct queue **out, blx_error *err) BLX__MUST;
/* The next, NULL: that was all of this step. What the one before was given counts as its tenant's. */
const struct blx_instance *blx__queue_next(struct queue *q);
/* The one that was returned last is the oldest of its priority, and has waited for long. The next one of that age comes
 * then, until it is said that one was helped. */
bool blx__queue_is_patient(const struct queue *q);
void blx__queue_content(struct queue *q);
bool blx__queue_cut(const struct queue *q); /* more wait than one step looks at */
/* All of them, in no order that matters; NULL past the end. */
const struct blx_instance *blx__queue_look(const struct queue *q, size_t at);

/* ---- schedule.c */
enum { CONTROL_BARRED_MAX = 64 };
/* What is asked of the engine for that instance. Nodes that must still remove an earlier one of its name are barred. */
struct blx__fleet_request blx__control_request(const struct blx__state *st, const struct blx_instance *i,
                                               const struct blx_vm *vm, uint64_t barred[CONTROL_BARRED_MAX]);
/* Instances that could end so that one of @as fits; none of a VM that it depends on. */
bool blx__control_preempt(const struct blx__control *c, const struct blx__state *st, const struct blx_vm *as,
                          const struct blx__fleet_request *request, struct blx__fleet_preemption *out);
blx__rc blx__control_schedule(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                              struct blx__control_out *out, blx_error *err) BLX__MUST;

#endif

/* How well strategies pack: what the parts of the benchmark (quality*.c) share. */
#ifndef BLX_TESTS_BENCH_QUALITY_H
#define BLX_TESTS_BENCH_QUALITY_H

#include <blixard/blixard.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { NODES_MAX = 4096, REQUESTS_MAX = 65536, OURS = 7, OURS_CLUSTER, STRATEGIES };

/* Of a node what it has, of a request what it needs. */
struct amount {
  uint64_t cpu_milli, memory_mib;
};

/* Requests that come to a fleet one after the other. */
struct trial {
  struct amount nodes[NODES_MAX], requests[REQUESTS_MAX];
  size_t n_nodes, n_requests;
  bool cycle; /* begin again after the last request */
  bool stop;  /* at the first refusal; one of the two must end it */
};

struct outcome {
  uint64_t placed, refused, machines; /* machines that took something */
  double cpu_pct, memory_pct;         /* of the fleet's, that is allocated in the end */
};

void fail(const char *what, const char *which);

/* ---- input */

void load(const char *folder, struct trial *t); /* nodes.csv and pods.csv */

/* Draws from splitmix64 (Steele et al., 2014). */
uint64_t draw(uint64_t *seed, uint64_t below);
void resample(const struct trial *from, uint64_t seed, struct trial *to); /* as many requests, drawn with repetition */
void shuffle(const struct trial *from, uint64_t seed, struct trial *to);

/* Machines drawn from @from and cut into requests without rest: all of it fits, for one who knew the cuts. */
enum { CUT_IN_PARTS, CUT_BY_TRACE, CUT_AT_RANDOM, CUTS };
extern const char *const cut_names[CUTS];
void plant(const struct trial *from, int cut, uint64_t seed, size_t machines, struct trial *to);

/* ---- strategies */

extern const char *const strategy_names[STRATEGIES];

/* @curve  NULL, or where "arrivals,strategy,NUMBER,ALLOCATED,MACHINES" lines go */
struct outcome run(const struct trial *t, int strategy, FILE *curve);

/* A node as placement is told it; it points into itself. */
struct described {
  char name[32];
  int32_t qemu;
  struct blx_resources room;
  struct blx_node_info node;
};
void describe(struct described *d, size_t number, const struct amount *has);

struct engine;
struct engine *engine_open(const struct trial *t);
size_t engine_place(struct engine *e, const struct amount *need); /* a node's number; n_nodes: refused */
void engine_close(struct engine *e);

/* The same with what the leader of a cluster goes by. */
struct cluster;
struct cluster *cluster_open(const struct trial *t);
size_t cluster_place(struct cluster *c, const struct amount *need);
void cluster_close(struct cluster *c);

/* Machines below which the requests cannot be placed, from a linear program that GLPK solves. 0: there is no glpsol. */
uint64_t bound(const struct trial *t);

#endif

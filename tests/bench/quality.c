/* Quality of placement: the trace OpenB in its order and in ten drawn from it, cycled until the first refusal; the
 * whole trace once, in its order and shuffled, against a linear bound; planted instances. Every strategy gets the same
 * input. Prints tables, writes all results as CSV, and ends with 1 if a demanded figure is missed.
 *
 * usage: quality FOLDER [RESULTS.csv]     FOLDER holds nodes.csv and pods.csv
 *
 * BestFit was tuned on the trace's order and on seeds 1 to 10 of the resamples and shuffles and 1 to 4 of the planted
 * ones, its RESERVE also on resamples 910001 to 913010. The seeds here are others: these figures validate, as far as
 * the same trace can. */
#include "quality.h"

#include <stdlib.h>
#include <string.h>

enum {
  ORDERS = 11, /* the trace's own, and ten */
  PLANTED_EACH = 5,
  PLANTED = CUTS * PLANTED_EACH,
  PLANTED_MACHINES = 300,
  ORDER_SEED = 940000,
  SHUFFLE_SEED = 950000,
  PLANTED_SEED = 960000,
};

struct table {
  struct outcome of[PLANTED][STRATEGIES];
  size_t n;
};

static struct trial trace, trial;
static struct table orders, whole, planted;
static uint64_t least;
static FILE *results;
static int missed;

/* ---- runs */

static void run_all(struct table *table, const char *set, uint64_t seed, bool curve) {
  for (int s = 0; s < STRATEGIES; s++) {
    struct outcome *o = &table->of[table->n][s];
    *o = run(&trial, s, curve ? results : NULL);
    if (results)
      fprintf(results, "%s,%s,%llu,%.3f,%.3f,%llu,%llu,%llu\n", set, strategy_names[s], (unsigned long long)seed,
              o->cpu_pct, o->memory_pct, (unsigned long long)o->machines, (unsigned long long)o->refused,
              (unsigned long long)o->placed);
  }
  table->n++;
}

static void run_orders(void) {
  for (uint64_t i = 0; i < ORDERS; i++) {
    trial = trace;
    if (i > 0) resample(&trace, ORDER_SEED + i, &trial);
    trial.cycle = trial.stop = true;
    run_all(&orders, "order", i > 0 ? ORDER_SEED + i : 0, i == 0);
  }
}

static void run_whole(void) {
  least = bound(&trace);
  for (uint64_t i = 0; i < ORDERS; i++) {
    trial = trace;
    if (i > 0) shuffle(&trace, SHUFFLE_SEED + i, &trial);
    trial.cycle = trial.stop = false;
    run_all(&whole, "whole", i > 0 ? SHUFFLE_SEED + i : 0, false);
  }
}

static void run_planted(void) {
  for (int i = 0; i < PLANTED; i++) {
    uint64_t seed = PLANTED_SEED + (uint64_t)i;
    plant(&trace, i / PLANTED_EACH, seed, PLANTED_MACHINES, &trial);
    run_all(&planted, "planted", seed, false);
  }
}

/* ---- tables */

static void head(const char *title) {
  printf("\n%s\n%-24s", title, "");
  for (int s = 0; s < STRATEGIES; s++) printf(" %18s", strategy_names[s]);
  printf("\n");
}

static void row_pct(const char *name, uint64_t seed, const struct outcome of[]) {
  printf("%-17s %6llu", name, (unsigned long long)seed);
  for (int s = 0; s < STRATEGIES; s++) printf(" %18.2f", of[s].cpu_pct);
  printf("\n");
}

static double mean(const struct table *t, int strategy) {
  double sum = 0;
  for (size_t i = 0; i < t->n; i++) sum += t->of[i][strategy].cpu_pct;
  return sum / (double)t->n;
}

static void row_mean(const struct table *t) {
  printf("%-24s", "mean");
  for (int s = 0; s < STRATEGIES; s++) printf(" %18.2f", mean(t, s));
  printf("\n");
}

static void print_tables(void) {
  head("Cores allocated at the first refusal, %: arrivals cycled");
  for (uint64_t i = 0; i < orders.n; i++)
    row_pct(i ? "resampled, seed" : "the trace", i ? ORDER_SEED + i : 0, orders.of[i]);
  row_mean(&orders);
  head("Machines used (requests refused): the whole trace once");
  for (uint64_t i = 0; i < whole.n; i++) {
    printf("%-17s %6llu", i ? "shuffled, seed" : "the trace", (unsigned long long)(i ? SHUFFLE_SEED + i : 0));
    for (int s = 0; s < STRATEGIES; s++)
      printf(" %12llu (%3llu)", (unsigned long long)whole.of[i][s].machines,
             (unsigned long long)whole.of[i][s].refused);
    printf("\n");
  }
  head("Cores allocated at the first refusal, %: planted instances of 300 full machines");
  for (size_t i = 0; i < planted.n; i++)
    row_pct(cut_names[i / PLANTED_EACH], PLANTED_SEED + (uint64_t)i, planted.of[i]);
  row_mean(&planted);
}

/* ---- what is demanded */

static double best_of(const struct outcome of[]) {
  double best = 0;
  for (int s = 0; s < OURS; s++) best = of[s].cpu_pct > best ? of[s].cpu_pct : best;
  return best;
}

static double best_mean(const struct table *t) {
  double best = 0;
  for (int s = 0; s < OURS; s++) best = mean(t, s) > best ? mean(t, s) : best;
  return best;
}

/* How far the best of the others was passed where that was least. */
static double least_lead(const struct table *t) {
  double lead = 100;
  for (size_t i = 0; i < t->n; i++) {
    double here = t->of[i][OURS].cpu_pct - best_of(t->of[i]);
    lead = here < lead ? here : lead;
  }
  return lead;
}

static void check(const char *what, double is, double demanded, bool at_most) {
  bool holds = at_most ? is <= demanded : is >= demanded;
  printf("%s  %s: %.2f, at %s %.2f\n", holds ? "pass" : "FAIL", what, is, at_most ? "most" : "least", demanded);
  missed += !holds;
}

/* In a cluster the engine goes by less: nothing is demanded of that. */
static void print_cluster(void) {
  printf("      in a cluster: %.2f %%, %.2f points above the best mean of the others; %llu machines, %llu refused; "
         "planted %.2f points above\n",
         mean(&orders, OURS_CLUSTER), mean(&orders, OURS_CLUSTER) - best_mean(&orders),
         (unsigned long long)whole.of[0][OURS_CLUSTER].machines, (unsigned long long)whole.of[0][OURS_CLUSTER].refused,
         mean(&planted, OURS_CLUSTER) - best_mean(&planted));
}

static void check_all(void) {
  const struct outcome *one = &whole.of[0][OURS];
  printf("\n");
  check("orders: mean allocation, %", mean(&orders, OURS), 98.30, false);
  check("orders: mean above the best mean of the others, points", mean(&orders, OURS) - best_mean(&orders), 0.10,
        false);
  check("orders: above the best of the others where that is least, points", least_lead(&orders), -0.05, false);
  check("whole trace: refused", (double)one->refused, 0, true);
  if (least > 0)
    check("whole trace: machines above the linear bound, %",
          100 * ((double)one->machines - (double)least) / (double)least, 2, true);
  else
    printf("skipped  whole trace against the linear bound: there is no glpsol (Debian: glpk-utils)\n");
  check("planted: mean above the best mean of the others, points", mean(&planted, OURS) - best_mean(&planted), 1,
        false);
  printf("      planted: where the lead over the best of the others is least, it is %.2f points\n",
         least_lead(&planted));
  print_cluster();
  if (least > 0) printf("      the linear bound is %llu machines\n", (unsigned long long)least);
}

int main(int argc, char **argv) {
  char nodes[4096];
  if (argc < 2) fail("usage", "quality FOLDER [RESULTS.csv]");
  (void)snprintf(nodes, sizeof nodes, "%s/nodes.csv", argv[1]);
  FILE *there = fopen(nodes, "r");
  if (!there) {
    printf("quality: skipped: %s cannot be read; BLX_OPENB names the folder of the trace OpenB\n", nodes);
    return 0;
  }
  (void)fclose(there);
  results = argc > 2 ? fopen(argv[2], "w") : NULL;
  if (argc > 2 && !results) fail("cannot be written", argv[2]);
  if (results) fprintf(results, "set,strategy,seed,cpu_pct,memory_pct,machines,refused,placed\n");
  load(argv[1], &trace);
  run_orders();
  run_whole();
  run_planted();
  print_tables();
  check_all();
  if (results && fclose(results) != 0) fail("cannot be written", argv[2]);
  return missed ? 1 : 0;
}

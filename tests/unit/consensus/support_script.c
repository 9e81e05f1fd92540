#include "support.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void outcome_cb(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct outcome *o = user;
  o->fired++;
  o->code = err ? err->code : 0;
  o->index = index;
  o->result_len = result.len;
}

struct world *script_new(const struct sim_options *options) {
  static const struct sim_options usual = {
      .seed = 7, .nodes = 3, .fsm = &sim_fsm_log, .heartbeat_ms = 100, .election_ms = 1000};
  struct world *w = calloc(1, sizeof *w);
  ck_assert_ptr_nonnull(w);
  struct sim_options o = options ? *options : usual;
  if (!o.nodes) o.nodes = usual.nodes;
  o.fsm = usual.fsm;
  o.heartbeat_ms = usual.heartbeat_ms;
  o.election_ms = usual.election_ms;
  world_init(w, &o);
  for (unsigned i = 0; i < w->nodes_count; i++) node_start(&w->nodes[i]);
  return w;
}

void script_free(struct world *w) {
  ck_assert_msg(!w->failed, "%s", w->why);
  world_free(w);
  free(w);
}

static bool leads(struct world *w, void *arg) {
  const struct sim_node *n = arg;
  (void)w;
  struct blx__consensus_status s;
  blx__consensus_status(n->c, &s);
  return s.role == BLX__ROLE_LEADER;
}

void script_elect(struct world *w, unsigned i) {
  for (unsigned k = 0; k < w->nodes_count; k++) w->nodes[k].votes_muted = k != i;
  ck_assert_msg(world_until(w, leads, &w->nodes[i], 20000), "n%u does not become leader: %s", i + 1, w->why);
  for (unsigned k = 0; k < w->nodes_count; k++) w->nodes[k].votes_muted = false;
}

int script_propose(struct world *w, unsigned i, uint64_t id, struct outcome *o) {
  *o = (struct outcome){0};
  const struct blx__slice op = {.data = (const uint8_t *)&id, .len = sizeof id};
  return blx__consensus_propose(w->nodes[i].c, op, outcome_cb, o, NULL).code;
}

bool script_has(struct world *w, unsigned i, uint64_t id) {
  return sim_fsm_log.has(w->nodes[i].fsm, id);
}

const struct raft *script_raft(struct world *w, unsigned i) {
  return blx__consensus_raft(w->nodes[i].c);
}

bool script_fired(struct world *w, void *outcome) {
  (void)w;
  return ((struct outcome *)outcome)->fired > 0;
}

void script_commit(struct world *w, unsigned i, uint64_t from, uint64_t to) {
  for (uint64_t id = from; id <= to; id++) {
    struct outcome x;
    ck_assert_int_eq(script_propose(w, i, id, &x), 0);
    ck_assert(world_until(w, script_fired, &x, 2000));
    ck_assert_int_eq(x.code, 0);
  }
}

bool script_ends_badly(int (*scenario)(unsigned mask), unsigned mask) {
  pid_t pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)dup2(null, STDERR_FILENO); /* a sanitizer's report of what is meant to happen */
    (void)scenario(mask);
    _exit(0);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

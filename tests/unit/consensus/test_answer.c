/* An answer that cannot be sent: libraft 0.15.0 by itself then frees the entries of the message twice. */
#include "../harness.h"
#include "consensus/consensus_int.h"
#include "support.h"

static bool send_refused(void *user, uint64_t to_uid, struct blx__slice message) {
  (void)user;
  (void)to_uid;
  (void)message;
  return false;
}

/* To n2, of the leader n1: one entry behind @prev. */
static void deliver_entry(struct world *w, uint64_t prev, uint64_t prev_term) {
  uint64_t op = 1;
  struct raft_entry entry = {.term = script_raft(w, 0)->current_term, .type = RAFT_COMMAND};
  entry.buf = (struct raft_buffer){.base = &op, .len = sizeof op};
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .server_address = "n2"};
  m.append_entries =
      (struct raft_append_entries){.term = entry.term, .prev_log_index = prev, .prev_log_term = prev_term};
  m.append_entries.entries = &entry;
  m.append_entries.n_entries = 1;
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__CONSENSUS_MESSAGE_MAX);
  ck_assert(message_encode(&bytes, &m));
  blx__consensus_deliver(w->nodes[1].c, 1, (struct blx__slice){.data = bytes.data, .len = bytes.len});
  blx__buf_free(&bytes);
}

/* Refused entries free their memory once, and the member serves on. */
static void refuse(void) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 500);
  struct blx__consensus *c = w->nodes[1].c;
  uint64_t applied = script_raft(w, 1)->last_applied;
  ck_assert_uint_gt(applied, 0);
  bool (*send)(void *, uint64_t, struct blx__slice) = c->o.send;
  c->o.send = send_refused;
  for (unsigned i = 0; i < 3; i++) deliver_entry(w, applied + 1000, 1);
  c->o.send = send;
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 77, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 5000));
  ck_assert_int_eq(x.code, 0);
  world_run_ms(w, 500);
  ck_assert(script_has(w, 1, 77));
  script_free(w);
}

START_TEST(an_answer_that_cannot_be_sent__is_lost_and_nothing_else_is) {
  refuse();
}
END_TEST

BLX_TEST_MAIN("answers", an_answer_that_cannot_be_sent__is_lost_and_nothing_else_is)

#include "../harness.h"

#include "client/channel.h"
#include "io/file.h"
#include "io/timer.h"
#include "rpc/conn.h"
#include "schema/codec.h"
#include "schema/internal.h"

#include <string.h>

enum { MEMBERS = 3, HELLO_MS = 60, HELLO_LONG_MS = 1200 };
static uint32_t hello_ms = HELLO_MS; /* of the worlds that are opened */

static const char path[] = "/t.M/Channel";

struct member {
  struct world *w;
  uint64_t uid;
  char address[96];
  struct blx__rpc_service service;
  struct blx__rpc_server *server;
  struct blx__channel *channel;
  uint64_t heard, heard_bytes, from_sum;
  uint64_t seed; /* of the messages that come: each is checked against it */
  bool spoilt;   /* one was not as it was sent */
  bool close_when_heard;
  uint64_t refuses; /* the uid of a member that it does not speak with */
  unsigned refused; /* how often it was told so itself */
  uint64_t refused_by;
  char refused_why[160];
  bool close_when_refused;
};

struct world {
  struct blx__loop *loop;
  char dir[64];
  struct member members[MEMBERS];
  char log[512]; /* the last line */
  int log_lines;
};

static const struct blx__rpc_method method = {path, BLX__RPC_BIDI, NULL};

static const struct blx__rpc_method *find_method(void *user, const char *name) {
  (void)user;
  return strcmp(name, path) == 0 ? &method : NULL;
}

static void on_call(void *user, struct blx__rpc_call *call, struct blx__slice request) {
  struct member *m = user;
  ck_assert_uint_eq(request.len, 0);
  if (m->channel)
    blx__channel_accept(m->channel, call);
  else
    blx__rpc_call_finish(call, &(blx_error){.code = BLX_E_UNAVAILABLE});
}

static void channel_closed(void *user) {
  struct member *m = user;
  m->channel = NULL;
  blx__loop_stop(m->w->loop);
}

/* Message @i of a sender: its length and every byte follow from it. */
static size_t message_len(uint64_t i) {
  static const size_t lens[] = {1, 100, 1000, BLX__CHANNEL_PIECE_MAX, BLX__CHANNEL_PIECE_MAX + 1, 700000};
  return lens[i % BLX__COUNT(lens)];
}

static void message_fill(uint8_t *out, size_t len, uint64_t i) {
  for (size_t k = 0; k < len; k++) out[k] = (uint8_t)(i * 131 + k * 7 + (k >> 12));
}

static void deliver(void *user, uint64_t from, struct blx__slice message) {
  struct member *m = user;
  size_t len = message_len(m->heard);
  uint8_t *want = malloc(len);
  message_fill(want, len, m->heard);
  if (message.len != len || memcmp(want, message.data, len) != 0) m->spoilt = true;
  free(want);
  m->heard++;
  m->heard_bytes += message.len;
  m->from_sum += from;
  if (m->close_when_heard && m->heard == 1) blx__channel_close(m->channel, channel_closed, m);
}

static bool refuses(void *user, uint64_t from, char why[BLX__CHANNEL_WHY_SIZE]) {
  const struct member *m = user;
  return from == m->refuses && blx__str_copy(why, BLX__CHANNEL_WHY_SIZE, "it was given up");
}

static void on_refused(void *user, uint64_t by, const char *why) {
  struct member *m = user;
  m->refused++;
  m->refused_by = by;
  (void)blx__str_copy(m->refused_why, sizeof m->refused_why, why);
  if (m->close_when_refused) blx__channel_close(m->channel, channel_closed, m);
}

static void on_log(void *user, int level, const char *component, const char *message) {
  struct world *w = user;
  (void)level;
  (void)component;
  w->log_lines++;
  (void)blx__str_copy(w->log, sizeof w->log, message);
}

static struct blx__log logger;

static void serve(struct member *m) {
  m->service = (struct blx__rpc_service){m, find_method, on_call};
  struct blx__rpc_server_options o = {.path = m->address, .mode = 0660, .service = &m->service};
  ck_assert_int_eq(blx__rpc_server_open(m->w->loop, &o, &m->server, NULL).code, 0);
}

static void join(struct member *m, const char *cluster_id, uint64_t uid) {
  struct blx__channel_options o = {.loop = m->w->loop, .path = path, .cluster_id = cluster_id, .uid = uid};
  o.log = &logger;
  o.hello_ms = hello_ms;
  o.address = m->address;
  o.user = m;
  o.deliver = deliver;
  o.refuses = refuses;
  o.on_refused = on_refused;
  ck_assert_int_eq(blx__channel_open(&o, &m->channel, NULL).code, 0);
}

static void know(struct member *m, const struct member *other) {
  ck_assert_int_eq(blx__channel_set_address(m->channel, other->uid, other->address, NULL).code, 0);
}

static void world_open(struct world *w) {
  *w = (struct world){.dir = "/tmp/blx-channel-XXXXXX"};
  logger = (struct blx__log){on_log, w, BLX_LOG_DEBUG};
  ck_assert_ptr_nonnull(mkdtemp(w->dir));
  ck_assert_int_eq(blx__loop_new(&w->loop, NULL).code, 0);
  for (uint64_t i = 0; i < MEMBERS; i++) {
    struct member *m = &w->members[i];
    m->w = w;
    m->uid = i + 1;
    ck_assert(blx__str_format(m->address, sizeof m->address, "%s/%d.sock", w->dir, (int)m->uid));
    serve(m);
    join(m, "00112233445566778899aabbccddeeff", m->uid);
  }
  for (int i = 0; i < MEMBERS; i++)
    for (int k = 0; k < MEMBERS; k++)
      if (i != k) know(&w->members[i], &w->members[k]);
}

static void server_closed(void *user) {
  struct member *m = user;
  m->server = NULL;
  blx__loop_stop(m->w->loop);
}

static void leave(struct member *m) {
  if (m->server) blx__rpc_server_close(m->server, server_closed, m);
  if (m->channel) blx__channel_close(m->channel, channel_closed, m);
  while (m->server || m->channel) blx__loop_run(m->w->loop);
}

static void world_close(struct world *w) {
  for (int i = 0; i < MEMBERS; i++) leave(&w->members[i]);
  blx__loop_free(w->loop);
  ck_assert_int_eq(blx__dir_remove_tree(w->dir, NULL).code, 0);
  for (int i = 0; i < MEMBERS; i++) ck_assert(!w->members[i].spoilt);
}

static void stop(void *arg) {
  blx__loop_stop(arg);
}

static void pass(struct world *w, uint64_t ms) {
  struct blx__timer *t = blx__timer_new(w->loop, stop, w->loop);
  uint64_t until = blx__loop_now_ms(w->loop) + ms;
  blx__timer_start(t, ms, 1);
  while (blx__loop_now_ms(w->loop) < until) blx__loop_run(w->loop);
  blx__timer_free(t);
}

/* Message @i from @a to @b; false: not taken. */
static bool say(struct member *a, const struct member *b, uint64_t i) {
  size_t len = message_len(i);
  uint8_t *bytes = malloc(len);
  message_fill(bytes, len, i);
  bool taken = blx__channel_send(a->channel, b->uid, (struct blx__slice){bytes, len});
  free(bytes);
  return taken;
}

static void wait_heard(struct member *m, uint64_t count) {
  for (int i = 0; i < 5000 && m->heard < count; i++) pass(m->w, 1);
  ck_assert_uint_eq(m->heard, count);
}

START_TEST(messages__of_every_length_come_whole_and_in_order_from_each_to_each) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  for (uint64_t i = 0; i < 120; i++) {
    ck_assert(say(a, b, i));
    ck_assert(say(b, a, i));
    if (i % 8 == 0) wait_heard(b, i + 1);
  }
  wait_heard(b, 120);
  wait_heard(a, 120);
  ck_assert_uint_eq(a->from_sum, 240);
  ck_assert_uint_eq(b->from_sum, 120);
  ck_assert_int_eq(w.log_lines, 0);
  world_close(&w);
}
END_TEST

START_TEST(a_member_that_was_not_known__can_be_answered_once_it_spoke) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  ck_assert_int_eq(blx__channel_set_address(b->channel, a->uid, NULL, NULL).code, 0);
  ck_assert(!say(b, a, 0));
  ck_assert(say(a, b, 0));
  wait_heard(b, 1);
  ck_assert(say(b, a, 0));
  wait_heard(a, 1);
  world_close(&w);
}
END_TEST

/* Who claims another address than the one that is known is not believed. */
START_TEST(a_member_that_is_known__keeps_its_address_whatever_it_says) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1], *c = &w.members[2];
  blx__channel_close(a->channel, channel_closed, a);
  while (a->channel) blx__loop_run(w.loop);
  char own[sizeof a->address];
  ck_assert(blx__str_copy(own, sizeof own, a->address) && blx__str_copy(a->address, sizeof a->address, c->address));
  join(a, "00112233445566778899aabbccddeeff", a->uid);
  ck_assert(blx__str_copy(a->address, sizeof a->address, own));
  know(a, b);
  ck_assert(say(a, b, 0));
  wait_heard(b, 1);
  ck_assert(say(b, a, 0));
  wait_heard(a, 1);
  ck_assert_uint_eq(c->heard, 0);
  world_close(&w);
}
END_TEST

START_TEST(longest_message__comes_whole) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  size_t len = BLX__CHANNEL_MESSAGE_MAX;
  uint8_t *bytes = calloc(1, len);
  ck_assert(blx__channel_send(a->channel, b->uid, (struct blx__slice){bytes, len}));
  wait_heard(b, 1);
  ck_assert_uint_eq(b->heard_bytes, len);
  b->spoilt = false; /* it is not the one that deliver expects */
  free(bytes);
  world_close(&w);
}
END_TEST

START_TEST(queue__of_a_member_that_does_not_take_is_bounded_and_small_ones_pass_longest) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  /* Nothing moves while the loop does not run. */
  uint64_t large = 0, small = 0;
  static uint8_t bytes[1 << 20];
  while (blx__channel_send(a->channel, b->uid, (struct blx__slice){bytes, sizeof bytes})) large++;
  ck_assert_uint_ge(large * sizeof bytes, BLX__CHANNEL_QUEUE_FOR_LARGE);
  ck_assert_uint_le(large * sizeof bytes, BLX__CHANNEL_QUEUE_FOR_LARGE + (3u << 20));
  while (blx__channel_send(a->channel, b->uid, (struct blx__slice){bytes, 60000})) small++;
  ck_assert_uint_gt(small, 100);
  ck_assert_uint_le(small * 60000 + large * sizeof bytes, BLX__CHANNEL_QUEUE_MAX_BYTES + (3u << 20));
  wait_heard(b, large + small);
  ck_assert(blx__channel_send(a->channel, b->uid, (struct blx__slice){bytes, sizeof bytes}));
  wait_heard(b, large + small + 1);
  b->spoilt = false;
  world_close(&w);
}
END_TEST

START_TEST(member__that_was_away_is_called_again_with_pauses_that_grow) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  ck_assert(say(a, b, 0));
  wait_heard(b, 1);
  leave(b);
  uint64_t began = blx__loop_now_ms(w.loop), taken = 0;
  w.log_lines = 0;
  while (blx__loop_now_ms(w.loop) - began < 1000) {
    taken += say(a, b, 1);
    pass(&w, 5);
  }
  /* 50, 100, 200, 400 ms: a try takes what is said until it fails. */
  ck_assert_uint_le(taken, 16);
  ck_assert_int_le(w.log_lines, 2); /* said once, not at each try */
  ck_assert_uint_eq(b->heard, 1);
  serve(b);
  join(b, "00112233445566778899aabbccddeeff", b->uid);
  know(b, a);
  b->heard = 0;
  /* It says that it is up by calling itself. */
  ck_assert(say(b, a, 0));
  wait_heard(a, 1);
  ck_assert(say(a, b, 0));
  wait_heard(b, 1);
  world_close(&w);
}
END_TEST

START_TEST(address__that_changes_or_is_forgotten_ends_what_is_under_way) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1], *c = &w.members[2];
  ck_assert(!blx__channel_send(a->channel, 9, (struct blx__slice){(const uint8_t *)"x", 1}));
  ck_assert(say(a, b, 0));
  ck_assert_int_eq(blx__channel_set_address(a->channel, b->uid, NULL, NULL).code, 0);
  ck_assert(!say(a, b, 0));
  pass(&w, 20);
  ck_assert_uint_eq(b->heard, 0);
  /* Where another member answers: it says so. */
  ck_assert_int_eq(blx__channel_set_address(a->channel, b->uid, c->address, NULL).code, 0);
  ck_assert(say(a, b, 0));
  pass(&w, 20);
  ck_assert_uint_eq(c->heard, 0);
  ck_assert_msg(strstr(w.log, "takes this member for another one") != NULL, "%s", w.log);
  ck_assert_int_eq(blx__channel_set_address(a->channel, b->uid, b->address, NULL).code, 0);
  ck_assert(say(a, b, 0));
  wait_heard(b, 1);
  ck_assert_int_eq(blx__channel_set_address(a->channel, a->uid, b->address, NULL).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__channel_set_address(a->channel, 0, b->address, NULL).code, BLX_E_INVALID);
  for (uint64_t uid = 4; uid <= BLX__CHANNEL_PEERS_MAX + 1; uid++)
    ck_assert_int_eq(blx__channel_set_address(a->channel, uid, b->address, NULL).code, 0);
  ck_assert_int_eq(blx__channel_set_address(a->channel, 100, b->address, NULL).code, BLX_E_BUSY);
  world_close(&w);
}
END_TEST

/* ---- callers that are no members */

struct stranger {
  struct world *w;
  struct blx__rpc_conn *conn;
  struct blx__rpc_pending *call;
  int done;
  blx_error err;
};

static bool stranger_message(void *user, struct blx__slice m) {
  (void)user;
  (void)m;
  return true;
}

static void stranger_done(void *user, const struct blx__rpc_result *result) {
  struct stranger *s = user;
  s->done++;
  s->err = result->err ? *result->err : (blx_error){0};
}

static const struct blx__rpc_bidi_ops stranger_ops = {{stranger_message, stranger_done}, NULL};

static void stranger_open(struct world *w, struct stranger *s, const struct member *to) {
  *s = (struct stranger){.w = w};
  ck_assert_int_eq(blx__rpc_conn_new(w->loop, to->address, &s->conn, NULL).code, 0);
  struct blx__rpc_request r = {.path = path};
  ck_assert_int_eq(blx__rpc_bidi(s->conn, &r, &stranger_ops, s, &s->call, NULL).code, 0);
}

static void stranger_say(struct stranger *s, const struct blx_channel_message *m) {
  struct blx__buf out;
  blx__buf_init(&out, 1 << 20);
  ck_assert_int_eq(blx__msg_encode(blx__desc_channel_message(), m, &out, NULL).code, 0);
  while (s->done == 0 && !blx__rpc_send(s->call, out.data, out.len)) pass(s->w, 1);
  blx__buf_free(&out);
}

static void stranger_hello(struct stranger *s, const char *cluster_id, uint64_t from, uint64_t to) {
  struct blx_channel_message m = {.struct_size = sizeof m, .cluster_id = cluster_id, .from_uid = from, .to_uid = to};
  stranger_say(s, &m);
}

/* How the member ended the call. */
static const blx_error *stranger_end(struct stranger *s) {
  for (int i = 0; i < 2000 && s->done == 0; i++) pass(s->w, 1);
  ck_assert_int_eq(s->done, 1);
  blx__rpc_conn_close(s->conn, NULL, NULL);
  return &s->err;
}

START_TEST(stranger__is_refused_by_name_and_nothing_of_it_is_delivered) {
  static const char good[] = "00112233445566778899aabbccddeeff", other[] = "ffeeddccbbaa99887766554433221100";
  static const struct {
    const char *cluster_id;
    uint64_t from, to;
    const char *why;
  } cases[] = {{other, 2, 1, "another cluster"},   {NULL, 2, 1, "another cluster"},    {good, 2, 3, "for another one"},
               {good, 1, 1, "this member itself"}, {good, 0, 1, "this member itself"}, {"", 0, 0, "another cluster"}};
  struct world w;
  struct stranger s;
  world_open(&w);
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    stranger_open(&w, &s, &w.members[0]);
    stranger_hello(&s, cases[i].cluster_id, cases[i].from, cases[i].to);
    stranger_say(&s, &(struct blx_channel_message){.struct_size = sizeof(struct blx_channel_message),
                                                   .data = {(uint8_t *)(uintptr_t) "x", 1}});
    const blx_error *err = stranger_end(&s);
    ck_assert_int_eq(err->code, BLX_E_CONFLICT);
    ck_assert_msg(strstr(err->message, cases[i].why) != NULL, "%s", err->message);
  }
  /* Silence, and what is no message at all. */
  stranger_open(&w, &s, &w.members[0]);
  ck_assert_int_eq(stranger_end(&s)->code, BLX_E_TIMEOUT);
  stranger_open(&w, &s, &w.members[0]);
  ck_assert(blx__rpc_send(s.call, "\xff\xff\xff", 3));
  ck_assert_int_eq(stranger_end(&s)->code, BLX_E_INVALID);
  ck_assert_uint_eq(w.members[0].heard, 0);
  world_close(&w);
}
END_TEST

START_TEST(member__that_calls_anew_replaces_its_old_call_and_one_that_breaks_the_limits_is_cut) {
  static const char good[] = "00112233445566778899aabbccddeeff";
  static uint8_t bytes[BLX__CHANNEL_PIECE_MAX];
  struct world w;
  struct stranger old, new;
  world_open(&w);
  stranger_open(&w, &old, &w.members[0]);
  stranger_hello(&old, good, 2, 1);
  pass(&w, 2 * HELLO_MS);
  ck_assert_int_eq(old.done, 0);
  stranger_open(&w, &new, &w.members[0]);
  stranger_hello(&new, good, 2, 1);
  ck_assert_int_eq(stranger_end(&old)->code, 0);
  ck_assert_int_eq(new.done, 0);
  struct blx_channel_message piece = {.struct_size = sizeof piece, .data = {bytes, sizeof bytes}, .more = 1};
  for (size_t i = 0; i <= BLX__CHANNEL_MESSAGE_MAX / sizeof bytes; i++) {
    stranger_say(&new, &piece);
    pass(&w, 1);
  }
  ck_assert_int_eq(stranger_end(&new)->code, BLX_E_INVALID);
  stranger_open(&w, &new, &w.members[0]);
  stranger_hello(&new, good, 2, 1);
  stranger_hello(&new, good, 2, 1); /* an empty message */
  ck_assert_int_eq(stranger_end(&new)->code, BLX_E_INVALID);
  /* An orderly end is one. */
  stranger_open(&w, &new, &w.members[0]);
  stranger_hello(&new, good, 2, 1);
  blx__rpc_half_close(new.call);
  ck_assert_int_eq(stranger_end(&new)->code, 0);
  ck_assert_uint_eq(w.members[0].heard, 0);
  world_close(&w);
}
END_TEST

START_TEST(calls__over_the_maximum_are_busy_and_the_members_go_on) {
  struct world w;
  enum { MANY = BLX__CHANNEL_INCOMING_MAX + 10 };
  hello_ms = HELLO_LONG_MS; /* all are to be there before the first is late */
  world_open(&w);
  hello_ms = HELLO_MS;
  struct stranger *s = calloc(MANY, sizeof *s);
  struct member *a = &w.members[0], *b = &w.members[1];
  ck_assert(say(b, a, 0));
  wait_heard(a, 1);
  for (int i = 0; i < MANY; i++) stranger_open(&w, &s[i], a);
  int busy = 0, late = 0;
  for (int i = 0; i < MANY; i++) {
    int code = stranger_end(&s[i])->code;
    busy += code == BLX_E_BUSY;
    late += code == BLX_E_TIMEOUT;
  }
  ck_assert_int_eq(busy, 11); /* b's call is one of them */
  ck_assert_int_eq(busy + late, MANY);
  ck_assert(say(b, a, 1));
  wait_heard(a, 2);
  free(s);
  world_close(&w);
}
END_TEST

START_TEST(channel__may_be_closed_while_it_delivers) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1];
  b->close_when_heard = true;
  for (uint64_t i = 0; i < 6; i++) ck_assert(say(a, b, i));
  ck_assert(say(b, a, 0));
  while (b->channel) blx__loop_run(w.loop);
  ck_assert_uint_eq(b->heard, 1);
  pass(&w, 20);
  world_close(&w);
}
END_TEST

START_TEST(a_member_that_was_given_up__is_told_so_and_not_heard) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1], *c = &w.members[2];
  b->refuses = a->uid;
  ck_assert(say(a, b, 0));
  for (int i = 0; i < 2000 && a->refused == 0; i++) pass(&w, 1);
  ck_assert_uint_eq(a->refused, 1);
  ck_assert_uint_eq(a->refused_by, b->uid);
  ck_assert_ptr_nonnull(strstr(a->refused_why, "it was given up"));
  ck_assert_uint_eq(b->heard, 0);
  ck_assert(say(c, b, 0)); /* others are */
  wait_heard(b, 1);
  a->close_when_refused = true;
  for (int i = 0; i < 200 && !say(a, b, 0); i++) pass(&w, 10); /* after its pause */
  for (int i = 0; i < 2000 && a->channel; i++) pass(&w, 1);
  ck_assert_uint_eq(a->refused, 2);
  ck_assert_ptr_null(a->channel);
  world_close(&w);
}
END_TEST

/* Also by whoever is now where the member was that it looks for. */
START_TEST(a_member_that_was_given_up__is_told_so_by_who_has_the_address) {
  struct world w;
  world_open(&w);
  struct member *a = &w.members[0], *b = &w.members[1], *c = &w.members[2];
  c->refuses = a->uid;
  ck_assert_int_eq(blx__channel_set_address(a->channel, b->uid, c->address, NULL).code, 0);
  ck_assert(say(a, b, 0));
  for (int i = 0; i < 2000 && a->refused == 0; i++) pass(&w, 1);
  ck_assert_uint_eq(a->refused, 1);
  ck_assert_uint_eq(c->heard, 0);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("client/channel", a_member_that_was_given_up__is_told_so_and_not_heard,
              a_member_that_was_given_up__is_told_so_by_who_has_the_address,
              messages__of_every_length_come_whole_and_in_order_from_each_to_each, longest_message__comes_whole,
              queue__of_a_member_that_does_not_take_is_bounded_and_small_ones_pass_longest,
              member__that_was_away_is_called_again_with_pauses_that_grow,
              address__that_changes_or_is_forgotten_ends_what_is_under_way,
              stranger__is_refused_by_name_and_nothing_of_it_is_delivered,
              member__that_calls_anew_replaces_its_old_call_and_one_that_breaks_the_limits_is_cut,
              calls__over_the_maximum_are_busy_and_the_members_go_on, channel__may_be_closed_while_it_delivers,
              a_member_that_was_not_known__can_be_answered_once_it_spoke,
              a_member_that_is_known__keeps_its_address_whatever_it_says)

#include "../harness.h"
#include "consensus/consensus_int.h"

#include <string.h>

static struct raft_message decode_ok(const struct blx__buf *b) {
  struct message m;
  const char *why = message_decode((struct blx__slice){b->data, b->len}, &m);
  ck_assert_msg(why == NULL, "%s", why);
  ck_assert_int_eq(m.kind, MESSAGE_RAFT);
  return m.raft;
}

/* Every shorter run of the same bytes must be refused without reading past it, which the sanitizer watches. */
static void refuse_all_prefixes(const struct blx__buf *b) {
  for (size_t n = 0; n < b->len; n++) {
    uint8_t *exact = malloc(n ? n : 1);
    if (n) memcpy(exact, b->data, n);
    struct message m;
    ck_assert_ptr_nonnull(message_decode((struct blx__slice){exact, n}, &m));
    free(exact);
  }
}

/* One changed byte may give another sound message, never a crash or a leak. */
static void survive_flips(struct blx__buf *b) {
  for (size_t i = 0; i < b->len; i++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      b->data[i] ^= (uint8_t)(1U << bit);
      struct message m;
      const char *why = message_decode((struct blx__slice){b->data, b->len}, &m);
      if (!why && m.kind == MESSAGE_RAFT) message_free(&m.raft);
      b->data[i] ^= (uint8_t)(1U << bit);
    }
  }
}

START_TEST(append_entries__come_back_as_they_were) {
  uint64_t words[3] = {1, 2, 3};
  struct raft_entry entries[2] = {{.term = 4, .type = RAFT_COMMAND, .buf = {.base = words, .len = 16}},
                                  {.term = 5, .type = RAFT_BARRIER, .buf = {.base = &words[2], .len = 8}}};
  const struct raft_message m = {
      .type = RAFT_IO_APPEND_ENTRIES,
      .append_entries = {
          .term = 5, .prev_log_index = 6, .prev_log_term = 3, .leader_commit = 2, .entries = entries, .n_entries = 2}};
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  ck_assert(message_encode(&b, &m));
  struct raft_message back = decode_ok(&b);
  ck_assert_uint_eq(back.append_entries.n_entries, 2);
  ck_assert_uint_eq(back.append_entries.prev_log_index, 6);
  ck_assert_uint_eq(back.append_entries.entries[0].buf.len, 16);
  ck_assert_mem_eq(back.append_entries.entries[0].buf.base, words, 16);
  ck_assert_mem_eq(back.append_entries.entries[1].buf.base, &words[2], 8);
  ck_assert_uint_eq(back.append_entries.entries[1].type, RAFT_BARRIER);
  message_free(&back);
  refuse_all_prefixes(&b);
  survive_flips(&b);
  blx__buf_free(&b);
}
END_TEST

START_TEST(long_append_entries__are_cut_and_stay_whole) {
  static uint8_t payload[256 << 10];
  static struct raft_entry entries[64];
  for (unsigned i = 0; i < 64; i++)
    entries[i] = (struct raft_entry){.term = 1, .type = RAFT_COMMAND, .buf = {.base = payload, .len = sizeof payload}};
  const struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES,
                                 .append_entries = {.term = 1, .entries = entries, .n_entries = 64}};
  struct blx__buf b;
  blx__buf_init(&b, 64 << 20);
  ck_assert(message_encode(&b, &m));
  ck_assert_uint_le(b.len, BLX__CONSENSUS_MESSAGE_MAX);
  struct raft_message back = decode_ok(&b);
  ck_assert_uint_eq(back.append_entries.n_entries, 16);
  message_free(&back);
  blx__buf_free(&b);
}
END_TEST

START_TEST(votes_and_results__come_back_as_they_were) {
  const struct raft_message all[] = {
      {.type = RAFT_IO_REQUEST_VOTE,
       .request_vote = {.term = 1, .candidate_id = 2, .last_log_index = 3, .last_log_term = 4, .pre_vote = true}},
      {.type = RAFT_IO_REQUEST_VOTE_RESULT,
       .request_vote_result = {.term = 5, .vote_granted = true, .pre_vote = raft_tribool_false}},
      {.type = RAFT_IO_APPEND_ENTRIES_RESULT, .append_entries_result = {.term = 6, .rejected = 7, .last_log_index = 8}},
      {.type = RAFT_IO_TIMEOUT_NOW, .timeout_now = {.term = 9, .last_log_index = 10, .last_log_term = 11}}};
  for (size_t i = 0; i < BLX__COUNT(all); i++) {
    struct blx__buf b, again;
    blx__buf_init(&b, 4096);
    blx__buf_init(&again, 4096);
    ck_assert(message_encode(&b, &all[i]));
    struct raft_message back = decode_ok(&b);
    ck_assert(message_encode(&again, &back));
    ck_assert_uint_eq(b.len, again.len);
    ck_assert_mem_eq(b.data, again.data, b.len);
    refuse_all_prefixes(&b);
    survive_flips(&b);
    blx__buf_free(&b);
    blx__buf_free(&again);
  }
}
END_TEST

/* A part of 16 bytes at @offset of a snapshot of 128. */
static void make_chunk(struct blx__buf *out, uint64_t total, uint64_t offset, size_t len) {
  static const uint8_t payload[CHUNK_BYTES_MAX + 1] = {7};
  struct raft_configuration conf;
  struct blx__buf members;
  blx__buf_init(&members, 4096);
  raft_configuration_init(&conf);
  ck_assert_int_eq(raft_configuration_add(&conf, 1, "n1", RAFT_VOTER), 0);
  ck_assert_int_eq(raft_configuration_add(&conf, 2, "n2", RAFT_STANDBY), 0);
  ck_assert(message_encode_conf(&members, &conf));
  struct message_chunk chunk = {
      .serial = 1, .term = 2, .index = 3, .last_term = 2, .conf_index = 1, .total = total, .offset = offset};
  chunk.conf = (struct blx__slice){members.data, members.len};
  chunk.bytes = (struct blx__slice){payload, len};
  blx__buf_init(out, 1 << 20);
  ck_assert(message_encode_chunk(out, &chunk));
  raft_configuration_close(&conf);
  blx__buf_free(&members);
}

START_TEST(parts_of_snapshots__come_back_as_they_were) {
  struct blx__buf b;
  make_chunk(&b, 128, 112, 16);
  struct message m;
  ck_assert_ptr_null(message_decode((struct blx__slice){b.data, b.len}, &m));
  ck_assert_int_eq(m.kind, MESSAGE_CHUNK);
  ck_assert_uint_eq(m.chunk.serial, 1);
  ck_assert_uint_eq(m.chunk.term, 2);
  ck_assert_uint_eq(m.chunk.index, 3);
  ck_assert_uint_eq(m.chunk.total, 128);
  ck_assert_uint_eq(m.chunk.offset, 112);
  ck_assert_uint_eq(m.chunk.bytes.len, 16);
  ck_assert_uint_eq(m.chunk.bytes.data[0], 7);
  struct raft_configuration conf;
  ck_assert_ptr_null(message_decode_conf(m.chunk.conf, &conf));
  ck_assert_uint_eq(conf.n, 2);
  ck_assert_int_eq(conf.servers[1].role, RAFT_STANDBY);
  raft_configuration_close(&conf);
  for (size_t n = 0; n < b.len - 16; n++) {
    uint8_t *exact = malloc(n ? n : 1);
    if (n) memcpy(exact, b.data, n);
    ck_assert_ptr_nonnull(message_decode((struct blx__slice){exact, n}, &m));
    free(exact);
  }
  survive_flips(&b);
  blx__buf_free(&b);
}
END_TEST

START_TEST(parts_that_a_snapshot_cannot_have__are_refused) {
  static const struct {
    uint64_t total, offset;
    size_t len;
  } bad[] = {
      {104, 0, 16},                                 /* shorter than its head */
      {SNAPSHOT_BYTES_MAX + UINT64_C(8), 0, 16},    /* too large */
      {UINT64_MAX - 7, 0, 16},                      /* absurdly large */
      {129, 0, 16},                                 /* no multiple of 8 */
      {128, 120, 16},                               /* past its end */
      {128, UINT64_MAX - 8, 16},                    /* past its end, and round again */
      {128, 0, 0},                                  /* nothing */
      {CHUNK_BYTES_MAX * 2, 0, CHUNK_BYTES_MAX + 1} /* too much */
  };
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    struct blx__buf b;
    struct message m;
    make_chunk(&b, bad[i].total, bad[i].offset, bad[i].len);
    ck_assert_msg(message_decode((struct blx__slice){b.data, b.len}, &m) != NULL, "row %zu", i);
    blx__buf_free(&b);
  }
}
END_TEST

START_TEST(strange_members_of_a_snapshot__are_refused) {
  static const uint8_t none[4], zero[13] = {1}, role[13] = {1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9};
  uint8_t twice[22] = {2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1};
  struct raft_configuration conf;
  ck_assert_ptr_nonnull(message_decode_conf((struct blx__slice){none, sizeof none}, &conf));
  ck_assert_ptr_nonnull(message_decode_conf((struct blx__slice){zero, sizeof zero}, &conf));
  ck_assert_ptr_nonnull(message_decode_conf((struct blx__slice){role, sizeof role}, &conf));
  ck_assert_ptr_nonnull(message_decode_conf((struct blx__slice){twice, sizeof twice}, &conf));
  ck_assert_ptr_nonnull(message_decode_conf((struct blx__slice){twice, sizeof twice - 1}, &conf));
  twice[13] = 6;
  ck_assert_ptr_null(message_decode_conf((struct blx__slice){twice, sizeof twice}, &conf));
  raft_configuration_close(&conf);
}
END_TEST

START_TEST(confirms_and_acknowledgements__come_back_as_they_were) {
  uint8_t bytes[18], ack[26];
  struct message m;
  message_encode_confirm(bytes, true, 7, UINT64_C(1) << 40);
  ck_assert_ptr_null(message_decode((struct blx__slice){bytes, sizeof bytes}, &m));
  ck_assert_int_eq(m.kind, MESSAGE_CONFIRM_REPLY);
  ck_assert_uint_eq(m.confirm.term, 7);
  ck_assert_uint_eq(m.confirm.seq, UINT64_C(1) << 40);
  ck_assert_ptr_nonnull(message_decode((struct blx__slice){bytes, 17}, &m));
  message_encode_lost(bytes, 8, UINT64_C(1) << 35);
  ck_assert_ptr_null(message_decode((struct blx__slice){bytes, sizeof bytes}, &m));
  ck_assert_int_eq(m.kind, MESSAGE_LOST);
  ck_assert_uint_eq(m.lost.term, 8);
  ck_assert_uint_eq(m.lost.index, UINT64_C(1) << 35);
  ck_assert_ptr_nonnull(message_decode((struct blx__slice){bytes, 17}, &m));
  message_encode_chunk_ack(ack, 5, 6, UINT64_C(1) << 33);
  ck_assert_ptr_null(message_decode((struct blx__slice){ack, sizeof ack}, &m));
  ck_assert_int_eq(m.kind, MESSAGE_CHUNK_ACK);
  ck_assert_uint_eq(m.ack.serial, 5);
  ck_assert_uint_eq(m.ack.term, 6);
  ck_assert_uint_eq(m.ack.have, UINT64_C(1) << 33);
  ck_assert_ptr_nonnull(message_decode((struct blx__slice){ack, 25}, &m));
}
END_TEST

static size_t make_entry(uint8_t *at, size_t room) {
  size_t size = entry_size(2, 3 + 5);
  ck_assert_uint_le(size, room);
  entry_begin(at, size, &(struct entry_head){.time_ms = 9, .proposer = 2, .serial = 3, .ops_count = 2});
  uint8_t *p = entry_put_op(at + ENTRY_HEAD_BYTES, (const uint8_t *)"abc", 3);
  (void)entry_put_op(p, (const uint8_t *)"hello", 5);
  return size;
}

START_TEST(entries__are_read_back_and_are_a_multiple_of_8) {
  uint8_t bytes[256];
  size_t size = make_entry(bytes, sizeof bytes);
  ck_assert_uint_eq(size % 8, 0);
  struct entry_reader r;
  struct entry_head head;
  struct blx__slice op;
  ck_assert(entry_open(&r, &head, bytes, size));
  ck_assert_uint_eq(head.time_ms, 9);
  ck_assert_uint_eq(head.serial, 3);
  ck_assert(entry_next(&r, &op) && op.len == 3 && memcmp(op.data, "abc", 3) == 0);
  ck_assert(entry_next(&r, &op) && op.len == 5 && memcmp(op.data, "hello", 5) == 0);
  ck_assert(!entry_next(&r, &op));
}
END_TEST

START_TEST(entries__with_a_changed_length_count_or_padding_are_refused) {
  uint8_t bytes[256];
  size_t size = make_entry(bytes, sizeof bytes);
  struct entry_reader r;
  struct entry_head head;
  static const size_t at[] = {0, 1, 4, 32, 36, ENTRY_HEAD_BYTES};
  for (size_t i = 0; i < BLX__COUNT(at); i++) {
    bytes[at[i]] ^= 0x55;
    ck_assert_msg(!entry_open(&r, &head, bytes, size), "byte %zu", at[i]);
    bytes[at[i]] ^= 0x55;
  }
  ck_assert(entry_open(&r, &head, bytes, size));
  for (size_t n = 0; n < size; n++) ck_assert(!entry_open(&r, &head, bytes, n));
}
END_TEST

BLX_TEST_MAIN("consensus/codec", append_entries__come_back_as_they_were, long_append_entries__are_cut_and_stay_whole,
              votes_and_results__come_back_as_they_were, parts_of_snapshots__come_back_as_they_were,
              parts_that_a_snapshot_cannot_have__are_refused, strange_members_of_a_snapshot__are_refused,
              confirms_and_acknowledgements__come_back_as_they_were, entries__are_read_back_and_are_a_multiple_of_8,
              entries__with_a_changed_length_count_or_padding_are_refused)

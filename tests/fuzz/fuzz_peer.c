/* What a member hears on the peer channel: libraft's messages, Confirm frames and parts of snapshots. What is taken is
 * written again to the same bytes. */
#include "consensus/consensus_int.h"
#include "fuzz.h"

/* A part of a snapshot and its members. */
static void again_chunk(const struct message_chunk *chunk, struct blx__buf *again) {
  struct raft_configuration conf;
  FUZZ_SHALL(message_encode_chunk(again, chunk));
  if (message_decode_conf(chunk->conf, &conf)) return;
  struct blx__buf members;
  blx__buf_init(&members, 4096);
  FUZZ_SHALL(message_encode_conf(&members, &conf));
  FUZZ_SHALL(members.len == chunk->conf.len && memcmp(members.data, chunk->conf.data, members.len) == 0);
  blx__buf_free(&members);
  raft_configuration_close(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct message m;
  uint8_t fixed[26];
  if (message_decode((struct blx__slice){data, size}, &m)) return 0;
  struct blx__buf again;
  blx__buf_init(&again, 16 << 20);
  switch (m.kind) {
  case MESSAGE_RAFT: FUZZ_SHALL(message_encode(&again, &m.raft)); break;
  case MESSAGE_CONFIRM:
  case MESSAGE_CONFIRM_REPLY:
    message_encode_confirm(fixed, m.kind == MESSAGE_CONFIRM_REPLY, m.confirm.term, m.confirm.seq);
    FUZZ_SHALL(blx__buf_add(&again, fixed, 18));
    break;
  case MESSAGE_LOST:
    message_encode_lost(fixed, m.lost.term, m.lost.index);
    FUZZ_SHALL(blx__buf_add(&again, fixed, LOST_BYTES));
    break;
  case MESSAGE_CHUNK: again_chunk(&m.chunk, &again); break;
  case MESSAGE_CHUNK_ACK:
    message_encode_chunk_ack(fixed, m.ack.serial, m.ack.term, m.ack.have);
    FUZZ_SHALL(blx__buf_add(&again, fixed, 26));
    break;
  }
  FUZZ_SHALL(again.len == size && memcmp(again.data, data, size) == 0);
  blx__buf_free(&again);
  message_free(&m.raft);
  return 0;
}

static void seed(const struct raft_message *m) {
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  FUZZ_SHALL(message_encode(&b, m));
  fuzz_seed(b.data, b.len);
  blx__buf_free(&b);
}

static void seed_entries(void) {
  static uint8_t bytes[3][16] = {{1}, {2}, {3}};
  struct raft_entry entries[] = {
      {.term = 3, .type = RAFT_COMMAND, .buf = {.base = bytes[0], .len = 16}},
      {.term = 4, .type = RAFT_BARRIER, .buf = {.base = bytes[1], .len = 8}},
      {.term = 4, .type = RAFT_CHANGE, .buf = {.base = bytes[2], .len = 16}},
  };
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
  m.append_entries =
      (struct raft_append_entries){.term = 4, .prev_log_index = 7, .prev_log_term = 3, .leader_commit = 6};
  seed(&m);
  m.append_entries.entries = entries;
  m.append_entries.n_entries = 3;
  seed(&m);
}

static void seed_parts(void) {
  static const uint8_t bytes[64] = {'B', 'L', 'X'};
  struct raft_configuration conf;
  struct blx__buf members, b;
  uint8_t ack[26];
  blx__buf_init(&members, 4096);
  blx__buf_init(&b, 1 << 20);
  raft_configuration_init(&conf);
  FUZZ_SHALL(raft_configuration_add(&conf, 1, "n1", RAFT_VOTER) == 0);
  FUZZ_SHALL(raft_configuration_add(&conf, 2, "n2", RAFT_STANDBY) == 0);
  FUZZ_SHALL(message_encode_conf(&members, &conf));
  struct message_chunk chunk = {
      .serial = 1, .term = 4, .index = 9, .last_term = 4, .conf_index = 2, .total = 128, .offset = 64};
  chunk.conf = (struct blx__slice){members.data, members.len};
  chunk.bytes = (struct blx__slice){bytes, sizeof bytes};
  FUZZ_SHALL(message_encode_chunk(&b, &chunk));
  fuzz_seed(b.data, b.len);
  message_encode_chunk_ack(ack, 1, 4, 64);
  fuzz_seed(ack, sizeof ack);
  raft_configuration_close(&conf);
  blx__buf_free(&members);
  blx__buf_free(&b);
}

void fuzz_seeds(void) {
  uint8_t confirm[18];
  for (int reply = 0; reply < 2; reply++) {
    message_encode_confirm(confirm, reply, 3, 77);
    fuzz_seed(confirm, sizeof confirm);
  }
  seed_entries();
  seed_parts();
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};
  m.append_entries_result = (struct raft_append_entries_result){.term = 4, .rejected = 2, .last_log_index = 8};
  seed(&m);
  m = (struct raft_message){.type = RAFT_IO_REQUEST_VOTE};
  m.request_vote = (struct raft_request_vote){.term = 5, .candidate_id = 2, .last_log_index = 8, .pre_vote = true};
  seed(&m);
  m = (struct raft_message){.type = RAFT_IO_REQUEST_VOTE_RESULT};
  m.request_vote_result.term = 5;
  m.request_vote_result.vote_granted = true;
  m.request_vote_result.pre_vote = raft_tribool_true;
  seed(&m);
  m = (struct raft_message){.type = RAFT_IO_TIMEOUT_NOW};
  m.timeout_now = (struct raft_timeout_now){.term = 5, .last_log_index = 8, .last_log_term = 4};
  seed(&m);
}

/* What a member hears on the peer channel: libraft's messages and Confirm frames. What is taken is written again to
 * the same bytes. */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum message_kind kind;
  struct raft_message m;
  struct message_confirm confirm;
  if (message_decode((struct blx__slice){data, size}, &kind, &m, &confirm)) return 0;
  if (kind != MESSAGE_RAFT) {
    uint8_t again[18];
    message_encode_confirm(again, kind == MESSAGE_CONFIRM_REPLY, confirm.term, confirm.seq);
    FUZZ_SHALL(size == sizeof again && memcmp(again, data, size) == 0);
    return 0;
  }
  struct blx__buf again;
  blx__buf_init(&again, 16 << 20);
  FUZZ_SHALL(message_encode(&again, &m));
  FUZZ_SHALL(again.len == size && memcmp(again.data, data, size) == 0);
  blx__buf_free(&again);
  message_free(&m);
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

static void seed_snapshot(void) {
  uint8_t bytes[SNAPSHOT_HEAD_BYTES + 16] = {'B', 'L', 'X', 'S', 'N', 'A', 'P', '\n', SNAPSHOT_VERSION};
  put_u64(bytes + 16, 9);
  put_u64(bytes + 24, 4);
  put_u64(bytes + 40, 12);
  const struct blx__slice parts[] = {{bytes, 80}, {bytes + SNAPSHOT_HEAD_BYTES, 16}};
  blx__sha256(parts, BLX__COUNT(parts), bytes + 80);
  struct raft_message m = {.type = RAFT_IO_INSTALL_SNAPSHOT};
  m.install_snapshot = (struct raft_install_snapshot){.term = 4, .last_index = 9, .last_term = 4, .conf_index = 2};
  m.install_snapshot.data = (struct raft_buffer){.base = bytes, .len = sizeof bytes};
  raft_configuration_init(&m.install_snapshot.conf);
  FUZZ_SHALL(raft_configuration_add(&m.install_snapshot.conf, 1, "n1", RAFT_VOTER) == 0);
  FUZZ_SHALL(raft_configuration_add(&m.install_snapshot.conf, 2, "n2", RAFT_STANDBY) == 0);
  seed(&m);
  raft_configuration_close(&m.install_snapshot.conf);
}

void fuzz_seeds(void) {
  uint8_t confirm[18];
  for (int reply = 0; reply < 2; reply++) {
    message_encode_confirm(confirm, reply, 3, 77);
    fuzz_seed(confirm, sizeof confirm);
  }
  seed_entries();
  seed_snapshot();
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

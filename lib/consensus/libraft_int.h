/* libraft, and proof at compile time that it is 0.15.0. Its header carries no version, so what the guard relies on is
 * compared with the layout of that release: the guard reads `struct raft`, and its rules are for that code alone. */
#ifndef BLX__CONSENSUS_LIBRAFT_INT_H
#define BLX__CONSENSUS_LIBRAFT_INT_H

#include <raft.h>
#include <stddef.h>

#if !defined(__LP64__)
#error "lib/consensus knows libraft 0.15.0 on 64-bit Linux only"
#endif

/* 0.16 and later, and the fork cowsql/raft, version their headers or add to these. */
#if defined(RAFT_VERSION) || defined(RAFT_VERSION_NUMBER) || defined(RAFT_UNUSED_FOREVER) || defined(RAFT__EXTENSIONS)
#error "lib/consensus needs libraft 0.15.0 exactly: this is another version"
#endif

#define PINNED(condition) _Static_assert(condition, "lib/consensus needs libraft 0.15.0 exactly: this is another one")
PINNED(RAFT_TOOMANY == 23);
PINNED(sizeof(struct raft) == 656);
PINNED(offsetof(struct raft, last_stored) == 200);
PINNED(offsetof(struct raft, state) == 208);
PINNED(offsetof(struct raft, transfer) == 288);
PINNED(offsetof(struct raft, snapshot) == 296);
PINNED(offsetof(struct raft, pre_vote) == 640);
PINNED(sizeof(struct raft_io) == 408);
PINNED(sizeof(struct raft_log) == 72);
PINNED(sizeof(struct raft_entry) == 40);
PINNED(sizeof(struct raft_fsm) == 56);
PINNED(sizeof(struct raft_progress) == 56);
PINNED(sizeof(struct raft_message) == 88);
PINNED(sizeof(struct raft_append_entries) == 48);
PINNED(sizeof(struct raft_append_entries_result) == 24);
PINNED(sizeof(struct raft_request_vote) == 40);
PINNED(sizeof(struct raft_request_vote_result) == 16);
PINNED(sizeof(struct raft_install_snapshot) == 64);
PINNED(sizeof(struct raft_timeout_now) == 24);
PINNED(sizeof(struct raft_transfer) == 48);
#undef PINNED

#endif

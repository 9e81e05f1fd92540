/* A counter that three processes keep together: what one of them has answered survives any of them, and a client that
 * is not sure sends the same request again. cc replicated_counter.c $(pkg-config --cflags --libs blixard), then run it
 * three times: `./replicated_counter DIR 1`, 2 and 3, each in a terminal of its own. Lines in, lines out: join 2 in the
 * first terminal, and join 3: make them members add CLIENT NUMBER BY    done once for each CLIENT (0..63) and NUMBER,
 * which rises with each new request; "ok CLIENT NUMBER COUNTER", or "retry CLIENT NUMBER LEADER": send it again, to
 * that member get                     "value COUNTER CLIENT:NUMBER:SUM...", or "retry LEADER" status "status UID LEADER
 * APPLIED CHAIN": CHAIN is equal wherever APPLIED is */
#include <blixard/consensus.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 64, PATH = 256 };

/* What is replicated; also the form of a snapshot, for members on equal machines. */
struct counter {
  int64_t value;
  struct client {
    uint64_t number; /* of its last request */
    int64_t sum, value;
  } clients[CLIENTS];
};

struct op {
  uint64_t client, number;
  int64_t by;
};

static int apply(void *user, const void *bytes, size_t len, blx_output *answer) {
  struct counter *c = user;
  struct op op;
  if (len != sizeof op) return BLX_E_CORRUPT;
  memcpy(&op, bytes, sizeof op);
  struct client *client = &c->clients[op.client % CLIENTS];
  if (op.number > client->number) { /* else a repetition: answered, not done again */
    c->value += op.by;
    *client = (struct client){op.number, client->sum + op.by, c->value};
  }
  return blx_output_add(answer, &client->value, sizeof client->value);
}

static int snapshot(void *user, blx_output *out) {
  return blx_output_add(out, user, sizeof(struct counter));
}

static int restore(void *user, const void *bytes, size_t len) {
  if (len != sizeof(struct counter)) return BLX_E_CORRUPT;
  memcpy(user, bytes, len);
  return 0;
}

/* Completions run on the member's thread. Printing there is fine as long as somebody reads. */
static void added(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct op *op = user;
  int64_t value = 0;
  (void)index;
  if (len == sizeof value) memcpy(&value, answer, len);
  if (err == NULL) printf("ok %" PRIu64 " %" PRIu64 " %" PRId64 "\n", op->client, op->number, value);
  if (err != NULL) printf("retry %" PRIu64 " %" PRIu64 " %s\n", op->client, op->number, err->leader);
  free(op);
}

static void print(void *user) {
  struct counter *c = user;
  printf("value %" PRId64, c->value);
  for (unsigned i = 0; i < CLIENTS; i++)
    if (c->clients[i].number > 0) printf(" %u:%" PRIu64 ":%" PRId64, i, c->clients[i].number, c->clients[i].sum);
  printf("\n");
}

static void obey(blx_consensus *member, struct counter *counter, const char *line) {
  uint64_t uid, chain;
  struct op op, *copy;
  struct blx_consensus_status *s = NULL;
  blx_error err = {0};
  if (sscanf(line, "add %" SCNu64 " %" SCNu64 " %" SCNd64, &op.client, &op.number, &op.by) == 3) {
    if ((copy = malloc(sizeof op)) == NULL) return;
    *copy = op;
    if (blx_consensus_propose_async(member, &op, sizeof op, added, copy, &err) != 0) added(copy, &err, 0, NULL, 0);
  } else if (sscanf(line, "join %" SCNu64, &uid) == 1) {
    printf("join %" PRIu64 " %s\n", uid, blx_consensus_add_member(member, uid, &err) == 0 ? "ok" : err.message);
  } else if (strncmp(line, "get", 3) == 0) {
    if (blx_consensus_read(member, print, counter, &err) != 0) printf("retry %s\n", err.leader);
  } else if (strncmp(line, "status", 6) == 0 && blx_consensus_status_get(member, &s, &err) == 0) {
    memcpy(&chain, s->chain, sizeof chain);
    printf("status %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIx64 "\n", s->uid, s->leader_uid, s->applied_index, chain);
    blx_consensus_status_free(s);
  }
}

int main(int argc, char **argv) {
  static struct counter counter;
  char dir[PATH], line[128], paths[3][PATH];
  struct blx_consensus_address addresses[3], *all[3];
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options options = BLX_CONSENSUS_OPTIONS_INIT;
  blx_consensus *member = NULL;
  blx_error err = {0};
  if (argc < 3) return fputs("usage: replicated_counter DIR 1|2|3 [ELECTION_MS]\n", stderr), 2;
  for (unsigned i = 0; i < 3; i++) {
    snprintf(paths[i], PATH, "%s/%u/peer.sock", argv[1], i + 1);
    addresses[i] = (struct blx_consensus_address){sizeof addresses[i], i + 1, paths[i]};
    all[i] = &addresses[i];
  }
  snprintf(dir, PATH, "%s/%s", argv[1], argv[2]);
  fsm.user = &counter, fsm.apply = apply, fsm.snapshot = snapshot, fsm.restore = restore;
  options.dir = dir, options.uid = strtoull(argv[2], NULL, 10), options.fsm = &fsm;
  options.addresses = (const struct blx_consensus_address *const *)all, options.n_addresses = 3;
  if (argc > 3) options.heartbeat_ms = (options.election_ms = (uint32_t)strtoul(argv[3], NULL, 10)) / 10;
  setvbuf(stdout, NULL, _IOLBF, 0);
  int rc = options.uid == 1 ? blx_consensus_bootstrap(&options, &err) : 0;
  if (rc == 0 || rc == BLX_E_EXISTS) rc = blx_consensus_open(&options, &member, &err);
  if (rc != 0) return fprintf(stderr, "%s\n", err.message), blx_error_exit_status(rc);
  while (fgets(line, sizeof line, stdin) != NULL) obey(member, &counter, line);
  blx_consensus_close(member);
  return 0;
}

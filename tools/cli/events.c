#include "events.h"
#include "flags.h"
#include "when.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOUR_MS = 3600000, POLL_MS = 250, PATIENCE_MS = 30000, OPEN_MS = 5000 };

/* A number is an index, anything else a time. */
static int take_since(const struct cli_args *args, struct blx_watch_request *request) {
  char quoted[CLI_QUOTE_SIZE];
  const char *text = args->since_time;
  uint64_t now = cli_wall_ms();
  if (text != NULL && cli_parse_number(text, 0, UINT64_MAX, &request->since_index)) return 0;
  request->since_ms = now > HOUR_MS ? now - HOUR_MS : 1;
  if (text != NULL && !cli_parse_when(text, now, &request->since_ms))
    return cli_usage("--since: %s is no time ago (10m), date (2026-01-31T10:00:00Z) or index (1200)",
                     cli_quote(quoted, sizeof quoted, text));
  if (request->since_ms == 0) request->since_ms = 1; /* 0 is not by time */
  request->tell_cut = 1;
  return 0;
}

static int take_object(const struct cli_args *args, struct cli_events_want *want) {
  char quoted[CLI_QUOTE_SIZE];
  const char *slash = args->until != NULL ? strchr(args->until, '/') : NULL;
  if (args->until == NULL) return 0;
  bool instance = strncmp(args->until, "instance/", 9) == 0;
  if (instance || strncmp(args->until, "vm/", 3) == 0) {
    want->request.vm = cli_vm_name(slash + 1, 63);
    return want->request.vm != NULL ? 0 : CLI_EXIT_USAGE;
  }
  bool node = strncmp(args->until, "node/", 5) == 0, quota = strncmp(args->until, "quota/", 6) == 0;
  if ((!node && !quota) || slash[1] == '\0')
    return cli_usage("--for: %s is not vm/NAME, instance/NAME, node/NAME or quota/TENANT",
                     cli_quote(quoted, sizeof quoted, args->until));
  want->name = slash + 1;
  if (quota) want->request.tenant = want->name;
  want->request.kind = node ? BLX_EVENT_KIND_NODE : BLX_EVENT_KIND_QUOTA;
  want->request.has_kind = 1;
  return 0;
}

int cli_events_wanted(const struct cli_args *args, struct cli_events_want *want) {
  *want = (struct cli_events_want){.request = BLX_WATCH_REQUEST_INIT};
  int status = take_since(args, &want->request);
  if (status != 0) return status;
  if (args->until != NULL && (args->of_vm != NULL || args->of_node != NULL || args->event_kind != 0))
    return cli_usage("--for does not go with --vm, --node or --kind");
  if (args->of_vm != NULL) want->request.vm = cli_vm_name(args->of_vm, 63);
  if (args->of_vm != NULL && want->request.vm == NULL) return CLI_EXIT_USAGE;
  want->request.node = args->of_node;
  want->request.all_tenants = args->all_tenants;
  want->request.has_kind = args->event_kind != 0;
  if (args->event_kind != 0) want->request.kind = args->event_kind - 1;
  return take_object(args, want);
}

static bool is_wanted(const struct cli_events_want *want, const struct blx_event *event) {
  return want->name == NULL || (event->name != NULL && strcmp(event->name, want->name) == 0);
}

/* Not an event, but where events begin. */
static bool is_cut(const struct blx_event *event) {
  char time[CLI_TIME_SIZE];
  if (event->type != BLX_EVENT_TYPE_CUT) return false;
  (void)fprintf(stderr, "blixard: %s has events from index %llu on, after %s; older ones are not kept there\n",
                event->name != NULL ? event->name : "", (unsigned long long)event->index + 1,
                cli_time_text(event->time_ms, time));
  return true;
}

json_t *cli_event_document(const struct blx_event *event, int *status) {
  json_t *document = cli_document("event", event, status);
  /* Zero values are written out, but nodes, quotas and settings have no phase. */
  bool phase = event->kind == BLX_EVENT_KIND_VM || event->kind == BLX_EVENT_KIND_INSTANCE;
  if (document != NULL && !phase) json_object_del(document, "phase");
  return document;
}

static void append(json_t *rows, const struct blx_event *event, int *status) {
  json_t *document = cli_event_document(event, status);
  if (document == NULL || json_array_append_new(rows, document) == 0) return;
  fputs("blixard: no memory for the events [NOMEM]\n", stderr);
  *status = CLI_EXIT_INTERNAL;
}

/* To the end of a watch that ends. */
static int read_all(const struct cli_args *args, blx_watch *watch, const struct cli_events_want *want, json_t *rows) {
  uint32_t patience_ms = args->timeout_ms != 0 ? args->timeout_ms : PATIENCE_MS;
  if (patience_ms > 3600000) patience_ms = 3600000;
  for (int status = 0;;) {
    struct blx_event *event = NULL;
    blx_error err = {0};
    int rc = blx_watch_next(watch, patience_ms, &event, &err);
    if (rc == 0) return 0;
    if (rc < 0) return cli_fail(&err);
    if (!is_cut(event) && is_wanted(want, event)) append(rows, event, &status);
    blx_event_free(event);
    if (status != 0) return status;
  }
}

json_t *cli_events_kept(const struct cli_args *args, blx_client *client, int *status) {
  struct cli_events_want want;
  blx_watch *watch = NULL;
  blx_error err = {0};
  *status = cli_events_wanted(args, &want);
  if (*status != 0) return NULL;
  json_t *rows = json_array(), *document = json_pack("{s:o}", "events", rows);
  want.request.once = 1;
  if (blx_watch_open(client, &want.request, &watch, &err) != 0)
    *status = cli_fail(&err);
  else
    *status = read_all(args, watch, &want, rows);
  blx_watch_close(watch);
  if (*status == 0) return document;
  json_decref(document);
  return NULL;
}

/* ---- following */

void cli_events_begin(struct cli_events *events, const struct cli_args *args, blx_client *client,
                      const struct cli_events_want *want) {
  *events = (struct cli_events){.client = client, .want = *want};
  events->patience_ms = args->timeout_ms != 0 ? args->timeout_ms : PATIENCE_MS;
}

/* After a break the last index is asked for again: there may be more of it than came. */
static int reopen(struct cli_events *events) {
  struct blx_watch_request request = events->want.request;
  if (events->index > 1) {
    request.since_ms = 0;
    request.tell_cut = 0;
    request.since_index = events->index - 1;
    events->skip = events->seen_at_index;
  }
  return blx_watch_open(events->client, &request, &events->watch, &events->err);
}

static bool may_return(int code) {
  return code == BLX_E_UNAVAILABLE || code == BLX_E_NO_LEADER || code == BLX_E_CANCELLED;
}

/* An event that came: is it one to give out? */
static bool take(struct cli_events *events, const struct blx_event *event) {
  if (event->index != events->index) {
    events->index = event->index;
    events->seen_at_index = events->skip = 0;
  }
  if (events->skip > 0) {
    events->skip--;
    return false;
  }
  events->seen_at_index++;
  return is_wanted(&events->want, event);
}

/* One step: 1 with an event, 0 to go on, or an error's code. */
static int step(struct cli_events *events, uint32_t wait_ms, struct blx_event **out) {
  struct blx_event *event = NULL;
  int rc = events->watch == NULL ? reopen(events) : 0;
  if (rc == 0) rc = blx_watch_next(events->watch, wait_ms, &event, &events->err);
  if (rc == 1) {
    if (!is_cut(event) && take(events, event)) {
      *out = event;
      return 1;
    }
    blx_event_free(event);
    return 0;
  }
  if (rc == BLX_E_TIMEOUT) return rc;
  blx_watch_close(events->watch);
  events->watch = NULL;
  if (rc == 0) { /* the member is stopping */
    rc = events->err.code = BLX_E_UNAVAILABLE;
    snprintf(events->err.message, sizeof events->err.message, "the daemon ended the watch");
  }
  return rc;
}

int cli_events_next(struct cli_events *events, bool wait, struct blx_event **out) {
  const volatile int *stop = cli_catch_interrupt();
  uint32_t broken_ms = 0;
  while (*stop == 0 && !cli_output_closed() && ferror(stdout) == 0) {
    int rc = step(events, wait ? POLL_MS : 0, out);
    if (rc == 1) return 1;
    if (rc == BLX_E_TIMEOUT && !wait) return rc;
    if (rc == 0 || rc == BLX_E_TIMEOUT) continue;
    broken_ms += POLL_MS;
    if (!may_return(rc) || broken_ms >= events->patience_ms) return rc;
    struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    nanosleep(&pause, NULL);
  }
  return 0;
}

void cli_events_end(struct cli_events *events) {
  blx_watch_close(events->watch);
  events->watch = NULL;
}

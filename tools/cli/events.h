/* Reading the cluster's events: those that are kept, and those that come. */
#ifndef BLX_CLI_EVENTS_H
#define BLX_CLI_EVENTS_H

#include "output.h"

/* Which events are wanted. */
struct cli_events_want {
  struct blx_watch_request request;
  const char *name; /* NULL, or only those of this node or tenant */
};

/* What comes, over breaks of the connection. */
struct cli_events {
  blx_client *client;
  struct cli_events_want want;
  blx_watch *watch;
  uint64_t index;       /* of the last event; 0: none came */
  size_t seen_at_index; /* how many of that index were given out */
  size_t skip;          /* how many of them come again after a break */
  uint32_t patience_ms; /* how long a break may last */
  blx_error err;
};

/* By --since, --for, --vm, --node and --kind; of the last hour, without. 0, or the exit status after saying what is
 * wrong. */
int cli_events_wanted(const struct cli_args *args, struct cli_events_want *want);

/* The events that there are, as {"events": [...]}, the caller's. NULL: @status is set, and it was said why. */
json_t *cli_events_kept(const struct cli_args *args, blx_client *client, int *status);

/* Begin to follow; nothing is asked before the first cli_events_next(). */
void cli_events_begin(struct cli_events *events, const struct cli_args *args, blx_client *client,
                      const struct cli_events_want *want);

/* The next event, which blx_event_free() frees. @wait: until one comes, else BLX_E_TIMEOUT when none is there. 1; 0:
 * nobody wants more (Ctrl-C, or the output was closed); or the error's code with events->err. */
int cli_events_next(struct cli_events *events, bool wait, struct blx_event **out);
void cli_events_end(struct cli_events *events);

/* The event as a document. NULL: @status is set, and it was said why. */
json_t *cli_event_document(const struct blx_event *event, int *status);

#endif

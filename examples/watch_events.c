/* Print what happens in a cluster, a line of JSON for each event, from a poll() loop of your own: nothing of yours runs
 * on another thread. After a break it goes on where it was, without a gap. Build it against an installed copy: cc
 * watch_events.c $(pkg-config --cflags --libs blixard) -o watch_events && ./watch_events unix:/run/blixard.sock 10 */
#include <blixard/blixard.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

struct watching {
  blx_watch *watch;
  uint64_t last, resume; /* index of the last event; the last index whose events all came */
  unsigned long left;    /* events still to print */
  int ended, code;       /* why the watch ended; 0: it was the server */
};

static void on_event(void *user, const blx_error *err, struct blx_event *event) {
  struct watching *w = user;
  char *text = NULL;
  if (event == NULL) {
    w->ended = 1;
    w->code = err != NULL ? err->code : 0;
    if (err != NULL && w->left > 0) fprintf(stderr, "watch: %s [%s]\n", err->message, blx_error_name(err->code));
    return;
  }
  if (event->index > w->last) w->resume = w->last;
  w->last = event->index;
  if (w->left > 0 && blx_to_json("event", event, &text, NULL) == 0) {
    printf("%s\n", text);
    fflush(stdout);
    w->left--;
  }
  blx_string_free(text);
  blx_event_free(event);
}

/* Until enough was printed (0) or the watch ended by itself (its code, or 1). */
static int run(blx_client *client, struct watching *w, blx_error *err) {
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  struct pollfd fd = {.fd = blx_client_fd(client, err), .events = POLLIN};
  int rc;
  request.since_index = w->resume;
  w->ended = 0;
  rc = blx_watch_open_async(client, &request, on_event, w, &w->watch, err);
  if (rc != 0) return rc;
  while (w->left > 0 && !w->ended)
    if (poll(&fd, 1, -1) == 1) blx_client_dispatch(client, 0, NULL);
  blx_watch_close(w->watch);
  while (!w->ended) /* its end comes last, and once; then nothing of it needs w any more */
    if (poll(&fd, 1, -1) == 1) blx_client_dispatch(client, 0, NULL);
  return w->left == 0 ? 0 : w->code != 0 ? w->code : 1;
}

int main(int argc, char **argv) {
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  struct watching w = {.left = argc == 3 ? strtoul(argv[2], NULL, 10) : 0};
  const char *address = argc == 3 ? argv[1] : "";
  blx_client *client = NULL;
  blx_error err = {0};
  int rc;
  if (w.left == 0) {
    fprintf(stderr, "usage: %s unix:PATH COUNT\n", argv[0]);
    return 2;
  }
  options.addresses = &address;
  options.n_addresses = 1;
  options.completions = BLX_COMPLETIONS_DISPATCH;
  if (blx_client_open(&options, &client, &err) != 0) {
    fprintf(stderr, "open: %s\n", err.message);
    return blx_error_exit_status(err.code);
  }
  do {
    rc = run(client, &w, &err);
    if (rc == BLX_E_STALE) w.resume = w.last = 0; /* too long away: begin with what there is now */
    if (rc != 0) poll(NULL, 0, 500);
  } while (rc == BLX_E_STALE || rc == BLX_E_UNAVAILABLE || rc == BLX_E_NO_LEADER || rc == 1);
  blx_client_close(client);
  return rc == 0 ? 0 : blx_error_exit_status(rc);
}

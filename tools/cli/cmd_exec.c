/* Commands in guests and their consoles. What is typed is read on a thread of its own, so that a command which does not
 * read holds up neither its output nor the end. */
#include "vm_common.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum {
  READ_BYTES = 32768,
  POLL_MS = 100,
  START_MS = 30000, /* until the guest is reached, without --timeout */
  QUIET_MS = 1000,  /* a console whose input ended is left when it has been silent for so long */
  LEAVE_KEY = 0x1d, /* Ctrl-] */
};

struct session {
  blx_vm_exec *exec;
  bool console, reads; /* reads: the standard input goes to it */
  bool begun;
  pthread_t thread;
  bool threaded;
  int wake[2]; /* ends the thread; -1: none */
  atomic_bool stop, left, input_ended;
  struct winsize size;
};

/* ---- the terminal, and signals */

static struct termios cooked;
static volatile sig_atomic_t is_raw, signalled, resized;

static void terminal_restore(void) {
  if (is_raw != 0) tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
  is_raw = 0;
}

static void terminal_raw(void) {
  if (is_raw != 0 || isatty(STDIN_FILENO) == 0 || tcgetattr(STDIN_FILENO, &cooked) != 0) return;
  struct termios raw = cooked;
  cfmakeraw(&raw);
  is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void on_signal(int signum) {
  if (signum == SIGWINCH)
    resized = 1;
  else
    signalled = signum;
}

/* Not restarted, so that a write nobody takes ends, too. */
static void catch_signals(void) {
  static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
  struct sigaction action = {.sa_handler = on_signal};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) sigaction(caught[i], &action, NULL);
}

static struct winsize terminal_size(void) {
  struct winsize size = {0};
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) return size;
  return (struct winsize){.ws_row = 24, .ws_col = 80};
}

/* One that finds no room is tried again. */
static void follow_size(struct session *s, bool tty) {
  if (!tty || !s->begun || resized == 0) return;
  struct winsize now = terminal_size();
  resized = 0;
  if (now.ws_row == s->size.ws_row && now.ws_col == s->size.ws_col) return;
  if (blx_vm_exec_resize(s->exec, now.ws_row, now.ws_col, 0, NULL) == 0)
    s->size = now;
  else
    resized = 1;
}

/* ---- what is typed */

/* False: it has ended, or the end was asked for. */
static bool give(struct session *s, const char *bytes, size_t len) {
  do {
    int n = blx_vm_exec_write(s->exec, bytes, len, POLL_MS, NULL);
    if (n < 0 && n != BLX_E_TIMEOUT) return false;
    if (n < 0) continue;
    bytes += n;
    len -= (size_t)n;
    if (len == 0) return true;
  } while (!atomic_load(&s->stop));
  return false;
}

static bool read_some(struct session *s) {
  char bytes[READ_BYTES];
  ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (n < 0) n = 0; /* a terminal that hung up */
  const char *key = s->console && n > 0 ? memchr(bytes, LEAVE_KEY, (size_t)n) : NULL;
  size_t len = key != NULL ? (size_t)(key - bytes) : (size_t)n;
  if ((len > 0 || (n == 0 && !s->console)) && !give(s, bytes, len)) return false;
  if (key != NULL) atomic_store(&s->left, true);
  if (n == 0) atomic_store(&s->input_ended, true);
  return n > 0 && key == NULL;
}

static void *read_input(void *arg) {
  struct session *s = arg;
  struct pollfd from[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = s->wake[0], .events = POLLIN}};
  while (!atomic_load(&s->stop)) {
    if (poll(from, 2, -1) < 0 && errno != EINTR) break;
    if (from[1].revents != 0) break;
    if (from[0].revents != 0 && !read_some(s)) break;
  }
  return NULL;
}

/* Signals are the other thread's. */
static bool start_reading(struct session *s) {
  sigset_t all, before;
  if (pipe(s->wake) != 0) {
    s->wake[0] = s->wake[1] = -1;
    return false;
  }
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  s->threaded = pthread_create(&s->thread, NULL, read_input, s) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return s->threaded;
}

static void stop_reading(struct session *s) {
  atomic_store(&s->stop, true);
  if (s->wake[1] >= 0) close(s->wake[1]);
  if (s->threaded) pthread_join(s->thread, NULL);
  if (s->wake[0] >= 0) close(s->wake[0]);
}

/* ---- what it says */

/* False: nobody reads it any more, or a signal came. */
static bool put(int fd, const struct blx_bytes *bytes) {
  const uint8_t *at = bytes->data;
  for (size_t left = bytes->len; left > 0;) {
    ssize_t n = write(fd, at, left);
    if (n < 0 && errno == EAGAIN) {
      struct pollfd to = {.fd = fd, .events = POLLOUT};
      (void)poll(&to, 1, POLL_MS);
    }
    if (n < 0 && (signalled != 0 || (errno != EINTR && errno != EAGAIN))) return false;
    if (n < 0) continue;
    at += n;
    left -= (size_t)n;
  }
  return true;
}

static int begin(struct session *s, const char *instance) {
  s->begun = true;
  if (s->console && isatty(STDIN_FILENO) != 0) cli_hint("connected to %s, Ctrl-] leaves", instance);
  if (s->reads && (s->console || s->size.ws_row > 0)) terminal_raw();
  if (!s->reads) {
    blx_error err = {0};
    int rc = blx_vm_exec_write(s->exec, NULL, 0, START_MS, &err);
    return rc == 0 || rc == BLX_E_CONFLICT ? -1 : cli_fail(&err);
  }
  if (start_reading(s)) return -1;
  terminal_restore();
  fprintf(stderr, "blixard: the standard input cannot be read: %s [IO]\n", strerror(errno));
  return CLI_EXIT_INTERNAL;
}

static int not_reached(uint32_t waited_ms) {
  blx_error err = {.code = BLX_E_TIMEOUT};
  snprintf(err.message, sizeof err.message,
           "its guest was not reached within %.1f s: `blixard vm describe` says how it is", waited_ms / 1000.0);
  return cli_fail(&err);
}

/* -1: it goes on; else the exit status. */
static int take(struct session *s, const struct blx_vm_exec_output *said) {
  if (!s->begun) return begin(s, said->instance != NULL ? said->instance : "");
  if (!put(STDOUT_FILENO, &said->out) || !put(STDERR_FILENO, &said->err)) return signalled != 0 ? -1 : CLI_EXIT_OK;
  if (said->ended == 0) return -1;
  if (s->console) return CLI_EXIT_OK;
  return said->signal > 0 ? 128 + said->signal : said->exit_status;
}

static int run(struct session *s, const struct cli_args *args) {
  uint32_t quiet_ms = 0, start_ms = args->timeout_ms != 0 ? args->timeout_ms : START_MS;
  while (signalled == 0 && !atomic_load(&s->left)) {
    struct blx_vm_exec_output *said = NULL;
    blx_error err = {0};
    follow_size(s, args->tty != 0);
    int rc = blx_vm_exec_next(s->exec, POLL_MS, &said, &err);
    if (rc == 1) {
      int status = take(s, said);
      blx_vm_exec_output_free(said);
      if (status >= 0) return status;
      quiet_ms = 0;
      continue;
    }
    quiet_ms += POLL_MS;
    if (rc == BLX_E_TIMEOUT && s->console && atomic_load(&s->input_ended) && quiet_ms >= QUIET_MS) return CLI_EXIT_OK;
    if (rc == BLX_E_TIMEOUT && (s->begun || quiet_ms < start_ms)) {
      if (!cli_output_closed()) continue;
      return CLI_EXIT_OK;
    }
    terminal_restore();
    if (rc == BLX_E_TIMEOUT) return not_reached(quiet_ms);
    if (rc != 0) return cli_fail(&err);
    fputs("blixard: the session ended without saying how [INTERNAL]\n", stderr);
    return CLI_EXIT_INTERNAL;
  }
  return signalled != 0 ? 128 + signalled : CLI_EXIT_OK;
}

static int session_of(struct cli_args *args, struct blx_vm_exec_request *request) {
  struct session s = {.console = request->console != 0, .wake = {-1, -1}};
  blx_client *client = NULL;
  blx_error err = {0};
  s.reads = s.console || args->stdin_too != 0;
  request->name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  if (request->name == NULL) return CLI_EXIT_USAGE;
  if (args->tty != 0) {
    s.size = terminal_size();
    request->tty = 1;
    request->rows = s.size.ws_row;
    request->columns = s.size.ws_col;
  }
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  catch_signals();
  if (blx_vm_exec_open(client, request, &s.exec, &err) == 0)
    status = run(&s, args);
  else
    status = cli_fail(&err);
  terminal_restore();
  stop_reading(&s);
  if (s.console && s.begun && isatty(STDIN_FILENO) != 0) cli_hint("\nleft the console of %s", request->name);
  blx_vm_exec_close(s.exec);
  blx_client_close(client);
  return status;
}

int cmd_vm_exec(struct cli_args *args) {
  struct blx_vm_exec_request request = BLX_VM_EXEC_REQUEST_INIT;
  request.argv = args->words + 1;
  request.n_argv = args->n_words - 1;
  return session_of(args, &request);
}

int cmd_vm_console(struct cli_args *args) {
  struct blx_vm_exec_request request = BLX_VM_EXEC_REQUEST_INIT;
  request.console = 1;
  return session_of(args, &request);
}

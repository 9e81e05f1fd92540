#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DEFAULT_TIMEOUT_MS = 30000, ADDRESS_SIZE = 512, TENANT_NAME_MAX = 56 };
static const char default_socket[] = "/run/blixard/blixard.sock";
static const char fallback_socket[] = "/var/lib/blixard/blixard.sock";

/* A message of the library may carry lines of a build's log; an error is one line. */
static void put_line(FILE *to, const char *text) {
  for (; *text != '\0'; text++) fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, to);
}

static __attribute__((format(printf, 2, 0))) int say(const char *code, const char *fmt, va_list ap) {
  char message[1024];
  vsnprintf(message, sizeof message, fmt, ap);
  fputs("blixard: ", stderr);
  put_line(stderr, message);
  fprintf(stderr, " [%s]\n", code);
  return CLI_EXIT_USAGE;
}

int cli_usage(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int status = say("INVALID", fmt, ap);
  va_end(ap);
  return status;
}

int cli_unsupported(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int status = say("UNSUPPORTED", fmt, ap);
  va_end(ap);
  return status;
}

static void put_error(const blx_error *err) {
  fputs("blixard: ", stderr);
  put_line(stderr, err->message[0] != '\0' ? err->message : blx_error_text(err->code));
  fprintf(stderr, " [%s]", blx_error_name(err->code));
  if (err->origin[0] != '\0') {
    fputs(" from ", stderr);
    put_line(stderr, err->origin);
  }
  if (err->leader[0] != '\0') {
    fputs("; ask ", stderr);
    put_line(stderr, err->leader);
  }
}

int cli_fail(const blx_error *err) {
  put_error(err);
  fputc('\n', stderr);
  int status = blx_error_exit_status(err->code);
  return status != 0 ? status : CLI_EXIT_INTERNAL;
}

int cli_fail_change(const struct cli_args *args, const blx_error *err) {
  if (err->code != BLX_E_TIMEOUT || args->request_id == NULL) return cli_fail(err);
  put_error(err);
  fprintf(stderr, "; send it again with --request-id %s\n", args->request_id);
  return blx_error_exit_status(err->code);
}

void cli_hint(const char *fmt, ...) {
  if (isatty(STDERR_FILENO) == 0) return;
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
}

const char *cli_quote(char *buf, size_t size, const char *text) {
  enum { SHOWN_MAX = 64 };
  size_t len = strlen(text), shown = len > SHOWN_MAX ? SHOWN_MAX : len, used = 0;
  while (shown > 0 && shown < len && ((unsigned char)text[shown] & 0xc0) == 0x80) shown--;
  buf[used++] = '"';
  for (size_t i = 0; i < shown && used + 12 < size; i++) {
    unsigned char ch = (unsigned char)text[i];
    if (ch < 0x20 || ch == 0x7f)
      used += (size_t)snprintf(buf + used, size - used, "\\x%02x", ch);
    else
      buf[used++] = (char)ch;
  }
  snprintf(buf + used, size - used, "\"%s", shown < len ? "..." : "");
  return buf;
}

static const char *socket_of(const struct cli_args *args) {
  if (args->socket != NULL) return args->socket;
  const char *env = getenv("BLIXARD_SOCKET");
  if (env != NULL && *env != '\0') return env;
  return access(default_socket, F_OK) == 0 ? default_socket : fallback_socket;
}

static int refuse(int code, const char *path, const char *why) {
  blx_error err = {.code = code};
  char quoted[CLI_QUOTE_SIZE];
  snprintf(err.message, sizeof err.message, "%s %s", cli_quote(quoted, sizeof quoted, path), why);
  return cli_fail(&err);
}

/* The library goes on trying a daemon that is away until the time is up, which is right for a cluster in trouble.
 * Somebody at a terminal who named no running daemon hears it at once. */
static int knock(const char *address) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
  if (*path == '\0') return cli_usage("--socket needs a path");
  if (strlen(path) >= sizeof to.sun_path)
    return refuse(BLX_E_INVALID, path, "is longer than the 107 bytes of a socket");
  memcpy(to.sun_path, path, strlen(path));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return 0;
  int errnum = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
  close(fd);
  switch (errnum) {
  case ENOENT:
  case ENOTDIR:
    return refuse(BLX_E_UNAVAILABLE, path,
                  "is not there: start blixardd, or say with --socket or BLIXARD_SOCKET where it answers");
  case ENOTSOCK:
  case EPROTOTYPE:
  case ECONNREFUSED: return refuse(BLX_E_UNAVAILABLE, path, "has no daemon behind it: start blixardd");
  case EACCES:
  case EPERM:
    return refuse(BLX_E_DENIED, path, "may not be used by you: become root, or the user that blixardd runs as");
  default: return 0;
  }
}

static bool name_char(char ch, bool edge) {
  return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || (!edge && ch == '-');
}

static bool is_name(const char *name, size_t max) {
  size_t len = strlen(name);
  bool ok = len >= 1 && len <= max && name_char(name[0], true) && name_char(name[len - 1], true);
  for (size_t i = 0; ok && i < len; i++) ok = name_char(name[i], false);
  return ok;
}

const char *cli_tenant(const struct cli_args *args) {
  const char *env = getenv("BLIXARD_TENANT");
  if (args->tenant != NULL) return args->tenant;
  return env != NULL && *env != '\0' ? env : NULL;
}

/* As the library would, but before anybody is asked, and with the name. */
static int check_tenant(const struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  const char *tenant = cli_tenant(args);
  if (args->tenant != NULL && args->all_tenants != 0)
    return cli_usage("--tenant and --all-tenants do not go together: leave one out");
  if (tenant == NULL || is_name(tenant, TENANT_NAME_MAX)) return 0;
  return cli_usage("%s: the tenant %s does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most %d characters",
                   args->tenant != NULL ? "--tenant" : "BLIXARD_TENANT", cli_quote(quoted, sizeof quoted, tenant),
                   TENANT_NAME_MAX);
}

int cli_connect(const struct cli_args *args, blx_client **out) {
  const char *const addresses[] = {socket_of(args)};
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  blx_error err = {0};
  int status = check_tenant(args);
  if (status == 0) status = knock(addresses[0]);
  if (status != 0) return status;
  options.addresses = addresses;
  options.n_addresses = 1;
  options.timeout_ms = args->timeout_ms != 0 ? args->timeout_ms : DEFAULT_TIMEOUT_MS;
  if (options.timeout_ms > 3600000) options.timeout_ms = 3600000;
  options.reason = args->reason;
  options.tenant = cli_tenant(args);
  if (blx_client_open(&options, out, &err) != 0) return cli_fail(&err);
  return 0;
}

const char *cli_request_id(struct cli_args *args) {
  if (args->request_id != NULL) return args->request_id;
  unsigned char random[(CLI_REQUEST_ID_SIZE - 1) / 2];
  if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
    fprintf(stderr, "blixard: the system gives no random numbers: %s [IO]\n", strerror(errno));
    return NULL;
  }
  for (size_t i = 0; i < sizeof random; i++) snprintf(args->request_id_made + 2 * i, 3, "%02x", random[i]);
  args->request_id = args->request_id_made;
  return args->request_id;
}

const char *cli_vm_name(const char *word, size_t max) {
  char quoted[CLI_QUOTE_SIZE];
  const char *name = strncmp(word, "vm/", 3) == 0 ? word + 3 : word;
  if (is_name(name, max)) return name;
  cli_usage("the name %s does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most %zu characters",
            cli_quote(quoted, sizeof quoted, name), max);
  return NULL;
}

static volatile int interrupted;

static void on_interrupt(int signum) {
  (void)signum;
  interrupted = 1;
}

const volatile int *cli_catch_interrupt(void) {
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  return &interrupted;
}

bool cli_output_closed(void) {
  struct pollfd out = {.fd = STDOUT_FILENO};
  return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLNVAL)) != 0;
}

static unsigned least(unsigned a, unsigned b, unsigned c) {
  unsigned ab = a < b ? a : b;
  return ab < c ? ab : c;
}

/* How many letters must be put in, left out or changed (Levenshtein, one row at a time). */
static unsigned edit_distance(const char *a, const char *b) {
  enum { LEN_MAX = 32 };
  unsigned row[LEN_MAX + 1];
  size_t la = strlen(a), lb = strlen(b);
  if (la > LEN_MAX || lb > LEN_MAX) return LEN_MAX;
  for (unsigned j = 0; j <= lb; j++) row[j] = j;
  for (unsigned i = 1; i <= la; i++) {
    unsigned diagonal = row[0];
    row[0] = i;
    for (unsigned j = 1; j <= lb; j++) {
      unsigned above = row[j];
      row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
      diagonal = above;
    }
  }
  return row[lb];
}

void cli_nearest_offer(struct cli_nearest *nearest, const char *name) {
  size_t len = strlen(nearest->word);
  unsigned limit = len <= 4 ? 1 : 2;
  unsigned distance = edit_distance(nearest->word, name);
  if (len >= 3 && distance > limit && strncmp(name, nearest->word, len) == 0) distance = limit;
  if (distance > limit || (nearest->best != NULL && distance >= nearest->distance)) return;
  nearest->best = name;
  nearest->distance = distance;
}

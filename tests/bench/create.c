/* Creates COUNT VMs with OUTSTANDING calls at a time over the public asynchronous API, and prints one line of JSON with
 * how long that took. usage: create SOCKET PREFIX COUNT OUTSTANDING [run]   without `run` the VMs are defined and not
 * started. */
#include <blixard/blixard.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT_MAX = 1000000, OUTSTANDING_MAX = 4096, NAME_MAX_BYTES = 57 };

static const char module[] =
    "{ microvm = { hypervisor = \"qemu\"; vcpu = 1; mem = 64; }; networking.hostName = \"b\"; }";

struct bench;

struct call {
  struct bench *bench;
  uint64_t began_ns;
};

struct bench {
  pthread_mutex_t lock;
  pthread_cond_t change;
  unsigned long in_flight, done, failed;
  blx_error first_error;
  uint64_t *took_ns; /* one per completed call */
};

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void completed(void *user, const blx_error *err, struct blx_vm *vm) {
  struct call *call = user;
  struct bench *b = call->bench;
  pthread_mutex_lock(&b->lock);
  b->took_ns[b->done++] = now_ns() - call->began_ns;
  if (err) {
    if (b->failed == 0) b->first_error = *err;
    b->failed++;
  }
  b->in_flight--;
  pthread_cond_signal(&b->change);
  pthread_mutex_unlock(&b->lock);
  blx_vm_free(vm);
}

static int submit(blx_client *client, struct call *call, const char *prefix, unsigned long number, uint32_t stopped,
                  blx_error *err) {
  char name[NAME_MAX_BYTES];
  snprintf(name, sizeof name, "%s-%lux", prefix, number);
  struct blx_vm_spec spec = {.struct_size = sizeof spec, .name = name, .config_name = "bench.nix", .memory_mib = 64};
  struct blx_vm_create_request request = {.struct_size = sizeof request, .spec = &spec, .stopped = stopped};
  request.config.data = (const uint8_t *)module;
  request.config.len = sizeof module - 1;
  call->began_ns = now_ns();
  return blx_vm_create_async(client, &request, completed, call, err);
}

static int run(blx_client *client, struct bench *b, const char *prefix, unsigned long count, unsigned long outstanding,
               uint32_t stopped, blx_error *err) {
  struct call *calls = calloc(count, sizeof *calls);
  if (!calls) return BLX_E_NOMEM;
  int code = 0;
  for (unsigned long n = 0; n < count && code == 0; n++) {
    pthread_mutex_lock(&b->lock);
    while (b->in_flight >= outstanding) pthread_cond_wait(&b->change, &b->lock);
    b->in_flight++;
    pthread_mutex_unlock(&b->lock);
    calls[n].bench = b;
    code = submit(client, &calls[n], prefix, n, stopped, err);
    if (code == 0) continue;
    pthread_mutex_lock(&b->lock);
    b->in_flight--;
    pthread_mutex_unlock(&b->lock);
  }
  pthread_mutex_lock(&b->lock);
  while (b->in_flight > 0) pthread_cond_wait(&b->change, &b->lock);
  pthread_mutex_unlock(&b->lock);
  free(calls);
  return code;
}

static int by_value(const void *a, const void *b) {
  const uint64_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static int report(struct bench *b, uint64_t took_ns) {
  if (b->failed > 0 || b->done == 0) {
    fprintf(stderr, "create: %lu of %lu failed, the first with %s: %s\n", b->failed, b->done,
            blx_error_name(b->first_error.code), b->first_error.message);
    return 1;
  }
  qsort(b->took_ns, b->done, sizeof *b->took_ns, by_value);
  printf("{\"creates\": %lu, \"per_second\": %.0f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n", b->done,
         (double)b->done * 1e9 / (double)took_ns, (double)b->took_ns[b->done / 2] / 1e6,
         (double)b->took_ns[b->done * 99 / 100] / 1e6);
  return 0;
}

static unsigned long number(const char *text, unsigned long max) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  return errno || *end || end == text || value == 0 || value > max ? 0 : value;
}

int main(int argc, char **argv) {
  unsigned long count = argc > 4 ? number(argv[3], COUNT_MAX) : 0;
  unsigned long outstanding = argc > 4 ? number(argv[4], OUTSTANDING_MAX) : 0;
  if (count == 0 || outstanding == 0) {
    fprintf(stderr, "usage: create SOCKET PREFIX COUNT(1..%d) OUTSTANDING(1..%d) [run]\n", COUNT_MAX, OUTSTANDING_MAX);
    return 2;
  }
  const char *addresses[] = {argv[1]};
  struct blx_client_options options = {.struct_size = sizeof options, .addresses = addresses, .n_addresses = 1};
  struct bench b = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
  b.took_ns = calloc(count, sizeof *b.took_ns);
  blx_client *client;
  blx_error err = {0};
  int code = b.took_ns ? blx_client_open(&options, &client, &err) : BLX_E_NOMEM;
  if (code == 0) {
    uint64_t began = now_ns();
    code = run(client, &b, argv[2], count, outstanding, argc == 5, &err);
    uint64_t took = now_ns() - began;
    blx_client_close(client);
    if (code == 0) code = report(&b, took);
  }
  if (code < 0) fprintf(stderr, "create: %s: %s\n", blx_error_name(code), err.message);
  free(b.took_ns);
  return code != 0;
}

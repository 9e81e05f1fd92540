/* Figures of lib/schema: nanoseconds of CPU of each walker on a spec with two labels; and a list of 10,000 VMs with 32
 * fields each as JSON: milliseconds of CPU, and memory above the text that comes out. */
#include "schema/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARENA_BYTES = 64 << 20, BUF_BYTES = 64 << 20, ROUNDS = 200000, OBJECTS = 10000, FIELDS = 32, TIMES = 9 };

struct work {
  struct blx__arena arena;
  struct blx__buf in, wire, json;
};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "bench: %s\n", what);
  exit(1);
}

/* One of the measured actions on a spec of 12 fields with two labels. */
static blx__rc action(struct work *w, int which, const void *msg) {
  const struct blx__msg_desc *desc = blx__desc_vm_spec();
  struct blx__slice wire = {w->wire.data, w->wire.len}, json = {w->json.data, w->json.len};
  void *out = NULL;
  blx__rc rc = BLX__OK;
  blx__arena_reset(&w->arena);
  blx__buf_clear(&w->in);
  if (which == 0) rc = blx__msg_encode(desc, msg, &w->in, NULL);
  if (which == 1) rc = blx__msg_decode(desc, &w->arena, wire, &out, NULL);
  if (which == 2) rc = blx__json_write(desc, msg, 0, &w->in, NULL);
  if (which == 3) rc = blx__json_read(desc, &w->arena, json, &out, NULL);
  if (which == 4) rc = blx__msg_own(desc, msg, &out, NULL);
  if (which == 4) blx__msg_free_owned(out);
  return rc;
}

static void spec_fill(struct blx_vm_spec *s, struct blx_label *labels[], size_t n_labels) {
  *s = (struct blx_vm_spec)BLX_VM_SPEC_INIT;
  s->name = "nginx";
  s->flake = "git+file:///etc/blixard/flake?dir=vms#nginx";
  s->config_name = "nginx.nix";
  s->vcpus = 4;
  s->memory_mib = 512;
  s->has_replicas = s->replicas = 3;
  s->restart_policy = 1;
  s->strategy = 1;
  s->stop_timeout_ms = 30000;
  s->hypervisor = 2;
  s->labels = labels;
  s->n_labels = n_labels;
}

static void walkers(struct work *w, struct blx_label *labels[2]) {
  static const char *const names[] = {"encode", "decode", "JSON out", "JSON in", "own+free"};
  struct blx_vm_spec s;
  spec_fill(&s, labels, 2);
  if (blx__msg_encode(blx__desc_vm_spec(), &s, &w->wire, NULL).code != 0) fail("encode");
  if (blx__json_write(blx__desc_vm_spec(), &s, 0, &w->json, NULL).code != 0) fail("JSON");
  for (int which = 0; which < (int)BLX__COUNT(names); which++) {
    double from = now_ns();
    for (int i = 0; i < ROUNDS; i++)
      if (action(w, which, &s).code != 0) fail(names[which]);
    printf("schema: %-9s %6.0f ns (%zu bytes, %zu as JSON)\n", names[which], (now_ns() - from) / ROUNDS, w->wire.len,
           w->json.len);
  }
}

/* KiB of a line of /proc/self/status. */
static long memory_kib(const char *key) {
  char line[256];
  long kib = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, key, strlen(key)) == 0) kib = strtol(line + strlen(key) + 1, NULL, 10);
  if (f) fclose(f);
  return kib;
}

/* The highest memory from now on. */
static void peak_reset(void) {
  FILE *f = fopen("/proc/self/clear_refs", "w");
  if (!f || fputs("5", f) < 0 || fclose(f) != 0) fail("cannot reset the peak of memory");
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static size_t keys_of(const struct blx__buf *json) {
  size_t n = 0;
  for (size_t i = 1; i < json->len; i++) n += json->data[i] == ':' && json->data[i - 1] == '"';
  return n;
}

static void list_as_json(const struct blx_vm_list *list) {
  double ms[TIMES];
  long above_max = 0;
  size_t bytes = 0;
  for (int i = 0; i < TIMES; i++) {
    struct blx__buf json;
    blx__buf_init(&json, BUF_BYTES);
    long before = memory_kib("VmRSS");
    peak_reset();
    double from = now_ns();
    if (blx__json_write(blx__desc_vm_list(), list, 0, &json, NULL).code != 0) fail("JSON of the list");
    ms[i] = (now_ns() - from) / 1e6;
    bytes = json.len;
    long above = memory_kib("VmHWM") - before - (long)(bytes / 1024);
    if (above > above_max) above_max = above;
    if (keys_of(&json) != 1 + (size_t)OBJECTS * FIELDS) fail("the objects do not have as many fields as they should");
    blx__buf_free(&json);
  }
  qsort(ms, TIMES, sizeof ms[0], by_size);
  printf("schema: %d objects of %d fields as JSON: %.1f ms median, %.1f best (%zu bytes; %ld KiB above them)\n",
         OBJECTS, FIELDS, ms[TIMES / 2], ms[0], bytes, above_max);
}

int main(void) {
  static struct blx_vm vms[OBJECTS], *pointers[OBJECTS];
  struct work w = {.arena = {.limit_bytes = ARENA_BYTES}};
  struct blx_label a = BLX_LABEL_INIT, b = BLX_LABEL_INIT, *labels[] = {&a, &b};
  struct blx_reason reason = BLX_REASON_INIT;
  struct blx_vm_spec spec;
  blx__buf_init(&w.in, BUF_BYTES);
  blx__buf_init(&w.wire, BUF_BYTES);
  blx__buf_init(&w.json, BUF_BYTES);
  a.key = "tier";
  a.value = "front";
  b.key = "team";
  b.value = "web";
  walkers(&w, labels);
  reason.code = BLX_REASON_CODE_NO_ROOM;
  reason.text = "no node can take it: memory is short by 512 MiB everywhere";
  reason.unblock = "add a node, or stop something";
  spec_fill(&spec, labels, 1);
  spec.config_sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
  spec.ready_none = 1;
  spec.node_selector = &labels[1];
  spec.n_node_selector = 1;
  for (uint32_t i = 0; i < OBJECTS; i++) {
    vms[i] = (struct blx_vm){.struct_size = sizeof vms[i], .uid = 1000 + i, .tenant = "default", .spec = &spec};
    vms[i].desired = BLX_DESIRED_STOPPED;
    vms[i].phase = BLX_PHASE_STOPPING;
    vms[i].reason = &reason;
    vms[i].revision = 123456789 + i;
    vms[i].spec_revision = 123456 + i;
    vms[i].created_ms = 1700000000000;
    vms[i].deleting = vms[i].running = 1;
    pointers[i] = &vms[i];
  }
  struct blx_vm_list list = BLX_VM_LIST_INIT;
  list.vms = pointers;
  list.n_vms = OBJECTS;
  list_as_json(&list);
  blx__buf_free(&w.in);
  blx__buf_free(&w.wire);
  blx__buf_free(&w.json);
  blx__arena_free(&w.arena);
  return 0;
}

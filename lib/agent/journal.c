#include "agent/agent_int.h"
#include "base/digest.h"
#include "base/failpoint.h"
#include "io/file.h"
#include "io/work.h"
#include "schema/codec.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One file per instance, UID-NAME: even when the content is damaged it is known whose it was. Content: the magic,
 * SHA-256 of the rest, a journal_entry. */
static const char magic[8] = {'b', 'l', 'x', 'j', 'n', 'l', '1', '\n'};
enum { HEAD_BYTES = sizeof magic + BLX__SHA256_BYTES };

struct item {
  uint64_t uid, turn;
  enum state state;
  char *path;
  struct blx__buf bytes;
  bool failed;
  blx_error why;
};

struct journal_job {
  struct blx__agent *agent;
  size_t count;
  struct item items[JOURNAL_JOB_MAX];
};

static char *path_of(const struct blx__agent *agent, const char *name, uint64_t uid) {
  char path[PATH_MAX];
  if (!blx__str_format(path, sizeof path, "%s/%llu-%s", agent->dir, (unsigned long long)uid, name)) return NULL;
  return strdup(path);
}

void journal_remove(const struct instance *i) {
  char *path = path_of(i->agent, i->name, i->uid);
  if (!path || (unlink(path) != 0 && errno != ENOENT))
    blx__log(i->agent->log, BLX_LOG_WARNING, "agent", "%s: cannot remove its journal: %s", i->name,
             path ? strerror(errno) : "out of memory");
  free(path);
}

/* ---- writing */

static blx__rc encode(const struct instance *i, struct blx__buf *out, blx_error *err) {
  struct blx_journal_entry entry = BLX_JOURNAL_ENTRY_INIT;
  entry.instance = i->name;
  entry.instance_uid = i->uid;
  entry.epoch = i->epoch;
  entry.state = (uint32_t)i->state;
  entry.seq = i->seq;
  entry.spec = i->spec;
  entry.has_exit_status = i->has_exit_status;
  entry.exit_status = i->exit_status;
  entry.reason = i->reason;
  entry.tenant = i->tenant;
  static const uint8_t no_digest[BLX__SHA256_BYTES];
  if (!blx__buf_add(out, magic, sizeof magic) || !blx__buf_add(out, no_digest, sizeof no_digest))
    return blx__fail(err, BLX_E_NOMEM, "agent", "no memory for a journal entry of %s", i->name);
  BLX__TRY(blx__msg_encode(blx__desc_journal_entry(), &entry, out, err));
  struct blx__slice rest = {out->data + HEAD_BYTES, out->len - HEAD_BYTES};
  blx__sha256(&rest, 1, out->data + sizeof magic);
  return BLX__OK;
}

static void item_fill(struct item *item, const struct instance *i) {
  item->uid = i->uid;
  item->turn = i->turn;
  item->state = i->state;
  item->path = path_of(i->agent, i->name, i->uid);
  blx__buf_init(&item->bytes, JOURNAL_FILE_MAX);
  blx__rc rc = item->path ? encode(i, &item->bytes, &item->why)
                          : blx__fail(&item->why, BLX_E_NOMEM, "agent", "no memory for a journal path");
  item->failed = rc.code != 0;
}

static void job_free(struct journal_job *job) {
  for (size_t n = 0; n < job->count; n++) {
    free(job->items[n].path);
    blx__buf_free(&job->items[n].bytes);
  }
  free(job);
}

/* Two for each state. */
static enum blx__failpoint failpoint_of(enum state state, bool written) {
  _Static_assert(BLX__FAILPOINT_JOURNALLED_GONE == BLX__FAILPOINT_JOURNAL_PREPARING + 2 * (GONE - PREPARING) + 1,
                 "two for each state");
  BLX__ASSERT(state >= PREPARING && state <= GONE);
  return (enum blx__failpoint)(BLX__FAILPOINT_JOURNAL_PREPARING + 2 * (int)(state - PREPARING) + (written ? 1 : 0));
}

/* On a worker: touches the job's own memory only. */
static void job_run(void *arg) {
  struct journal_job *job = arg;
  for (size_t n = 0; n < job->count; n++) {
    struct item *item = &job->items[n];
    if (item->failed) continue;
    blx__failpoint(failpoint_of(item->state, false));
    item->failed = blx__file_write_atomic(item->path, item->bytes.data, item->bytes.len, 0600, &item->why).code != 0;
    blx__failpoint(failpoint_of(item->state, true));
  }
}

static void job_done(void *arg) {
  struct journal_job *job = arg;
  struct blx__agent *agent = job->agent;
  agent->job = NULL;
  for (size_t n = 0; n < job->count && !agent->closing; n++) {
    const struct item *item = &job->items[n];
    struct instance *i = blx__map_get_u64(&agent->instances, item->uid);
    if (item->failed)
      blx__log(agent->log, BLX_LOG_ERROR, "agent", "cannot write the journal %s: %s", item->path ? item->path : "",
               item->why.message);
    if (i && i->turn == item->turn) machine_journalled(i, item->failed ? &item->why : NULL);
  }
  job_free(job);
  agent_finish_if_idle(agent);
  if (!agent->closing) journal_run(agent);
}

void journal_run(void *arg) {
  struct blx__agent *agent = arg;
  if (agent->job || agent->closing || blx__list_empty(&agent->to_journal)) return;
  struct journal_job *job = calloc(1, sizeof *job);
  if (!job) {
    blx__timer_start(agent->journal_timer, JOURNAL_RETRY_MS, 0);
    return;
  }
  job->agent = agent;
  BLX__LIST_FOREACH (link, &agent->to_journal) {
    item_fill(&job->items[job->count++], BLX__CONTAINER(link, struct instance, journal_link));
    if (job->count == JOURNAL_JOB_MAX) break;
  }
  blx_error why;
  if (blx__work(agent->loop, job_run, job_done, job, &why).code != 0) {
    blx__log(agent->log, BLX_LOG_WARNING, "agent", "the journal waits: %s", why.message);
    job_free(job);
    blx__timer_start(agent->journal_timer, JOURNAL_RETRY_MS, 0);
    return;
  }
  agent->job = job;
  for (size_t n = 0; n < job->count; n++) blx__list_remove(blx__list_first(&agent->to_journal));
}

void journal_write(struct instance *i) {
  struct blx__agent *agent = i->agent;
  BLX__ASSERT(i->journalling && blx__list_empty(&i->journal_link));
  blx__list_push(&agent->to_journal, &i->journal_link);
  /* Not at once: what moves on the same turn shares one piece of work. */
  if (!agent->job) blx__timer_start(agent->journal_timer, 0, 0);
}

/* ---- reading */

static blx__rc decode(const char *path, struct blx_journal_entry **out, blx_error *err) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, JOURNAL_FILE_MAX);
  uint8_t digest[BLX__SHA256_BYTES] = {0};
  blx__rc rc = blx__file_read(path, JOURNAL_FILE_MAX, &bytes, err);
  struct blx__slice rest = {0};
  if (rc.code == 0 && bytes.len >= HEAD_BYTES) {
    rest = (struct blx__slice){bytes.data + HEAD_BYTES, bytes.len - HEAD_BYTES};
    blx__sha256(&rest, 1, digest);
  }
  if (rc.code == 0 && (!rest.data || memcmp(bytes.data, magic, sizeof magic) != 0 ||
                       memcmp(bytes.data + sizeof magic, digest, sizeof digest) != 0))
    rc = blx__fail(err, BLX_E_CORRUPT, "agent", "its digest does not match its %zu bytes", bytes.len);
  void *entry = NULL;
  if (rc.code == 0) rc = blx__msg_decode_owned(blx__desc_journal_entry(), rest, &entry, err);
  blx__buf_free(&bytes);
  if (rc.code == 0) *out = entry;
  return rc;
}

/* UID-NAME; false if it is none of ours. */
static bool parse_name(const char *file, uint64_t *uid, char *name, size_t name_size) {
  char number[24];
  const char *dash = strchr(file, '-');
  if (!dash || (size_t)(dash - file) >= sizeof number) return false;
  memcpy(number, file, (size_t)(dash - file));
  number[dash - file] = '\0';
  return blx__parse_u64(number, 1, UINT64_MAX, uid) && blx__name_ok(dash + 1, name_size - 1) &&
         blx__str_copy(name, name_size, dash + 1);
}

static bool take_entry(struct instance *i, const struct blx_journal_entry *entry) {
  bool fits = entry->instance_uid == i->uid && blx__str_eq(entry->instance, i->name) && entry->epoch > 0 &&
              entry->state > NEW && entry->state <= GONE && entry->spec;
  if (!fits || !instance_set_spec(i, entry->spec)) return false;
  i->epoch = entry->epoch;
  i->state = (enum state)entry->state;
  i->seq = entry->seq;
  if (entry->tenant && !blx__str_copy(i->tenant, sizeof i->tenant, entry->tenant)) return false;
  i->has_exit_status = entry->has_exit_status;
  i->exit_status = entry->exit_status;
  if (entry->reason) instance_set_reason(i, entry->reason->code, entry->reason->text, entry->reason->unblock);
  i->adopting = i->state == STARTING || i->state == WAIT_READY || i->state == READY || i->state == STOPPING;
  return true;
}

static blx__rc load_file(struct blx__agent *agent, const char *file, blx_error *err) {
  char path[PATH_MAX], name[INSTANCE_NAME_SIZE];
  uint64_t uid = 0;
  bool fits = blx__str_format(path, sizeof path, "%s/%s", agent->dir, file);
  if (file[0] == '.') { /* left of a write that never ended */
    if (fits) (void)unlink(path);
    return BLX__OK;
  }
  if (!fits || !parse_name(file, &uid, name, sizeof name) || blx__map_get_u64(&agent->instances, uid)) {
    blx__log(agent->log, BLX_LOG_ERROR, "agent", "%s/%s is no journal file: look what it is, then remove it",
             agent->dir, file);
    return BLX__OK;
  }
  struct instance *i = instance_new(agent, name, uid, 0);
  if (!i) return blx__fail(err, BLX_E_NOMEM, "agent", "no memory for the instance of %s", path);
  struct blx_journal_entry *entry = NULL;
  blx_error why = {0};
  bool ok = decode(path, &entry, &why).code == 0 && take_entry(i, entry);
  blx__msg_free_owned(entry);
  if (ok) return BLX__OK;
  blx__log(agent->log, BLX_LOG_ERROR, "agent", "the journal %s is damaged (%s): what runs of %s is adopted or killed",
           path, why.code != 0 ? why.message : "its content contradicts itself", name);
  i->damaged = true;
  return BLX__OK;
}

blx__rc journal_load(struct blx__agent *agent, blx_error *err) {
  DIR *dir = opendir(agent->dir);
  if (!dir) return blx__fail_errno(err, errno, "agent", "cannot read the journal's directory %s", agent->dir);
  blx__rc rc = BLX__OK;
  const struct dirent *entry;
  while (rc.code == 0 && (errno = 0, entry = readdir(dir))) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    rc = load_file(agent, entry->d_name, err);
  }
  if (rc.code == 0 && errno != 0)
    rc = blx__fail_errno(err, errno, "agent", "cannot read the journal's directory %s", agent->dir);
  (void)closedir(dir);
  return rc;
}

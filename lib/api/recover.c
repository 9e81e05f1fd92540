/* The last survivor of a cluster: what is known of it and of the others is put together here, for only here can their
 * sockets be asked. */
#include "api/api_int.h"

#include "offline/offline.h"
#include "schema/validate.h"

#include <string.h>

enum { OTHERS_MAX = 64, ASK_MS = 2000, DATA_DIR_MAX = 80, PLAN_ARENA = 32 << 20 };

static const char origin[] = "recover";

static int check_dir(const char *data_dir, blx_error *reterr) {
  if (!data_dir) return blx__api_misuse(reterr, "the data directory is NULL");
  if (*data_dir && strlen(data_dir) <= DATA_DIR_MAX) return 0;
  return blx__fail(reterr, BLX_E_INVALID, origin, "data_dir: a path of 1 to %d bytes is required", DATA_DIR_MAX).code;
}

int blx_recover_inspect(const char *data_dir, struct blx_recover_member **out, blx_error *reterr) {
  if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");
  int rc = check_dir(data_dir, reterr);
  return rc != 0 ? rc : blx__offline_inspect(data_dir, out, reterr).code;
}

void blx_recover_member_free(struct blx_recover_member *member) {
  blx__msg_free_owned(member);
}

void blx_recover_plan_free(struct blx_recover_plan *plan) {
  blx__msg_free_owned(plan);
}

/* Nothing there, or something that is no member: no. Whatever else: it may be one that is only slow. */
static bool answers(const char *address, const char *cluster_id) {
  const struct blx_cluster_status_request request = {.struct_size = sizeof request, .stale = 1};
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  struct blx_cluster_status *status = NULL;
  blx_client *client = NULL;
  if (!address || !*address) return false;
  options.addresses = &address;
  options.n_addresses = 1;
  options.timeout_ms = ASK_MS;
  if (blx_client_open(&options, &client, NULL) != 0) return false;
  int rc = blx_cluster_status_get(client, &request, &status, NULL);
  bool member = rc == 0 ? status->id && strcmp(status->id, cluster_id) == 0 : rc != BLX_E_UNAVAILABLE;
  blx_cluster_status_free(status);
  blx_client_close(client);
  return member;
}

static bool longer(const struct blx_recover_member *a, const struct blx_recover_member *b) {
  return a->last_term != b->last_term ? a->last_term > b->last_term : a->last_index > b->last_index;
}

static const struct blx_recover_member *longest(const struct blx_recover_plan *p) {
  const struct blx_recover_member *best = p->survivor;
  for (size_t i = 0; i < p->n_others; i++)
    if (longer(p->others[i], best)) best = p->others[i];
  return best;
}

static const char *where(const struct blx_recover_member *m) {
  return m->data_dir && *m->data_dir ? m->data_dir : "one of the others";
}

static blx__rc check_others(const struct blx_recover_plan *p, blx_error *err) {
  const struct blx_recover_member *s = p->survivor;
  for (size_t i = 0; i < p->n_others; i++) {
    const struct blx_recover_member *o = p->others[i];
    if (!o->cluster_id || strcmp(o->cluster_id, s->cluster_id) != 0)
      return blx__fail(err, BLX_E_INVALID, origin, "%s is of the cluster %s, %s of %s: give servers of one cluster",
                       where(o), o->cluster_id ? o->cluster_id : "", s->data_dir, s->cluster_id);
    if (o->uid == s->uid)
      return blx__fail(err, BLX_E_INVALID, origin, "%s and %s are both of server %llu: give each server once", where(o),
                       s->data_dir, (unsigned long long)s->uid);
    if (s->uid < o->gone_below && o->gone_below > s->gone_below)
      return blx__fail(err, BLX_E_CONFLICT, origin,
                       "server %llu was given up by a recovery that %s knows of: use that one's directory",
                       (unsigned long long)s->uid, where(o));
  }
  const struct blx_recover_member *best = longest(p);
  if (best == s) return BLX__OK;
  return blx__fail(err, BLX_E_CONFLICT, origin,
                   "%s has the longer log (term %llu, index %llu): recover server %llu, with that directory",
                   where(best), (unsigned long long)best->last_term, (unsigned long long)best->last_index,
                   (unsigned long long)best->uid);
}

/* With this one they could go on by themselves. */
static blx__rc check_quorum(const struct blx_recover_plan *p, blx_error *err) {
  const struct blx_recover_member *s = p->survivor;
  unsigned voters = 0, living = 0;
  char list[256] = "";
  for (size_t i = 0; i < s->n_servers; i++) {
    const struct blx_recover_server *server = s->servers[i];
    size_t at = strlen(list);
    voters += server->voter != 0;
    if (!server->voter || !server->answers) continue;
    living++;
    (void)blx__str_format(list + at, sizeof list - at, "%s%.63s", at ? ", " : "", server->name);
  }
  if (voters == 1 && s->voter)
    return blx__fail(err, BLX_E_CONFLICT, origin, "server %s is the only one already: start its daemon", s->name);
  if (living == 0 || living + (s->voter ? 1 : 0) <= voters / 2) return BLX__OK;
  return blx__fail(err, BLX_E_CONFLICT, origin,
                   "%u of %u servers answer (%s), with this one they are a majority: start this one's daemon instead; "
                   "if they are to be given up, stop them first",
                   living, voters, list);
}

static blx__rc check_id(const struct blx_recover_plan *p, const char *id, blx_error *err) {
  if (!id || strcmp(id, p->survivor->cluster_id) == 0) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, origin, "the cluster's id is %s, not \"%.40s\": nothing was changed",
                   p->survivor->cluster_id, id);
}

static bool listed(const struct blx_recover_plan *p, uint64_t uid) {
  for (size_t i = 0; i < p->n_gone; i++)
    if (p->gone[i]->uid == uid) return true;
  return uid == p->survivor->uid;
}

static void add_gone(struct blx_recover_plan *p, const struct blx_recover_member *of) {
  for (size_t i = 0; i < of->n_servers; i++)
    if (!listed(p, of->servers[i]->uid)) p->gone[p->n_gone++] = of->servers[i];
}

static blx__rc fill(struct blx_recover_plan *p, struct blx__arena *arena, blx_error *err) {
  struct blx_recover_member *s = p->survivor;
  size_t most = s->n_servers;
  for (size_t i = 0; i < s->n_servers; i++)
    if (s->servers[i]->uid != s->uid) s->servers[i]->answers = answers(s->servers[i]->address, s->cluster_id);
  for (size_t i = 0; i < p->n_others; i++) most += p->others[i]->n_servers;
  p->gone = blx__arena_alloc(arena, (most + 1) * sizeof *p->gone);
  if (!p->gone) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a list of servers");
  add_gone(p, s);
  for (size_t i = 0; i < p->n_others; i++) add_gone(p, p->others[i]);
  p->longest_uid = longest(p)->uid;
  return BLX__OK;
}

static uint64_t term_of(const struct blx_recover_plan *p) {
  uint64_t term = p->survivor->term;
  for (size_t i = 0; i < p->n_others; i++)
    if (p->others[i]->term > term) term = p->others[i]->term;
  return term;
}

static blx__rc carry_out(struct blx_recover_plan *p, const char *yes, blx_error *obstacle, blx_error *err) {
  blx__rc rc = check_others(p, obstacle);
  if (rc.code == 0) rc = check_quorum(p, obstacle);
  if (rc.code == 0) rc = check_id(p, yes, obstacle);
  if (rc.code != 0 && yes) return blx__fail_as(err, obstacle);
  if (rc.code != 0) {
    p->obstacle_code = rc.code;
    p->obstacle = obstacle->message;
  }
  if (!yes) return BLX__OK;
  BLX__TRY(blx__offline_recover(p->survivor, term_of(p), &p->term, err));
  p->done = 1;
  return BLX__OK;
}

static int recover(const struct blx_recover_options *o, struct blx_recover_plan **out, blx_error *reterr) {
  struct blx__arena arena = {.limit_bytes = PLAN_ARENA};
  struct blx_recover_plan plan = BLX_RECOVER_PLAN_INIT;
  blx_error obstacle = {0};
  void *owned = NULL;
  int code = blx_recover_inspect(o->data_dir, &plan.survivor, reterr);
  if (code != 0) return code;
  plan.others = (struct blx_recover_member **)(uintptr_t)o->others;
  plan.n_others = o->n_others;
  blx__rc rc = fill(&plan, &arena, reterr);
  if (rc.code == 0) rc = carry_out(&plan, o->yes_cluster_id, &obstacle, reterr);
  if (rc.code == 0) rc = blx__msg_own(blx__desc_recover_plan(), &plan, &owned, reterr);
  if (rc.code == 0) *out = owned;
  blx_recover_member_free(plan.survivor);
  blx__arena_free(&arena);
  return rc.code;
}

int blx_recover(const struct blx_recover_options *options, struct blx_recover_plan **out, blx_error *reterr) {
  struct blx_recover_options o;
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the result is NULL");
  size_t min = offsetof(struct blx_recover_options, others);
  blx__rc rc = blx__api_take_struct(&o, sizeof o, min, options, origin, reterr);
  if (rc.code != 0) return rc.code;
  if (o.n_others > OTHERS_MAX || (o.n_others > 0 && !o.others))
    return blx__fail(reterr, BLX_E_INVALID, origin, "others: at most %d, and no NULL", OTHERS_MAX).code;
  for (size_t i = 0; i < o.n_others; i++) {
    if (!o.others[i]) return blx__api_misuse(reterr, "one of the others is NULL");
    rc = blx__msg_validate(blx__desc_recover_member(), o.others[i], reterr);
    if (rc.code != 0) return rc.code;
  }
  return recover(&o, out, reterr);
}

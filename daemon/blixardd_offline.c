#include "blixardd_offline.h"

#include <blixard/blixard.h>

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { OTHERS_MAX = 64, OTHER_BYTES_MAX = 8 << 20, EXIT_USAGE = 2 };

static const char usual_dir[] = "/var/lib/blixard";

struct asked {
  const char *data_dir, *yes, *from, *name, *cluster_name;
  const char *with[OTHERS_MAX];
  struct blx_recover_member *others[OTHERS_MAX];
  size_t n_with, n_others;
  int inspect, help;
};

static int fail(const blx_error *err) {
  int status = blx_error_exit_status(err->code);
  fprintf(stderr, "blixardd: %s [%s]\n", err->message, blx_error_name(err->code));
  return status != 0 ? status : EXIT_FAILURE;
}

static int bad(const char *what, const char *value) {
  fprintf(stderr, "blixardd: %s%s [INVALID]\n", what, value);
  return EXIT_USAGE;
}

static const char *text(const char *s) {
  return s != NULL && *s != '\0' ? s : "-";
}

/* ---- recover */

static int recover_help(void) {
  puts("blixardd recover: go on with one server, when most of a cluster's servers are lost for ever\n\n"
       "usage: blixardd recover [--data-dir DIR] [--with OTHER]... [--yes-cluster-id ID]\n"
       "       blixardd recover --inspect [--data-dir DIR]\n\n"
       "  --data-dir DIR         of the server that shall go on, its daemon stopped; /var/lib/blixard without it\n"
       "  --with OTHER           what another surviving server holds: its data directory, or a file with what\n"
       "                         --inspect printed there; may be repeated, and should be for each\n"
       "  --inspect              print what the directory holds, as JSON, and end\n"
       "  --yes-cluster-id ID    do it; without this nothing is changed\n"
       "  --help                 this text\n\n"
       "It prints what each server holds, which has the longest log, and what would be done. What a lost server had\n"
       "acknowledged and the longest log does not hold is lost. blixardd(8) says more.");
  return EXIT_SUCCESS;
}

static char *read_text(const char *path, size_t *len) {
  FILE *f = fopen(path, "re");
  char *bytes = f != NULL ? malloc(OTHER_BYTES_MAX) : NULL;
  *len = bytes != NULL ? fread(bytes, 1, OTHER_BYTES_MAX, f) : 0;
  bool whole = bytes != NULL && !ferror(f) && *len < OTHER_BYTES_MAX;
  if (f != NULL) fclose(f);
  if (whole) return bytes;
  free(bytes);
  return NULL;
}

static int load_other(struct asked *a, const char *from) {
  blx_error err = {0};
  struct stat st;
  void *member = NULL;
  size_t len = 0;
  if (stat(from, &st) == 0 && S_ISDIR(st.st_mode)) {
    if (blx_recover_inspect(from, &a->others[a->n_others], &err) != 0) return fail(&err);
    a->n_others++;
    return 0;
  }
  char *json = read_text(from, &len);
  if (json == NULL) return bad("--with: neither a directory nor a file of at most 8 MiB: ", from);
  int rc = blx_from_json("recover_member", json, len, &member, &err);
  free(json);
  if (rc != 0) return fail(&err);
  a->others[a->n_others++] = member;
  return 0;
}

static void print_member(const struct blx_recover_member *m, const struct blx_recover_plan *p) {
  printf("%-16s %5llu %6llu %10llu %9llu %10llu %9llu%s%s\n", text(m->name), (unsigned long long)m->uid,
         (unsigned long long)m->term, (unsigned long long)m->last_index, (unsigned long long)m->last_term,
         (unsigned long long)m->snapshot_index, (unsigned long long)m->commit_index,
         m->uid == p->longest_uid ? "  the longest log" : "", m->voter ? "" : "  does not vote: it may lack entries");
}

static void print_servers(const struct blx_recover_member *m) {
  puts("\nServers that it knows:");
  for (size_t i = 0; i < m->n_servers; i++) {
    const struct blx_recover_server *s = m->servers[i];
    printf("  %-16s %5llu  %-9s %-13s %s\n", text(s->name), (unsigned long long)s->uid, s->voter ? "votes" : "no vote",
           s->uid == m->uid ? "this one"
           : s->answers     ? "answers"
                            : "silent",
           text(s->address));
  }
}

static void print_gone(const struct blx_recover_plan *p) {
  if (p->n_gone == 0) return;
  printf("\n%s no longer servers. For each, on its host: stop its daemon, empty its data directory, start it again\n"
         "under a name that the cluster does not have, and let it join:\n",
         p->done ? "These are" : "These would be");
  const struct blx_recover_member *m = p->survivor;
  const char *address = "unix:SOCKET-OF-THIS-ONE";
  for (size_t i = 0; i < m->n_servers; i++)
    if (m->servers[i]->uid == m->uid && m->servers[i]->address != NULL) address = m->servers[i]->address;
  for (size_t i = 0; i < p->n_gone; i++)
    printf("  %-16s %5llu  blixard cluster join --address %s\n", text(p->gone[i]->name),
           (unsigned long long)p->gone[i]->uid, address);
  puts("Instances that the cluster gave to their nodes stay there in its books; those with ha=auto start elsewhere\n"
       "when their node is fenced. The log may lack what only they had: until each of them is proved off, and each\n"
       "other node has said what runs there, an instance that is not seen running is started nowhere. Make sure that\n"
       "their machines run no guests any more, then say so of each: blixard node fence NAME --proved 'HOW YOU KNOW'.\n"
       "A node that joined so late that this log does not have it is not waited for: see to it yourself.");
}

static void print_plan(const struct blx_recover_plan *p, const char *dir) {
  const struct blx_recover_member *m = p->survivor;
  printf("Cluster %s %s, %u VMs with %u instances\n\n", text(m->cluster_name), m->cluster_id, m->vms, m->instances);
  puts("SERVER             UID   TERM LAST INDEX LAST TERM   SNAPSHOT COMMITTED");
  print_member(m, p);
  for (size_t i = 0; i < p->n_others; i++) print_member(p->others[i], p);
  puts("COMMITTED: at least so far; a log does not say which of the entries behind it are, too.");
  print_servers(m);
  if (p->obstacle_code == 0)
    printf("\n%s: server %s becomes the only one, with all of its log.\n", p->done ? "Done" : "What would be done",
           text(m->name));
  print_gone(p);
  if (p->done)
    printf("\nTerm %llu. Start its daemon with --data-dir %s.\n", (unsigned long long)p->term, dir);
  else if (p->obstacle_code == 0)
    printf("\nNothing was changed. To do it: blixardd recover --data-dir %s ... --yes-cluster-id %s\n", dir,
           m->cluster_id);
}

static int print_inspection(const char *dir) {
  struct blx_recover_member *m = NULL;
  blx_error err = {0};
  char *json = NULL;
  if (blx_recover_inspect(dir, &m, &err) != 0) return fail(&err);
  int rc = blx_to_json_pretty("recover_member", m, &json, &err);
  if (rc == 0) puts(json);
  blx_string_free(json);
  blx_recover_member_free(m);
  return rc == 0 ? EXIT_SUCCESS : fail(&err);
}

static int run_recover(struct asked *a) {
  struct blx_recover_options o = BLX_RECOVER_OPTIONS_INIT;
  struct blx_recover_plan *plan = NULL;
  blx_error err = {0};
  if (a->inspect) return print_inspection(a->data_dir);
  for (size_t i = 0; i < a->n_with; i++) {
    int status = load_other(a, a->with[i]);
    if (status != 0) return status;
  }
  o.data_dir = a->data_dir;
  o.others = (const struct blx_recover_member *const *)a->others;
  o.n_others = a->n_others;
  o.yes_cluster_id = a->yes;
  if (blx_recover(&o, &plan, &err) != 0) return fail(&err);
  print_plan(plan, a->data_dir);
  int status = EXIT_SUCCESS;
  if (plan->obstacle_code != 0) {
    fflush(stdout);
    err.code = plan->obstacle_code;
    snprintf(err.message, sizeof err.message, "%s", plan->obstacle);
    status = fail(&err);
  }
  blx_recover_plan_free(plan);
  return status;
}

/* ---- restore */

static int restore_help(void) {
  puts("blixardd restore: a new cluster with the state of a backup\n\n"
       "usage: blixardd restore --data-dir DIR --from FILE --name NODE [--cluster-name NAME]\n\n"
       "  --data-dir DIR         empty, or to be made: of the new cluster's first node\n"
       "  --from FILE            a backup: `blixard cluster backup save` makes them\n"
       "  --name NODE            name of that node\n"
       "  --cluster-name NAME    name of the new cluster; as in the backup without it\n"
       "  --help                 this text\n\n"
       "The new cluster has an id of its own and no other node. VMs come back and wait for nodes to join. Where the "
       "old\n"
       "cluster still runs, stop it first: nothing else keeps both from running the same VMs.");
  return EXIT_SUCCESS;
}

static int run_restore(const struct asked *a) {
  struct blx_restore_options o = BLX_RESTORE_OPTIONS_INIT;
  struct blx_backup_info *info = NULL;
  blx_error err = {0};
  char id[33], when[32] = "?";
  struct tm utc;
  if (a->from == NULL) return bad("--from is missing: ", "the backup");
  if (a->name == NULL) return bad("--name is missing: ", "the new cluster's first node");
  o.path = a->from;
  o.data_dir = a->data_dir;
  o.name = a->name;
  o.cluster_name = a->cluster_name;
  if (blx_backup_restore(&o, id, &info, &err) != 0) return fail(&err);
  time_t seconds = (time_t)(info->time_ms / 1000);
  if (gmtime_r(&seconds, &utc) != NULL) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
  printf("Made the cluster %s of the backup of %s (%s), index %llu, %s: %u VMs with %u instances.\n"
         "Start its first node with --data-dir %s --name %s, then let others join.\n",
         id, text(info->cluster_name), text(info->cluster_id), (unsigned long long)info->index, when, info->vms,
         info->instances, a->data_dir, a->name);
  blx_backup_info_free(info);
  return EXIT_SUCCESS;
}

/* ---- the command line */

static const struct option recover_flags[] = {
    {"data-dir", required_argument, NULL, 'd'}, {"with", required_argument, NULL, 'w'},
    {"inspect", no_argument, NULL, 'i'},        {"yes-cluster-id", required_argument, NULL, 'y'},
    {"help", no_argument, NULL, 'h'},           {0}};
static const struct option restore_flags[] = {
    {"data-dir", required_argument, NULL, 'd'}, {"from", required_argument, NULL, 'f'},
    {"name", required_argument, NULL, 'n'},     {"cluster-name", required_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},           {0}};

static int take_flag(struct asked *a, int flag) {
  switch (flag) {
  case 'd': a->data_dir = optarg; return 0;
  case 'y': a->yes = optarg; return 0;
  case 'f': a->from = optarg; return 0;
  case 'n': a->name = optarg; return 0;
  case 'c': a->cluster_name = optarg; return 0;
  case 'i': a->inspect = 1; return 0;
  case 'h': a->help = 1; return 0;
  case 'w':
    if (a->n_with == OTHERS_MAX) return bad("--with: at most 64 are compared: ", optarg);
    a->with[a->n_with++] = optarg;
    return 0;
  default: return EXIT_USAGE;
  }
}

static int parse(int argc, char **argv, const struct option *flags, struct asked *a) {
  opterr = 0;
  for (;;) {
    int tried = optind;
    int flag = getopt_long(argc, argv, "+:", flags, NULL);
    if (flag == -1) break;
    if (flag == ':') return bad("this needs a value: ", argv[tried]);
    if (flag == '?') return bad("there is no such flag, see --help: ", argv[tried]);
    int status = take_flag(a, flag);
    if (status != 0) return status;
  }
  return optind < argc ? bad("this is no flag: ", argv[optind]) : 0;
}

int daemon_offline(int argc, char **argv) {
  static struct asked asked;
  bool recovers = argc > 1 && strcmp(argv[1], "recover") == 0;
  if (!recovers && (argc < 2 || strcmp(argv[1], "restore") != 0)) return -1;
  asked.data_dir = recovers ? usual_dir : NULL;
  int status = parse(argc - 1, argv + 1, recovers ? recover_flags : restore_flags, &asked);
  if (status != 0) return status;
  if (asked.help) return recovers ? recover_help() : restore_help();
  if (asked.data_dir == NULL) return bad("--data-dir is missing: ", "an empty directory");
  status = recovers ? run_recover(&asked) : run_restore(&asked);
  for (size_t i = 0; i < asked.n_others; i++) blx_recover_member_free(asked.others[i]);
  return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}

/* blixard audit: the records of the audit log, listed, exported, and their chain verified. */
#include "output.h"
#include "when.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

enum { LIST_PRESET = 100, PART_RECORDS = 1000, PATH_SIZE = 4096 };

static const struct cli_column columns[] = {
    {"SEQ", "{seq}"},       {"TIME", "{time_ms:time}"}, {"PRINCIPAL", "{principal}"}, {"VERB", "{verb}"},
    {"OBJECT", "{object}"}, {"RESULT", "{result}"},     {"REASON", "{reason:line}"},
};
static const struct cli_column wide_columns[] = {{"SEQ", "{seq}"},
                                                 {"TIME", "{time_ms:time}"},
                                                 {"INDEX", "{index}"},
                                                 {"PRINCIPAL", "{principal}"},
                                                 {"FROM", "{source}"},
                                                 {"VERB", "{verb}"},
                                                 {"TENANT", "{tenant}"},
                                                 {"OBJECT", "{object}"},
                                                 {"DETAIL", "{detail:line}"},
                                                 {"RESULT", "{result}"},
                                                 {"WHY", "{message:line}"},
                                                 {"REASON", "{reason:line}"},
                                                 {"REQUEST", "{request_id}"}};
static const struct cli_column fields[] = {
    {"Record:", "{seq}"},         {"Time:", "{time_ms:time}"},
    {"Kind:", "{kind}"},          {"Principal:", "{principal}"},
    {"Tenant:", "{tenant}"},      {"From:", "{source}"},
    {"Verb:", "{verb}"},          {"Object:", "{object}"},
    {"Detail:", "{detail}"},      {"Reason:", "{reason}"},
    {"Result:", "{result}"},      {"Message:", "{message}"},
    {"Request:", "{request_id}"}, {"Log entry:", "{index}, operation {position}"},
    {"Hash before:", "{prev}"},   {"Hash:", "{hash}"},
};
static const struct cli_column verdict_fields[] = {
    {"Chain:", "{ok?is whole}{ok!IS BROKEN}"},
    {"First bad:", "{bad_seq?record }{bad_seq:some}"},
    {"Because:", "{text}"},
    {"Records:", "{records} looked at"},
    {"Last:", "record {last_seq}"},
    {"Its hash:", "{head}"},
    {"Answered by:", "{answered_by}"},
};
static const struct cli_column cut_columns[] = {
    {"ABSENT FROM", "{first_seq}"}, {"TO", "{last_seq}"}, {"WHY", "{why}"}, {"HASH OF THE LAST", "{hash}"}};

static const struct cli_block list_blocks[] = {{CLI_TABLE, "records", columns, COUNT(columns)}};
static const struct cli_block wide_blocks[] = {{CLI_TABLE, "records", wide_columns, COUNT(wide_columns)}};
static const struct cli_block show_blocks[] = {{CLI_FIELDS, NULL, fields, COUNT(fields)}};
static const struct cli_block verdict_blocks[] = {
    {CLI_FIELDS, NULL, verdict_fields, COUNT(verdict_fields)},
    {CLI_TABLE, "cuts", cut_columns, COUNT(cut_columns)},
};
static const struct cli_view list_view = {"record", "records", "seq", list_blocks, 1};
static const struct cli_view wide_view = {"record", "records", "seq", wide_blocks, 1};
static const struct cli_view show_view = {"record", NULL, "seq", show_blocks, 1};
static const struct cli_view verdict_view = {"chain", NULL, "answered_by", verdict_blocks, COUNT(verdict_blocks)};

/* The filters of the command line as a request. 0, or CLI_EXIT_USAGE after saying what is wrong. */
static int take_filters(const struct cli_args *args, struct blx_audit_list_request *request) {
  char quoted[CLI_QUOTE_SIZE];
  uint64_t now = cli_wall_ms();
  *request = (struct blx_audit_list_request)BLX_AUDIT_LIST_REQUEST_INIT;
  if (args->since_time != NULL && !cli_parse_when(args->since_time, now, &request->since_ms))
    return cli_usage("--since: %s is neither a time ago (10m) nor a date (2026-01-31T10:00:00Z)",
                     cli_quote(quoted, sizeof quoted, args->since_time));
  if (args->until != NULL && !cli_parse_when(args->until, now, &request->until_ms))
    return cli_usage("--until: %s is neither a time ago (10m) nor a date (2026-01-31T10:00:00Z)",
                     cli_quote(quoted, sizeof quoted, args->until));
  request->principal = args->principal;
  request->verb = args->audit_verb;
  request->object = args->object;
  request->tenant = args->tenant;
  request->result = args->result;
  request->denied = args->denied;
  request->stale = args->stale || args->denied;
  return 0;
}

static void add_result(json_t *record) {
  json_t *code = json_object_get(record, "code");
  (void)json_object_set_new(record, "result", json_string(blx_error_name((int)json_integer_value(code))));
}

static bool is_for_people(const struct cli_args *args) {
  return args->output == CLI_OUT_PLAIN || args->output == CLI_OUT_TABLE || args->output == CLI_OUT_WIDE;
}

/* The newest @limit that match, oldest first, into @rows. 0, or the exit status after saying why not. */
static int collect(blx_client *client, struct blx_audit_list_request *request, uint32_t limit, json_t *rows) {
  int status = 0;
  request->backward = 1;
  while (status == 0 && json_array_size(rows) < limit) {
    struct blx_audit_list *part = NULL;
    blx_error err = {0};
    uint32_t left = limit - (uint32_t)json_array_size(rows);
    request->limit = left < PART_RECORDS ? left : PART_RECORDS;
    if (blx_audit_list_get(client, request, &part, &err) != 0) return cli_fail(&err);
    for (size_t i = 0; status == 0 && i < part->n_records; i++) {
      json_t *record = cli_document("audit_record", part->records[i], &status);
      if (record != NULL && json_array_insert_new(rows, 0, record) != 0) status = cli_usage("out of memory");
    }
    request->from_seq = part->next_seq;
    blx_audit_list_free(part);
    if (request->from_seq == 0) break;
  }
  return status;
}

int cmd_audit_list(struct cli_args *args) {
  struct blx_audit_list_request request;
  blx_client *client = NULL;
  int status = take_filters(args, &request);
  if (status == 0) status = cli_connect(args, &client);
  if (status != 0) return status;
  json_t *rows = json_array(), *document = json_pack("{s:o}", "records", rows);
  status = document == NULL ? cli_usage("out of memory")
                            : collect(client, &request, args->has_limit ? args->limit : LIST_PRESET, rows);
  for (size_t i = 0; status == 0 && is_for_people(args) && i < json_array_size(rows); i++)
    add_result(json_array_get(rows, i));
  if (status == 0) status = cli_document_print(args, document, args->output == CLI_OUT_WIDE ? &wide_view : &list_view);
  json_decref(document);
  blx_client_close(client);
  return status;
}

static int show(const struct cli_args *args, const struct blx_audit_record *record) {
  int status = 0;
  json_t *document = cli_document("audit_record", record, &status);
  if (document == NULL) return status;
  if (is_for_people(args)) add_result(document);
  status = cli_document_print(args, document, &show_view);
  json_decref(document);
  return status;
}

int cmd_audit_show(struct cli_args *args) {
  struct blx_audit_list_request request;
  struct blx_audit_list *list = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  char *end = NULL, quoted[CLI_QUOTE_SIZE];
  const char *word = args->words[0];
  errno = 0;
  unsigned long long seq = strtoull(word, &end, 10);
  if (errno != 0 || *word < '0' || *word > '9' || *end != '\0' || seq == 0)
    return cli_usage("%s is not the number of a record: a whole number from 1 on",
                     cli_quote(quoted, sizeof quoted, word));
  int status = take_filters(args, &request);
  if (status == 0) status = cli_connect(args, &client);
  if (status != 0) return status;
  request.from_seq = seq;
  request.limit = 1;
  if (blx_audit_list_get(client, &request, &list, &err) != 0) {
    status = cli_fail(&err);
  } else if (list->n_records == 0 || list->records[0]->seq != seq) {
    err.code = BLX_E_NOT_FOUND;
    snprintf(err.message, sizeof err.message, "there is no record %llu: `blixard audit verify` shows what is kept",
             seq);
    snprintf(err.origin, sizeof err.origin, "%s", list->answered_by != NULL ? list->answered_by : "");
    status = cli_fail(&err);
  } else {
    status = show(args, list->records[0]);
  }
  blx_audit_list_free(list);
  blx_client_close(client);
  return status;
}

int cmd_audit_verify(struct cli_args *args) {
  struct blx_audit_verify_request request = BLX_AUDIT_VERIFY_REQUEST_INIT;
  struct blx_audit_verdict *verdict = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.denied = args->denied;
  if (blx_audit_verify(client, &request, &verdict, &err) != 0) {
    status = cli_fail(&err);
  } else {
    status = cli_show(args, "audit_verdict", verdict, &verdict_view);
    if (status == 0 && !verdict->ok) {
      err.code = BLX_E_CORRUPT;
      snprintf(err.message, sizeof err.message, "the audit log of %s is broken at record %llu: %.200s",
               verdict->answered_by, (unsigned long long)verdict->bad_seq, verdict->text);
      status = cli_fail(&err);
    }
  }
  blx_audit_verdict_free(verdict);
  blx_client_close(client);
  return status;
}

/* ---- export */

static int put_part(FILE *to, const struct blx_audit_list *part) {
  for (size_t i = 0; i < part->n_records; i++) {
    blx_error err = {0};
    char *json = NULL;
    if (blx_to_json("audit_record", part->records[i], &json, &err) != 0) return cli_fail(&err);
    fputs(json, to);
    if (*json == '\0' || json[strlen(json) - 1] != '\n') fputc('\n', to);
    blx_string_free(json);
  }
  return 0;
}

static int put_all(blx_client *client, struct blx_audit_list_request *request, FILE *to) {
  int status = 0;
  request->limit = PART_RECORDS;
  do {
    struct blx_audit_list *part = NULL;
    blx_error err = {0};
    if (blx_audit_list_get(client, request, &part, &err) != 0) return cli_fail(&err);
    status = put_part(to, part);
    request->from_seq = part->next_seq;
    blx_audit_list_free(part);
  } while (status == 0 && request->from_seq != 0 && ferror(to) == 0);
  return status;
}

static int fail_file(const char *path) {
  blx_error err = {.code = errno == ENOSPC ? BLX_E_NOSPACE : errno == EACCES ? BLX_E_DENIED : BLX_E_IO};
  snprintf(err.message, sizeof err.message, "%.300s cannot be written: %s", path, strerror(errno));
  return cli_fail(&err);
}

/* Beside the file first: one that is there is whole. */
static int export_to(blx_client *client, struct blx_audit_list_request *request, const char *path) {
  char part[PATH_SIZE];
  int n = snprintf(part, sizeof part, "%s.part", path);
  if (n < 0 || (size_t)n >= sizeof part) return cli_usage("the path is too long");
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
  if (to == NULL) return fail_file(part);
  int status = put_all(client, request, to);
  bool bad = fflush(to) != 0 || ferror(to) != 0 || fsync(fd) != 0;
  bad = fclose(to) != 0 || bad;
  if (status == 0 && (bad || rename(part, path) != 0)) status = fail_file(part);
  if (status != 0) (void)unlink(part);
  return status;
}

int cmd_audit_export(struct cli_args *args) {
  struct blx_audit_list_request request;
  blx_client *client = NULL;
  int status = take_filters(args, &request);
  if (status == 0) status = cli_connect(args, &client);
  if (status != 0) return status;
  if (strcmp(args->words[0], "-") == 0)
    status = put_all(client, &request, stdout);
  else
    status = export_to(client, &request, args->words[0]);
  blx_client_close(client);
  return status;
}

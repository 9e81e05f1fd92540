/* A request as a client sends it: of the client's tenant where it names none, and a change with a key. */
#include "api/api_int.h"

#include "io/file.h"

#include <string.h>

enum { DEPTH_MAX = 3, KEY_BYTES = 40 };

/* Without a tenant these are about all. */
static bool names_one(const struct blx__rpc_row *row) {
  return row->id != BLX__RPC_QUOTA_GET && row->id != BLX__RPC_AUDIT_LIST;
}

/* Where the request says it, and where one in it does: a plan has the request that is planned. */
static void fill_tenant(const struct blx__msg_desc *desc, void *message, const char *tenant, int depth) {
  BLX__ASSERT(depth < DEPTH_MAX && *tenant);
  for (unsigned i = 0; i < desc->field_count; i++) {
    const struct blx__field *f = &desc->fields[i];
    char *at = (char *)message + f->offset;
    if (f->card != BLX__CARD_ONE) continue;
    if (f->kind == BLX__KIND_MSG && depth + 1 < DEPTH_MAX) {
      void *inner = NULL;
      memcpy(&inner, at, sizeof inner);
      if (inner) fill_tenant(f->msg(), inner, tenant, depth + 1);
    } else if (f->kind == BLX__KIND_STR && strcmp(f->name, "tenant") == 0) {
      const char *given = NULL;
      memcpy(&given, at, sizeof given);
      if (!given || !*given) memcpy(at, &tenant, sizeof tenant);
    }
  }
}

/* So that the client may send it again when an answer is lost. */
static blx__rc fill_key(const struct blx__field *field, void *message, char key[KEY_BYTES], blx_error *err) {
  const char *given = NULL, *fresh = key;
  uint64_t random[2] = {0};
  memcpy(&given, (char *)message + field->offset, sizeof given);
  if (given && *given) return BLX__OK;
  BLX__TRY(blx__random_bytes(random, sizeof random, err));
  (void)blx__str_format(key, KEY_BYTES, "%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
  memcpy((char *)message + field->offset, &fresh, sizeof fresh);
  return BLX__OK;
}

blx__rc blx__api_encode(const struct blx__rpc_row *row, const void *request, const char *tenant, struct blx__buf *out,
                        blx_error *err) {
  const struct blx__field *key_field = blx__desc_field(row->request(), "request_id");
  bool keyed = row->route == BLX__ROUTE_WRITE && key_field, named = *tenant && names_one(row);
  if (!keyed && !named) return blx__msg_encode(row->request(), request, out, err);
  struct blx__arena arena = {.limit_bytes = 2 * BLX__API_REQUEST_MAX};
  char key[KEY_BYTES];
  void *copy = NULL;
  blx__rc rc = blx__msg_copy(row->request(), &arena, request, &copy, err);
  if (rc.code == 0 && named) fill_tenant(row->request(), copy, tenant, 0);
  if (rc.code == 0 && keyed) rc = fill_key(key_field, copy, key, err);
  if (rc.code == 0) rc = blx__msg_encode(row->request(), copy, out, err);
  blx__arena_free(&arena);
  return rc;
}

void blx__api_tenant(struct blx__api_client *c, char out[BLX__API_TENANT_MAX + 1]) {
  pthread_mutex_lock(&c->lock);
  memcpy(out, c->tenant, BLX__API_TENANT_MAX + 1);
  pthread_mutex_unlock(&c->lock);
}

blx__rc blx__api_check_tenant(const char *tenant, blx_error *err) {
  if (!tenant || !*tenant || blx__name_ok(tenant, BLX__API_TENANT_MAX)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "client", "tenant: the name has at most %d bytes and must match %s",
                   BLX__API_TENANT_MAX, BLX__NAME_PATTERN);
}

int blx_client_set_tenant(blx_client *client, const char *tenant, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, false, reterr);
  if (!c) return BLX_E_MISUSE;
  blx__rc rc = blx__api_check_tenant(tenant, reterr);
  if (rc.code == 0) {
    pthread_mutex_lock(&c->lock);
    (void)blx__str_copy(c->tenant, sizeof c->tenant, tenant ? tenant : "");
    pthread_mutex_unlock(&c->lock);
  }
  blx__api_handle_put(client);
  return rc.code;
}

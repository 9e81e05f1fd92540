#include "vm/driver.h"

#include <string.h>

static const char origin[] = "vm";

/* The capability table: a new hypervisor is a row, and what the row still lacks is its sentence. */
struct hypervisor {
  const char *name;
  const char *missing;         /* NULL: it is driven */
  uint32_t memory_mib_refused; /* an amount that hangs it; 0: none */
  bool vcpus_one_or_even;
};

static const struct hypervisor table[] = {
    {"qemu", NULL, 2048, false},
    {"cloud-hypervisor", "its HTTP socket is not driven yet, and it needs a working /dev/kvm", 0, false},
    {"firecracker", "its HTTP socket is not driven yet, and it needs a working /dev/kvm", 0, true},
    {"crosvm", "its control socket is not driven yet, and it needs a working /dev/kvm", 0, false},
    {"kvmtool", "it has no control socket, and it needs a working /dev/kvm", 0, false},
    {"stratovirt", "its QMP dialect is not driven yet, and it needs a working /dev/kvm", 0, false},
};

/* The schema's enum writes cloud_hypervisor, microvm.nix cloud-hypervisor. */
static bool same_name(const char *a, const char *b) {
  for (; *a && *b; a++, b++)
    if (*a != *b && !(*a == '-' && *b == '_') && !(*a == '_' && *b == '-')) return false;
  return *a == *b;
}

blx__rc blx__vm_hypervisor_check(const char *name, uint32_t vcpus, uint32_t memory_mib, blx_error *err) {
  const struct hypervisor *h = NULL;
  if (!name) name = "qemu";
  for (size_t i = 0; i < BLX__COUNT(table) && !h; i++)
    if (same_name(table[i].name, name)) h = &table[i];
  if (!h)
    return blx__fail(err, BLX_E_INVALID, origin,
                     "hypervisor %.40s is unknown; known are qemu, cloud-hypervisor, firecracker, crosvm, kvmtool and "
                     "stratovirt",
                     name);
  if (h->missing)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin, "hypervisor %s is not supported yet: %s; use qemu", h->name,
                     h->missing);
  if (h->memory_mib_refused && memory_mib == h->memory_mib_refused)
    return blx__fail(err, BLX_E_INVALID, origin,
                     "a %s guest with exactly %u MiB hangs (microvm.nix issue 171): give it one MiB more or less",
                     h->name, memory_mib);
  if (h->vcpus_one_or_even && vcpus > 1 && vcpus % 2 != 0)
    return blx__fail(err, BLX_E_INVALID, origin, "%s takes 1 or an even number of vcpus, not %u", h->name, vcpus);
  return BLX__OK;
}

blx__rc blx__vm_flake_check(const char *flake, blx_error *err) {
  const char *hash = strchr(flake, '#');
  const char *name = hash ? hash + 1 : "";
  size_t name_len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
  if (!hash || hash == flake || name_len == 0 || name[name_len] != '\0')
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the flake \"%.200s\" must be REF#NAME, NAME one of its nixosConfigurations", flake);
  if (flake[0] == '-' || flake[0] == '.')
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the flake \"%.200s\" must begin with an absolute path or a URL: each node resolves it", flake);
  for (const char *c = flake; c < hash; c++)
    if ((unsigned char)*c <= ' ' || *c == '"' || *c == 0x7f)
      return blx__fail(err, BLX_E_INVALID, origin,
                       "the flake \"%.200s\" has a space or a quote in it: write %%20 for a space", flake);
  return BLX__OK;
}

/* ---- flake references */

static size_t hex_len(const char *text) {
  return strspn(text, "0123456789abcdef");
}

/* Whether a part of the reference's query begins with @key and has @len characters of @set as its value. */
static bool has_pin(const char *query, const char *key, const char *set, size_t len) {
  for (const char *at = query; at && *at; at = strchr(at + 1, '&')) {
    const char *value = at + 1 + strlen(key);
    if (strncmp(at + 1, key, strlen(key)) != 0) continue;
    size_t n = strspn(value, set);
    if (n >= len && (value[n] == '\0' || value[n] == '&')) return true;
  }
  return false;
}

/* As nix/vm-template/wrap sees it. */
bool blx__vm_ref_is_pinned(const char *ref) {
  static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/%=";
  const char *query = strchr(ref, '?'), *colon = strchr(ref, ':');
  if (query && has_pin(query, "rev=", "0123456789abcdef", 40)) return true;
  if (query && has_pin(query, "narHash=sha256-", base64, 44)) return true;
  if (strncmp(ref, "github:", 7) != 0 && strncmp(ref, "gitlab:", 7) != 0 && strncmp(ref, "sourcehut:", 10) != 0)
    return false;
  const char *owner_end = strchr(colon, '/'), *rev = owner_end ? strchr(owner_end + 1, '/') : NULL;
  return rev && hex_len(rev + 1) == 40 && (rev[41] == '\0' || rev[41] == '?');
}

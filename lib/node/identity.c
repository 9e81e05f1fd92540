#include "node/identity.h"

#include "base/digest.h"
#include "io/file.h"
#include "schema/codec.h"
#include "schema/desc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IDENTITY_MAX = 4 << 20, PATH_BYTES = 256 };

/* Who may write here decides what root runs: the directory is root's or ours, and nobody else's. */
static blx__rc check_owner(const char *dir, blx_error *err) {
  struct stat st;
  if (stat(dir, &st) != 0) return blx__fail_errno(err, errno, "node", "cannot look at the data directory %s", dir);
  if (!S_ISDIR(st.st_mode))
    return blx__fail(err, BLX_E_INVALID, "node", "%s is not a directory: give another data directory", dir);
  if (st.st_mode & (S_IWGRP | S_IWOTH))
    return blx__fail(err, BLX_E_DENIED, "node", "%s may be written by %s (mode %o): run chmod 0711 on it", dir,
                     st.st_mode & S_IWOTH ? "everyone" : "its group", (unsigned)(st.st_mode & 07777));
  if (st.st_uid != 0 && st.st_uid != geteuid())
    return blx__fail(err, BLX_E_DENIED, "node", "%s belongs to user %u, this daemon is user %u: run chown on it", dir,
                     st.st_uid, geteuid());
  return BLX__OK;
}

blx__rc blx__identity_lock(const char *dir, int *fd, blx_error *err) {
  BLX__TRY(blx__dir_make(dir, 0711, err));
  BLX__TRY(check_owner(dir, err));
  char path[PATH_BYTES];
  if (!blx__str_format(path, sizeof path, "%s/lock", dir))
    return blx__fail(err, BLX_E_INVALID, "node", "the path of the data directory is longer than %d bytes",
                     PATH_BYTES - 16);
  int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return blx__fail_errno(err, errno, "node", "cannot open %s", path);
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    int why = errno;
    close(lock);
    if (why == EWOULDBLOCK)
      return blx__fail(err, BLX_E_BUSY, "node",
                       "another process has the data directory %s: stop it, or give another directory", dir);
    return blx__fail_errno(err, why, "node", "cannot lock %s", path);
  }
  *fd = lock;
  return BLX__OK;
}

static blx__rc identity_path(const char *dir, char path[PATH_BYTES], blx_error *err) {
  if (blx__str_format(path, PATH_BYTES, "%s/identity", dir)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "node", "the path of the data directory is too long");
}

/* The file: SHA-256 of the rest, then the encoded record. */
blx__rc blx__identity_read(const char *dir, struct blx_identity **out, blx_error *err) {
  char path[PATH_BYTES];
  BLX__TRY(identity_path(dir, path, err));
  *out = NULL;
  struct blx__buf file;
  blx__buf_init(&file, IDENTITY_MAX);
  blx_error why;
  blx__rc rc = blx__file_read(path, IDENTITY_MAX, &file, &why);
  if (rc.code == BLX_E_NOT_FOUND) {
    blx__buf_free(&file);
    return BLX__OK;
  }
  if (rc.code != 0) {
    blx__buf_free(&file);
    return blx__fail_as(err, &why);
  }
  uint8_t digest[BLX__SHA256_BYTES];
  void *record = NULL;
  bool whole = file.len >= sizeof digest;
  struct blx__slice body = {file.data + sizeof digest, whole ? file.len - sizeof digest : 0};
  if (whole) {
    blx__sha256(&body, 1, digest);
    whole = memcmp(digest, file.data, sizeof digest) == 0;
  }
  if (whole) whole = blx__msg_decode_owned(blx__desc_identity(), body, &record, &why).code == 0;
  blx__buf_free(&file);
  if (!whole)
    return blx__fail(err, BLX_E_CORRUPT, "node",
                     "%s is damaged: restore it from a backup, or empty the data directory and join as a new node",
                     path);
  *out = record;
  return BLX__OK;
}

blx__rc blx__identity_write(const char *dir, const struct blx_identity *identity, blx_error *err) {
  char path[PATH_BYTES];
  BLX__TRY(identity_path(dir, path, err));
  struct blx__buf body, file;
  blx__buf_init(&body, IDENTITY_MAX);
  blx__buf_init(&file, IDENTITY_MAX + BLX__SHA256_BYTES);
  blx__rc rc = blx__msg_encode(blx__desc_identity(), identity, &body, err);
  if (rc.code == 0) {
    uint8_t digest[BLX__SHA256_BYTES];
    struct blx__slice slice = {body.data, body.len};
    blx__sha256(&slice, 1, digest);
    bool ok = blx__buf_add(&file, digest, sizeof digest) && blx__buf_add(&file, body.data, body.len);
    rc = ok ? blx__file_write_atomic(path, file.data, file.len, 0600, err)
            : blx__fail(err, BLX_E_NOMEM, "node", "no memory to write %s", path);
  }
  blx__buf_free(&body);
  blx__buf_free(&file);
  return rc;
}

blx__rc blx__identity_capacity(uint32_t reserve_vcpus, uint32_t reserve_memory_mib, struct blx_resources *out,
                               blx_error *err) {
  enum { RESERVE_MIB = 512, RESERVE_SHARE = 8 };
  long cpus = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  uint64_t has_vcpus = cpus > 0 ? (uint64_t)cpus : 1;
  uint64_t has_mib = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page >> 20 : 0;
  uint64_t reserve_mib = has_mib / RESERVE_SHARE > RESERVE_MIB ? has_mib / RESERVE_SHARE : RESERVE_MIB;
  if (reserve_memory_mib > 0) reserve_mib = reserve_memory_mib;
  if (reserve_vcpus >= has_vcpus)
    return blx__fail(err, BLX_E_INVALID, "node",
                     "reserve_vcpus: the machine has %llu processors, so %u are too many to keep for the host",
                     (unsigned long long)has_vcpus, reserve_vcpus);
  if (reserve_memory_mib > 0 && reserve_mib >= has_mib)
    return blx__fail(err, BLX_E_INVALID, "node",
                     "reserve_memory_mib: the machine has %llu MiB, so %u are too many to keep for the host",
                     (unsigned long long)has_mib, reserve_memory_mib);
  *out = (struct blx_resources)BLX_RESOURCES_INIT;
  out->vcpus = (uint32_t)(has_vcpus - reserve_vcpus);
  out->memory_mib = has_mib > reserve_mib ? has_mib - reserve_mib : 0;
  return BLX__OK;
}

/* ---- whether this machine is one of somebody's virtual machines, in the ways of systemd-detect-virt(1) */

enum { CPUINFO_MAX = 8 << 20, DMI_MAX = 4096 };

static bool file_has(const char *path, size_t max, const char *const *words, size_t count) {
  struct blx__buf text;
  bool found = false;
  blx__buf_init(&text, max);
  if (blx__file_read(path, max - 1, &text, NULL).code == 0 && blx__buf_add(&text, "", 1))
    for (size_t i = 0; !found && i < count; i++) found = strstr((const char *)text.data, words[i]) != NULL;
  blx__buf_free(&text);
  return found;
}

bool blx__identity_virtualized(const char *cpuinfo, const char *dmi) {
  static const char *const flags[] = {" hypervisor "};
  static const char *const makers[] = {"QEMU",
                                       "KVM",
                                       "VMware",
                                       "VirtualBox",
                                       "innotek",
                                       "Xen",
                                       "Parallels",
                                       "BHYVE",
                                       "Bochs",
                                       "Amazon EC2",
                                       "Google Compute Engine",
                                       "Hyper-V",
                                       "OpenStack",
                                       "Virtual Machine"};
  static const char *const files[] = {"product_name", "sys_vendor", "board_vendor", "bios_vendor"};
  if (file_has(cpuinfo, CPUINFO_MAX, flags, BLX__COUNT(flags))) return true;
  char path[PATH_BYTES];
  for (size_t i = 0; i < BLX__COUNT(files); i++)
    if (blx__str_format(path, sizeof path, "%s/%s", dmi, files[i]) &&
        file_has(path, DMI_MAX, makers, BLX__COUNT(makers)))
      return true;
  return false;
}

/* ---- what its processors can do, of what guests are built for or refuse to start without */

static const char *const features[] = {
    /* x86-64, by the names of its levels and beyond */
    "cx16", "lahf_lm", "popcnt", "sse3", "pni", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "bmi1", "bmi2", "f16c",
    "fma", "abm", "movbe", "xsave", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "aes", "vaes", "pclmulqdq", "vpclmulqdq", "sha_ni",
    "gfni", "rdrand", "rdseed", "pdpe1gb", "invtsc", "constant_tsc", "nonstop_tsc", "vmx", "svm", "sev", "sev_es",
    "sev_snp", "tdx_guest", "sgx", "la57",
    /* arm64 */
    "asimd", "crc32", "atomics", "sha2", "sha3", "sve", "sve2", "i8mm", "bf16", "asimddp", "paca"};

/* Between blanks in the first line that begins with one of the two names. */
static bool has_feature(const char *line, size_t len, const char *name) {
  size_t n = strlen(name);
  for (size_t at = 0; at + n < len; at++) {
    if (line[at] != ' ' || strncmp(line + at + 1, name, n) != 0) continue;
    if (at + 1 + n >= len || line[at + 1 + n] == ' ') return true;
  }
  return false;
}

size_t blx__identity_features(const char *cpuinfo, const char *out[BLX__IDENTITY_FEATURES_MAX]) {
  struct blx__buf text;
  size_t n = 0;
  _Static_assert(BLX__COUNT(features) <= BLX__IDENTITY_FEATURES_MAX, "a record holds no more");
  blx__buf_init(&text, CPUINFO_MAX);
  if (blx__file_read(cpuinfo, CPUINFO_MAX - 1, &text, NULL).code == 0 && blx__buf_add(&text, "", 1)) {
    const char *all = (const char *)text.data, *line = strstr(all, "flags\t");
    if (!line) line = strstr(all, "Features\t");
    size_t len = line ? strcspn(line, "\n") : 0;
    for (size_t i = 0; i < BLX__COUNT(features); i++)
      if (has_feature(line, len, features[i])) out[n++] = features[i];
  }
  blx__buf_free(&text);
  return n;
}

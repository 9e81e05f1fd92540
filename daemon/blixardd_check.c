/* What can be told of a configuration without starting: the values together, and what lies on the disk. */
#include "blixardd_config.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define XFS_MAGIC 0x58465342 /* not in every <linux/magic.h> */

static void check_timing(struct daemon_config *config) {
  uint32_t least_ms = 5 * config->options.heartbeat_ms;
  if (config->options.election_ms < least_ms)
    daemon_find(config, "election-ms", "%u ms is less than 5 heartbeats (%u ms)", config->options.election_ms,
                least_ms);
}

/* The host's name was not looked at yet. */
static void check_name(struct daemon_config *config) {
  char why[DAEMON_WHY_SIZE];
  struct daemon_config scratch = {0};
  int at = daemon_row_find("name", false);
  if (config->sources[at].from != DAEMON_FROM_PRESET) return;
  if (!daemon_set(&scratch, &daemon_rows[at], config->hostname, why))
    daemon_find(config, "name", "the host's name cannot be a node's, so give one: %s", why);
}

/* ---- paths */

/* The path, or the nearest directory above it that exists. */
static void nearest_existing(const char *path, char out[PATH_MAX]) {
  struct stat st;
  snprintf(out, PATH_MAX, "%s", path);
  while (stat(out, &st) != 0) {
    char *slash = strrchr(out, '/');
    if (slash == NULL) snprintf(out, PATH_MAX, ".");
    if (slash == NULL || slash == out) {
      if (slash == out) out[1] = '\0';
      return;
    }
    *slash = '\0';
  }
}

/* File systems on which the log is known to survive a crash; the library asks the same when it opens the log. */
static bool is_known_fs(const char *path, long *type) {
  struct statfs fs;
  if (statfs(path, &fs) != 0) return true; /* opening it says more */
  *type = (long)fs.f_type;
  return *type == EXT4_SUPER_MAGIC || *type == XFS_MAGIC || *type == TMPFS_MAGIC;
}

/* The sentence about the data directory's file system; false when there is nothing to say. */
static bool find_fs(const struct daemon_config *config, char why[DAEMON_WHY_SIZE]) {
  char path[PATH_MAX], log[PATH_MAX];
  long type = 0;
  snprintf(log, sizeof log, "%s/raft", config->options.data_dir);
  nearest_existing(log, path);
  if (config->options.unsafe_fs != 0 || is_known_fs(path, &type)) return false;
  snprintf(
      why, DAEMON_WHY_SIZE,
      "%.200s is on a file system (%s, type 0x%lx) on which a log is not known to survive a crash: use a directory "
      "on ext4, XFS or tmpfs, or allow it with --unsafe-fs",
      path,
      type == NFS_SUPER_MAGIC         ? "NFS"
      : type == OVERLAYFS_SUPER_MAGIC ? "overlayfs"
                                      : "not one of these",
      (unsigned long)type);
  return true;
}

static bool is_read_only(const char *path) {
  struct statvfs fs;
  return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0;
}

static void check_data_dir(struct daemon_config *config) {
  const char *dir = config->options.data_dir;
  char near[PATH_MAX], why[DAEMON_WHY_SIZE];
  struct stat st;
  nearest_existing(dir, near);
  if (stat(near, &st) != 0) {
    daemon_find(config, "data-dir", "%s: %s", near, strerror(errno));
    return;
  }
  bool there = strcmp(near, dir) == 0;
  if (!S_ISDIR(st.st_mode)) {
    daemon_find(config, "data-dir", "%s is not a directory: give another one", near);
    return;
  }
  if (there && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    daemon_find(config, "data-dir", "%s may be written by %s (mode %o): run chmod 0711 on it", dir,
                (st.st_mode & S_IWOTH) != 0 ? "everyone" : "its group", (unsigned)(st.st_mode & 07777));
  if (there && st.st_uid != 0 && st.st_uid != geteuid())
    daemon_find(config, "data-dir", "%s belongs to user %u, this daemon is user %u: run chown on it", dir, st.st_uid,
                geteuid());
  if (is_read_only(near))
    daemon_find(config, "data-dir", "%s is on a file system that is mounted read-only: mount it for writing", near);
  else if (access(near, W_OK | X_OK) != 0)
    daemon_find(config, "data-dir", "%s: nothing can be made there: %s", near, strerror(errno));
  if (find_fs(config, why)) daemon_find(config, "data-dir", "%s", why);
}

static void check_socket(struct daemon_config *config) {
  const char *path = config->options.socket_path;
  char dir[PATH_MAX];
  struct stat st;
  if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
    daemon_find(config, "socket", "%s is in the way: it is not a socket; move it or choose another path", path);
  if (path == config->socket) return; /* its directory is the data directory */
  snprintf(dir, sizeof dir, "%s", path);
  char *slash = strrchr(dir, '/');
  if (slash == NULL) return;
  slash[slash == dir] = '\0';
  if (stat(dir, &st) != 0)
    daemon_find(config, "socket", "its directory %s: %s", dir, strerror(errno));
  else if (!S_ISDIR(st.st_mode) || access(dir, W_OK | X_OK) != 0)
    daemon_find(config, "socket", "nothing can be made in %s: make it a directory that this user may write", dir);
}

static void check_program(struct daemon_config *config, const char *row, const char *path) {
  struct stat st;
  if (stat(path, &st) != 0)
    daemon_find(config, row, "%s: %s", path, strerror(errno));
  else if (!S_ISREG(st.st_mode) || access(path, X_OK) != 0)
    daemon_find(config, row, "%s is not a program that can be run", path);
}

static void check_dir(struct daemon_config *config, const char *row, const char *path) {
  struct stat st;
  if (stat(path, &st) != 0)
    daemon_find(config, row, "%s: %s", path, strerror(errno));
  else if (!S_ISDIR(st.st_mode))
    daemon_find(config, row, "%s is not a directory", path);
}

static void check_share_paths(struct daemon_config *config) {
  char dir[DAEMON_PATHS_MAX + 1];
  for (const char *at = config->options.share_paths; at != NULL && *at != '\0';) {
    size_t n = strcspn(at, ":");
    snprintf(dir, sizeof dir, "%.*s", (int)n, at);
    check_dir(config, "share-paths", dir);
    at += n + (at[n] == ':');
  }
}

/* What starts a guest; a simulated one needs nothing. The Nix store is made when it is missing. */
static void check_vm_parts(struct daemon_config *config) {
  static const char needed[] = "%s makes guests from nixpkgs and microvm.nix: say which, by pinned flake references";
  const struct blx_node_options *o = &config->options;
  char kernel[PATH_MAX + 8], template[PATH_MAX + 8];
  snprintf(kernel, sizeof kernel, "%s/kernel", o->runner_dir);
  snprintf(template, sizeof template, "%s/vm.nix", o->runner_dir);
  check_program(config, "shim", o->shim_path);
  check_program(config, "guest", o->guest_path);
  check_dir(config, "runner-dir", o->runner_dir);
  check_share_paths(config);
  if (o->virtiofsd_path != NULL) check_program(config, "virtiofsd", o->virtiofsd_path);
  if (access(template, F_OK) != 0) {
    check_dir(config, "kernel-dir", o->kernel_dir != NULL ? o->kernel_dir : kernel);
    return;
  }
  /* This one's kernel is nixpkgs'. */
  if (o->nixpkgs_ref == NULL) daemon_find(config, "nixpkgs-ref", needed, o->runner_dir);
  if (o->microvm_ref == NULL) daemon_find(config, "microvm-ref", needed, o->runner_dir);
}

bool daemon_check(struct daemon_config *config) {
  check_name(config);
  check_timing(config);
  check_data_dir(config);
  check_socket(config);
  if (config->options.simulate_vms == 0) check_vm_parts(config);
  return config->findings == 0;
}

int daemon_check_start(struct daemon_config *config) {
  char why[DAEMON_WHY_SIZE];
  check_timing(config);
  if (config->findings > 0) return blx_error_exit_status(BLX_E_INVALID);
  if (!find_fs(config, why)) return 0;
  fprintf(stderr, "blixardd: %s [%s]\n", why, blx_error_name(BLX_E_UNSUPPORTED));
  return blx_error_exit_status(BLX_E_UNSUPPORTED);
}

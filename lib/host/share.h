/* The host's directories that an instance's runner shares with its guest by virtiofs: which they are, and whether they
 * may be. Used by the shim, which runs a virtiofsd for each. Calls block for a few file operations. Thread: any. Since
 * 0.1. */
#ifndef BLX__HOST_SHARE_H
#define BLX__HOST_SHARE_H

#include "base/rc.h"

enum {
  BLX__HOST_SHARES_MAX = 16,
  BLX__HOST_TAG_MAX = 36,         /* bytes of a tag, as virtiofs has it */
  BLX__HOST_SHARE_SOCKET_MAX = 90 /* bytes of a socket's name: with its directory it must fit an address */
};

struct blx__host_share {
  char tag[BLX__HOST_TAG_MAX + 1];
  char socket[BLX__HOST_SHARE_SOCKET_MAX + 1]; /* in the working directory, where the monitor connects to it */
  int source;                                  /* the directory, O_PATH; owned */
  bool read_only;
};

/* Fill @shares from booted/share/microvm/virtiofs/TAG/{socket,source} below the instance's directory @dir. A relative
 * source lies in its `work` and is made if missing, for @uid and @gid, without following a link. An absolute one is
 * allowed below /nix/store, read-only, and below the directories of @allowed, "A:B", NULL: none; links are followed
 * first.
 * Errors: INVALID (what a file says), DENIED (not below @allowed; says what to do), NOT_FOUND, IO. Then nothing is
 * owned. */
blx__rc blx__host_shares_open(int dir, const char *allowed, uint32_t uid, uint32_t gid,
                              struct blx__host_share shares[BLX__HOST_SHARES_MAX], unsigned *count,
                              blx_error *err) BLX__MUST;
void blx__host_shares_close(struct blx__host_share *shares, unsigned count);

/* Remove the sockets that the runner names. */
void blx__host_shares_unlink(int dir);

#endif

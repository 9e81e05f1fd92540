/* The size that a microvm.nix module asks for, read off its text without evaluating it. */
#ifndef BLX_CLI_NIX_SCAN_H
#define BLX_CLI_NIX_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum cli_nix_found {
  CLI_NIX_ABSENT,  /* it is not set in this file */
  CLI_NIX_NUMBER,  /* it is a number */
  CLI_NIX_UNCLEAR, /* it is set to something else, or to different numbers */
};

struct cli_nix_value {
  enum cli_nix_found found;
  uint64_t number; /* when found is CLI_NIX_NUMBER; cut at UINT32_MAX */
};

struct cli_nix_size {
  struct cli_nix_value mem, vcpu;
};

/* Look for `mem = N;` and `vcpu = N;`, also as `microvm.mem`, also behind lib.mkDefault or lib.mkForce; comments and
 * strings are passed over. @text need not be terminated. */
void cli_nix_scan(const char *text, size_t len, struct cli_nix_size *out);

#endif

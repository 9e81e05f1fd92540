/* The key of the data that a VM's runner is made of: nodes say that they have it, placement asks who does. */
#ifndef BLX__SCHEMA_CLOSURE_H
#define BLX__SCHEMA_CLOSURE_H

#include "base/digest.h"
#include "schema/internal.h"

#include <string.h>

enum { BLX__CLOSURE_KEY_BYTES = 129 };

/* closure/SHA256 of its config, or closure/FLAKE; of a flake whose name is longer, its digest. */
static inline void blx__closure_key(const struct blx_vm_spec *spec, char out[BLX__CLOSURE_KEY_BYTES]) {
  const char *of = spec->config_sha256 && spec->config_sha256[0] ? spec->config_sha256 : spec->flake;
  char hex[BLX__SHA256_HEX];
  if (!of) of = "";
  if (strlen(of) + sizeof "closure/" > BLX__CLOSURE_KEY_BYTES) {
    const struct blx__slice text = {(const uint8_t *)of, strlen(of)};
    uint8_t digest[BLX__SHA256_BYTES];
    blx__sha256(&text, 1, digest);
    blx__sha256_hex(digest, hex);
    of = hex;
  }
  (void)blx__str_format(out, BLX__CLOSURE_KEY_BYTES, "closure/%s", of);
}

#endif

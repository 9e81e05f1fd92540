/* What the fuzz targets share. A target is one program for libFuzzer: it defines LLVMFuzzerTestOneInput and fuzz_seeds.
 * `fuzz_X --seeds DIR` writes what fuzz_seeds gives as files and ends; otherwise the arguments are libFuzzer's. */
#ifndef BLX_TESTS_FUZZ_H
#define BLX_TESTS_FUZZ_H

#include "base/buf.h"
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Call fuzz_seed with each input to begin from. */
void fuzz_seeds(void);
void fuzz_seed(const void *data, size_t n);

/* What must hold whatever the input is; its failure is a finding. */
#define FUZZ_SHALL(cond)           \
  do {                             \
    if (!(cond)) __builtin_trap(); \
  } while (0)

#endif

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

/* For a target's LLVMFuzzerCustomMutator, whose arguments the first four are: @data as messages of @desc, each with
 * @head bytes of length in front, little-endian. */
struct blx__msg_desc;
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t fuzz_mutate_frames(uint8_t *data, size_t size, size_t max_size, unsigned seed, size_t head,
                          const struct blx__msg_desc *desc);

/* What must hold whatever the input is; its failure is a finding. */
#define FUZZ_SHALL(cond)           \
  do {                             \
    if (!(cond)) __builtin_trap(); \
  } while (0)

#endif

#include "fuzz.h"

#include <stdio.h>

static const char *seeds_dir;
static unsigned seeds_count;

void fuzz_seed(const void *data, size_t n) {
  char path[4096];
  FUZZ_SHALL(blx__str_format(path, sizeof path, "%s/seed-%03u", seeds_dir, seeds_count++));
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
    fprintf(stderr, "fuzz: cannot write %s\n", path);
    exit(1);
  }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  if (*argc != 3 || strcmp((*argv)[1], "--seeds") != 0) return 0;
  seeds_dir = (*argv)[2];
  fuzz_seeds();
  exit(seeds_count > 0 ? 0 : 1);
}

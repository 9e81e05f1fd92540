/* The simulator's world, for the tests that script it. */
#include "../../sim/disk.c"

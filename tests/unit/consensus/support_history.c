/* The simulator's checker, which has its own test here. */
#include "../../sim/history.c"

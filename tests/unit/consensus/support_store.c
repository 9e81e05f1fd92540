#include "../../sim/store.c"

#include "../../sim/world.c"

#include "../../sim/fsm_log.c"

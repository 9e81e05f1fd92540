/* The host and the cluster around one agent of the agent's tests, compiled in here too. */
#include "../agent/support.c"

/* The one-line operations of the state's tests, compiled in here too. */
#include "../state/support.c"

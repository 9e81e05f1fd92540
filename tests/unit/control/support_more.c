/* Those of quotas and taints too. */
#include "../state/support_more.c"

/* blixardd recover, blixardd restore: on data directories of nodes that do not run. */
#ifndef BLXD_OFFLINE_H
#define BLXD_OFFLINE_H

/* -1: @argv asks for neither; else the exit status. */
int daemon_offline(int argc, char **argv);

#endif

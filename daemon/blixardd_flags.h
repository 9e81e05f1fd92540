/* The command line of blixardd(8). */
#ifndef BLXD_FLAGS_H
#define BLXD_FLAGS_H

#include <blixard/blixard.h>

enum { DAEMON_LABELS_MAX = 64, DAEMON_NAME_SIZE = 65 };

/* What the flags fill. Strings are borrowed from argv; @options points into the rest. */
struct daemon_config {
  struct blx_node_options options;
  struct blx_resources capacity;
  struct blx_label labels[DAEMON_LABELS_MAX];
  struct blx_label *label_list[DAEMON_LABELS_MAX];
  char hostname[DAEMON_NAME_SIZE];
};

enum daemon_parsed {
  DAEMON_RUN,  /* go on */
  DAEMON_DONE, /* --help or --version was printed */
  DAEMON_BAD,  /* one sentence on stderr said why */
};

/* Fill @config from the command line. */
enum daemon_parsed daemon_flags_parse(int argc, char **argv, struct daemon_config *config);

#endif

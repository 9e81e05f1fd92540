/* Everything public at once. */
#ifndef BLIXARD_BLIXARD_H
#define BLIXARD_BLIXARD_H

#include <blixard/audit.h>
#include <blixard/backup.h>
#include <blixard/client.h>
#include <blixard/completions.h>
#include <blixard/consensus.h>
#include <blixard/error.h>
#include <blixard/ha.h>
#include <blixard/log.h>
#include <blixard/node.h>
#include <blixard/placement.h>
#include <blixard/plan.h>
#include <blixard/recover.h>
#include <blixard/stats.h>
#include <blixard/types.h>
#include <blixard/vm.h>
#include <blixard/watch.h>

#endif

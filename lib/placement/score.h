/* What a node costs an instance: the lower, the better. The sum of
 *   the strategy, 0..1,000,000:
 *     BestFit          fit.h; while no shapes are known 1,000,000 less 50 x fullness, which is both shares of the node
 *                      with the instance there, in 1/10000 rounded down, added (Kubernetes' MostAllocated)
 *     LoadBalanced     50 x fullness, and where load is measured the mean of that and of the measured shares
 *     DataLocality     bytes of spec.data that the node does not have, as a share of all of them
 *     NetworkProximity mean over spec.near of the distance to the nearest of its nodes: 0 on the host, 100,000 in the
 *                      rack, 250,000 in the zone, else 250,000 and a microsecond each as settings.distances say, at
 *                      most and without them 1,000,000. What is nowhere is equally far from all nodes: 0
 *     Combined         mean of its parts by weight, rounded down; shown part by part
 *     an embedder's    what its function says, at most 1,000,000
 *   10,000 x weight for each preference that does not hold
 *   10,000 x weight for each weighted affinity without a match in the domain, or weighted `apart` with one
 *   10,000 x weight for each replica by which a domain would be above max_skew over the emptiest */
#ifndef BLX__PLACEMENT_SCORE_H
#define BLX__PLACEMENT_SCORE_H

#include "placement/fleet_int.h"

/* NetworkProximity (proximity.c), and what it finds once for a question: around all costs of it. */
void fleet_proximity_begin(struct fleet_query *q);
void fleet_proximity_end(struct fleet_query *q);
uint64_t fleet_proximity(const struct fleet_query *q, uint32_t slot);

/* @parts  NULL, or room for BLX__FLEET_PARTS_MAX, of which *@n are filled; their costs add up to what is returned */
uint64_t fleet_cost(const struct fleet_query *q, uint32_t slot, struct blx__fleet_part *parts, size_t *n);

/* Both shares of a node with the instance there, in 1/10000 rounded down, added. What it has none of counts as empty.
 */
uint64_t fleet_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need);

#endif

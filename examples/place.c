/* Decide placements without a cluster: tell the nodes as JSON, ask for three replicas, then ask why a large one does
 * not fit. The decisions are those of a cluster, for they come from the same code. Build it against an installed copy:
 * cc place.c $(pkg-config --cflags --libs blixard) -o place && ./place */
#include <blixard/blixard.h>

#include <stdio.h>
#include <string.h>

/* As `blixard node list -o json` prints them. */
static const char nodes[] =
    "{\"nodes\": ["
    " {\"name\": \"node1\", \"uid\": 1, \"capacity\": {\"vcpus\": 8, \"memory_mib\": 16384}, \"hypervisors\": "
    "[\"qemu\"],"
    "  \"allocated\": {\"vcpus\": 6, \"memory_mib\": 8192}, \"labels\": [{\"key\": \"disk\", \"value\": \"ssd\"}]},"
    " {\"name\": \"node2\", \"uid\": 2, \"capacity\": {\"vcpus\": 8, \"memory_mib\": 16384}, \"hypervisors\": "
    "[\"qemu\"],"
    "  \"labels\": [{\"key\": \"disk\", \"value\": \"ssd\"}]},"
    " {\"name\": \"node3\", \"uid\": 3, \"capacity\": {\"vcpus\": 64, \"memory_mib\": 131072},"
    "  \"hypervisors\": [\"qemu\"]}]}";

static int tell_nodes(blx_placement *placement, blx_error *err) {
  void *message = NULL;
  int rc = blx_from_json("node_list", nodes, strlen(nodes), &message, err);
  const struct blx_node_list *list = message;
  for (size_t i = 0; rc == 0 && i < list->n_nodes; i++) rc = blx_placement_set_node(placement, list->nodes[i], err);
  blx_message_free(message);
  return rc;
}

/* Each replica is told where the others are: they spread while they can. */
static int place_three(blx_placement *placement, struct blx_placement_request *request, blx_error *err) {
  uint64_t uids[3];
  request->replica_uids = uids;
  request->reserve = 1;
  for (size_t i = 0; i < 3; i++) {
    int rc;
    request->n_replica_uids = i;
    rc = blx_placement_choose(placement, request, &uids[i], err);
    if (rc != 0) return rc;
    printf("replica %zu: node%llu\n", i + 1, (unsigned long long)uids[i]);
  }
  request->replica_uids = NULL;
  request->n_replica_uids = 0;
  return 0;
}

static int explain(blx_placement *placement, const struct blx_placement_request *request, blx_error *err) {
  struct blx_placement_report *report = NULL;
  uint64_t uid = 0;
  int rc = blx_placement_choose(placement, request, &uid, err);
  if (rc != BLX_E_NO_CAPACITY) return rc == 0 ? BLX_E_INTERNAL : rc;
  rc = blx_placement_report_get(placement, request, 0, &report, err);
  if (rc != 0) return rc;
  printf("%s\n", report->text);
  for (size_t i = 0; i < report->n_nodes; i++)
    for (size_t k = 0; k < report->nodes[i]->n_obstacles; k++) printf("  %s\n", report->nodes[i]->obstacles[k]->text);
  blx_message_free(report);
  return 0;
}

int main(void) {
  struct blx_label ssd = BLX_LABEL_INIT, *selector[] = {&ssd};
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_placement_request request = BLX_PLACEMENT_REQUEST_INIT;
  blx_placement *placement = NULL;
  blx_error err = {0};
  int rc = blx_placement_open(NULL, &placement, &err);
  spec.vcpus = 2;
  spec.memory_mib = 2048;
  ssd.key = "disk";
  ssd.value = "ssd";
  spec.node_selector = selector;
  spec.n_node_selector = 1;
  request.spec = &spec;
  if (rc == 0) rc = tell_nodes(placement, &err);
  if (rc == 0) rc = place_three(placement, &request, &err);
  spec.vcpus = 5;
  if (rc == 0) rc = explain(placement, &request, &err);
  if (rc != 0) fprintf(stderr, "place: %s [%s]\n", err.message, blx_error_name(err.code));
  blx_placement_close(placement);
  return rc == 0 ? 0 : 1;
}

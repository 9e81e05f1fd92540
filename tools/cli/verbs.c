/* The commands and their flags: a new one is a row here and a function. */
#include "cli.h"

#include <stdio.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define AT(member) offsetof(struct cli_args, member)
#define BOOL(flag_name, short_name, member, text) \
  { .name = (flag_name), .letter = (short_name), .kind = CLI_BOOL, .at = AT(member), .doc = (text) }
#define TEXT(flag_name, member, value_name, text) \
  { .name = (flag_name), .kind = CLI_TEXT, .at = AT(member), .value = (value_name), .doc = (text) }
#define NUMBER(flag_name, member, has, low, high, value_name, unit_name, text)                          \
  {                                                                                                     \
    .name = (flag_name), .kind = CLI_U32, .at = AT(member), .has_at = (has), .lo = (low), .hi = (high), \
    .value = (value_name), .unit = (unit_name), .doc = (text)                                           \
  }
#define TIME(flag_name, member, low, high, text) \
  { .name = (flag_name), .kind = CLI_MS, .at = AT(member), .lo = (low), .hi = (high), .value = "TIME", .doc = (text) }
#define CHOICE(flag_name, member, value_name, rows, text)                                                \
  {                                                                                                      \
    .name = (flag_name), .kind = CLI_CHOICE, .at = AT(member), .value = (value_name), .choices = (rows), \
    .n_choices = COUNT(rows), .doc = (text)                                                              \
  }
#define LABELS(flag_name, short_name, member, most, text)                                           \
  {                                                                                                 \
    .name = (flag_name), .letter = (short_name), .kind = CLI_LABEL, .at = AT(member), .hi = (most), \
    .value = "KEY=VALUE", .doc = (text)                                                             \
  }
#define NAMES(flag_name, member, most, text) \
  { .name = (flag_name), .kind = CLI_NAME, .at = AT(member), .hi = (most), .value = "NAME", .doc = (text) }
#define OWN(flag_name, function, value_name, text) \
  { .name = (flag_name), .kind = CLI_OWN, .parse = (function), .value = (value_name), .doc = (text) }
#define ABSENT(flag_name, why) \
  { .name = (flag_name), .kind = CLI_ABSENT, .doc = (why) }
/* Of whatever prints a list. */
#define SELECT_FLAGS                                                                                                  \
  TEXT("columns", columns, "A,B,C", "what a table shows: names of its columns, of fields (spec.vcpus), label.KEY"),   \
      {.name = "filter",                                                                                              \
       .kind = CLI_LABEL,                                                                                             \
       .at = AT(filters),                                                                                             \
       .hi = 16,                                                                                                      \
       .value = "FIELD=VALUE",                                                                                        \
       .doc = "only those; also FIELD!=VALUE and label.KEY=VALUE, VALUE may hold * and ?; all of several must hold"}, \
      TEXT("sort-by", sort_by, "FIELD", "rising; -FIELD: falling"),                                                   \
      BOOL("no-headers", 0, no_headers, "a table without its first line")
#define WATCH BOOL("watch", 'w', watch, "go on with a line for each change, until Ctrl-C")
#define FLAGS(rows) .flags = (rows), .n_flags = COUNT(rows)

static const struct cli_choice outputs[] = {{"table", CLI_OUT_TABLE},
                                            {"wide", CLI_OUT_WIDE},
                                            {"json", CLI_OUT_JSON},
                                            {"yaml", CLI_OUT_YAML},
                                            {"name", CLI_OUT_NAME}};

static const struct cli_choice hypervisors[] = {{"qemu", BLX_HYPERVISOR_QEMU},
                                                {"cloud-hypervisor", BLX_HYPERVISOR_CLOUD_HYPERVISOR},
                                                {"firecracker", BLX_HYPERVISOR_FIRECRACKER},
                                                {"crosvm", BLX_HYPERVISOR_CROSVM},
                                                {"kvmtool", BLX_HYPERVISOR_KVMTOOL},
                                                {"stratovirt", BLX_HYPERVISOR_STRATOVIRT}};

static const struct cli_choice restarts[] = {{"always", BLX_RESTART_POLICY_ALWAYS},
                                             {"on-failure", BLX_RESTART_POLICY_ON_FAILURE},
                                             {"never", BLX_RESTART_POLICY_NEVER}};

static const struct cli_choice ha_policies[] = {
    {"off", BLX_HA_POLICY_OFF}, {"manual", BLX_HA_POLICY_MANUAL}, {"auto", BLX_HA_POLICY_AUTO}};

static const struct cli_choice strategies[] = {{"BestFit", BLX_STRATEGY_BEST_FIT},
                                               {"LoadBalanced", BLX_STRATEGY_LOAD_BALANCED},
                                               {"DataLocality", BLX_STRATEGY_DATA_LOCALITY},
                                               {"NetworkProximity", BLX_STRATEGY_NETWORK_PROXIMITY}};

static const struct cli_flag global_flags[] = {
    TEXT("socket", socket, "PATH",
         "where a daemon answers; else $BLIXARD_SOCKET, else /run/blixard/blixard.sock or "
         "/var/lib/blixard/blixard.sock"),
    TEXT("tenant", tenant, "NAME", "whose VMs are meant; else $BLIXARD_TENANT, else default"),
    TIME("timeout", timeout_ms, 1, 86400000,
         "how long the command may take; 30s without it, where it waits 120s (vm wait: 60s)"),
    {.name = "output",
     .letter = 'o',
     .kind = CLI_CHOICE,
     .at = AT(output),
     .value = "FORMAT",
     .also = "format",
     .choices = outputs,
     .n_choices = COUNT(outputs),
     .doc = "table, wide, json, yaml or name; also --format"},
    BOOL("help", 'h', help, "this text"),
};

#define WAIT BOOL("wait", 0, wait, "return when it is so, or when --timeout ran out")
#define REQUEST_ID \
  TEXT("request-id", request_id, "ID", "key of at most 64 characters: the same request sent again is done once")
#define IF_REVISION                                                                                         \
  {                                                                                                         \
    .name = "if-revision", .kind = CLI_U64, .at = AT(if_revision), .lo = 1, .hi = UINT64_MAX, .value = "N", \
    .unit = "revision", .doc = "refuse unless it still has this revision"                                   \
  }
#define REASON TEXT("reason", reason, "TEXT", "why, for people; kept in the audit log")
#define ALL_TENANTS BOOL("all-tenants", 'A', all_tenants, "those of every tenant, with their tenant")
#define STALE BOOL("stale", 0, stale, "ask this member's own state, which may be behind, and needs no leader")

static const struct cli_flag init_flags[] = {TEXT("name", name, "NAME", "the cluster's name, for people"), REASON};
static const struct cli_flag join_flags[] = {
    TEXT("address", address, "ADDRESS", "the other daemon's API: unix:PATH; required"),
    TEXT("node-id", node_id, "NAME", "name of the new node; else the one its daemon was started with"),
    BOOL("worker", 0, worker, "it becomes a worker: runs instances, keeps no state and does not vote"), REASON};
static const struct cli_flag status_flags[] = {BOOL("verbose", 'v', verbose, "with the nodes"), STALE};
static const struct cli_flag backup_flags[] = {BOOL("force", 0, force, "save: replace the file if there is one")};
static const struct cli_flag leave_flags[] = {
    BOOL("force", 0, force, "end what runs there first; a worker leaves although no server answers"), REQUEST_ID,
    REASON};
static const struct cli_flag remove_flags[] = {
    TEXT("yes-name", yes_name, "NAME", "the node's name again, where nobody can be asked for it"), IF_REVISION,
    REQUEST_ID, REASON};
static const struct cli_flag settings_flags[] = {
    BOOL("fast-leases", 0, fast_leases, "leases of 2s, all else about them to match: for tests"),
    TIME("leases-of", leases_of_ms, 2000, 400000,
         "leases of this length, all else about them in the usual proportions"),
    {.name = "overcommit",
     .kind = CLI_NAME,
     .at = AT(overcommit),
     .hi = 16,
     .value = "[KEY=VALUE:]cpu=N,memory=N",
     .doc =
         "in percent of what nodes with that label have, what they give out; the first that holds for a node; all of "
         "them at once, or none"},
    NUMBER("survive-nodes", survive_nodes, AT(has_survive_nodes), 0, 16, "N", "nodes",
           "room is kept so that instances with --ha auto of any N nodes fit elsewhere"),
    TEXT("survive-level", survive_level, "LEVEL", "and of any one LEVEL: rack; none: of no such"),
    {.name = "distance",
     .kind = CLI_NAME,
     .at = AT(distances),
     .hi = CLI_NAMES_MAX,
     .value = "ZONE:ZONE=TIME",
     .doc = "how far zones are from each other, there and back: a:b=500us, a:b=2ms; a:b- takes one away"},
    IF_REVISION,
    REQUEST_ID,
    STALE,
    REASON};
static const struct cli_flag read_flags[] = {STALE};
static const struct cli_flag list_flags[] = {SELECT_FLAGS, WATCH, STALE};
static const struct cli_flag get_flags[] = {ALL_TENANTS, SELECT_FLAGS, WATCH, STALE};
static const struct cli_choice event_kinds[] = {{"vm", BLX_EVENT_KIND_VM + 1},
                                                {"instance", BLX_EVENT_KIND_INSTANCE + 1},
                                                {"node", BLX_EVENT_KIND_NODE + 1},
                                                {"settings", BLX_EVENT_KIND_SETTINGS + 1},
                                                {"quota", BLX_EVENT_KIND_QUOTA + 1}};
static const struct cli_flag event_flags[] = {
    TEXT("since", since_time, "WHEN",
         "of this time ago (10m, 2d), since a date, or after an index, 0: first one of each object as it is; 1h "
         "without"),
    TEXT("for", until, "OBJECT", "only those of vm/NAME (and its instances), instance/NAME, node/NAME or quota/TENANT"),
    TEXT("vm", of_vm, "NAME", "only those of this VM and its instances"),
    TEXT("node", of_node, "NAME", "only those of this node and of instances that are assigned to it"),
    CHOICE("kind", event_kind, "KIND", event_kinds, "only those of this kind: vm, instance, node, quota or settings"),
    BOOL("follow", 'f', follow, "go on with what comes, until Ctrl-C"),
    ALL_TENANTS,
    SELECT_FLAGS};
static const struct cli_flag change_flags[] = {WAIT, IF_REVISION, REQUEST_ID, REASON};
static const struct cli_flag restart_flags[] = {
    BOOL("force", 0, force, "kill them; their guests are not asked to shut down"), WAIT, IF_REVISION, REQUEST_ID,
    REASON};
static const struct cli_flag delete_flags[] = {
    BOOL("force", 0, force,
         "do not wait for nodes that are not heard from; each removes what it holds when it comes back"),
    WAIT, IF_REVISION, REQUEST_ID, REASON};
static const struct cli_flag cordon_flags[] = {
    TEXT("reason", reason, "TEXT", "why, for people; kept with the node and in the audit log"), IF_REVISION,
    REQUEST_ID};
static const struct cli_flag vm_list_flags[] = {
    BOOL("pending", 0, pending, "only those of which an instance waits, with the reason"), ALL_TENANTS, SELECT_FLAGS,
    WATCH, STALE};
#define PLAN \
  BOOL("plan", 0, plan, "change nothing; say what would happen: status 0 nothing, 1 something, above 1 an error")
#define ALL BOOL("all", 0, all, "every node, on a large cluster too")
static const struct cli_flag scale_flags[] = {
    NUMBER("replicas", spec.replicas, AT(spec.has_replicas), 0, 1000, "N", "instances", "how many run; required"),
    PLAN,
    ALL,
    WAIT,
    IF_REVISION,
    REQUEST_ID,
    REASON};
static const struct cli_flag explain_flags[] = {ALL};
static const struct cli_flag quota_set_flags[] = {
    OWN("node", cli_parse_constraint, "CONDITION",
        "its instances run only on nodes whose labels fulfil it, as --constraint of vm create; may be repeated"),
    BOOL("any-node", 0, unset, "they run on any node"), IF_REVISION, REQUEST_ID, REASON};
static const struct cli_flag node_flags[] = {IF_REVISION, REQUEST_ID, REASON};
static const struct cli_flag fence_flags[] = {
    TEXT("proved", proved, "TEXT", "its machine is off, and this is how you know: nothing else is waited for"),
    TEXT("reason", reason, "TEXT", "why, for people; kept with the node and in the audit log"),
    TEXT("yes-name", yes_name, "NAME", "its name again, where nobody can be asked to type it"), REQUEST_ID};
static const struct cli_flag fence_command_flags[] = {
    TEXT("set", command, "COMMAND",
         "program, with its whole path, and arguments: status 0 proves that the node is off"),
    BOOL("unset", 0, unset, "it has none"), IF_REVISION, REQUEST_ID, REASON};
static const struct cli_flag disarm_flags[] = {TIME("for", for_ms, 1000, 86400000, "how long; required"),
                                               TEXT("reason", reason, "TEXT", "why, for people"), REQUEST_ID};
static const struct cli_flag arm_flags[] = {REQUEST_ID, REASON};
static const struct cli_flag wait_flags[] = {
    TEXT("for", until, "WHAT", "phase=PHASE (Running, Stopped, ...) of all instances, or deleted; required")};
static const struct cli_flag exec_flags[] = {
    BOOL("stdin", 'i', stdin_too, "the command reads what is typed, or piped in; else its input is empty"),
    BOOL("tty", 't', tty, "give it a terminal of this one's size; with -i this one is handed through")};
static const struct cli_flag logs_flags[] = {
    BOOL("follow", 'f', follow, "go on with what comes, until Ctrl-C"),
    NUMBER("tail", tail, AT(has_tail), 0, 100000, "N", "lines",
           "begin so many lines before the end; else with all that is kept"),
    TEXT("since", since_time, "WHEN",
         "only lines of this time ago (10m, 1h30m) or since a date "
         "(2026-01-31T10:00:00Z), and those whose time is not known"),
    BOOL("timestamps", 0, timestamps, "before each line when it came from the guest, in UTC")};
#define AUDIT_FILTERS                                                                            \
  TEXT("since", since_time, "WHEN", "only those of this time ago (10m, 1h30m) or since a date"), \
      TEXT("until", until, "WHEN", "only those before this time"),                               \
      TEXT("principal", principal, "WHO", "only this one's: uid:0, or cluster"),                 \
      TEXT("verb", audit_verb, "VERB", "only this one: vm.create; vm: all about VMs"),           \
      TEXT("object", object, "OBJECT", "only about this one: vm/web, or web"),                   \
      TEXT("result", result, "RESULT", "ok, refused, or a code: CONFLICT"),                      \
      BOOL("denied", 0, denied, "the requests that the daemon which is asked refused before they came to the log")
static const struct cli_flag audit_list_flags[] = {
    AUDIT_FILTERS, NUMBER("limit", limit, AT(has_limit), 1, 100000, "N", "records", "the newest N; 100 without it"),
    STALE};
static const struct cli_flag audit_export_flags[] = {AUDIT_FILTERS, STALE};
static const struct cli_flag audit_show_flags[] = {
    BOOL("denied", 0, denied, "of the requests that the daemon which is asked refused"), STALE};
static const struct cli_flag audit_verify_flags[] = {
    BOOL("denied", 0, denied, "the chain of the requests that the daemon which is asked refused")};
static const struct cli_choice sorts[] = {{"cpu", CLI_SORT_CPU}, {"memory", CLI_SORT_MEMORY}};
static const struct cli_flag top_flags[] = {
    CHOICE("sort-by", sort, "WHAT", sorts, "cpu (the default) or memory; what uses most comes first"),
    BOOL("once", 0, once, "print one table and end, as without a terminal"), ALL_TENANTS};
/* What decides which nodes can take an instance: of a VM, and of a shape that is asked about. */
#define DEMANDS                                                                                                        \
  OWN("cpu", cli_parse_cpu, "CPUS",                                                                                    \
      "processors that it reserves: 500m, 1.5 or 2; else one for each of its virtual CPUs"),                           \
      OWN("resource", cli_parse_resource, "NAME=AMOUNT",                                                               \
          "a named resource that it takes of its node: gpu=1, disk/ssd=20GiB; may be repeated"),                       \
      OWN("constraint", cli_parse_constraint, "CONDITION",                                                             \
          "what must hold for its nodes' labels: 'zone in a,b', 'zone not in c', disk=ssd, disk!=hdd, gpu, '!gpu', "   \
          "'cores>16', 'cores<64'; the label node.name is the name; may be repeated"),                                 \
      OWN("tolerate", cli_parse_toleration, "KEY[=VALUE]", "a taint that it may live with; *: any; may be repeated"),  \
      OWN("together", cli_parse_together, "LABELS[@LEVEL][:WEIGHT]",                                                   \
          "on one node, or in one LEVEL (rack, zone), with VMs of these labels: app=db@rack; with a weight, 1 to "     \
          "100, "                                                                                                      \
          "preferred, else it must be so; may be repeated"),                                                           \
      OWN("apart", cli_parse_apart, "LABELS[@LEVEL][:WEIGHT]",                                                         \
          "away from VMs of these labels: app=web@rack, app=web:30; self: its own replicas; may be repeated"),         \
      OWN("spread", cli_parse_spread, "LEVEL[:max=N][:skew=N][:weight=N]",                                             \
          "at most max replicas in one LEVEL; preferred: none has skew more than the emptiest; may be repeated"),      \
      NAMES("cpu-feature", cpu_features, 32,                                                                           \
            "a feature that its node's processors must have, as in /proc/cpuinfo: avx2; may be repeated"),             \
      LABELS("node-selector", 0, selectors, 16, "a label its nodes must carry; may be repeated"),                      \
      CHOICE("hypervisor", spec.hypervisor, "NAME", hypervisors,                                                       \
             "qemu (the default), cloud-hypervisor, firecracker, crosvm, kvmtool or stratovirt"),                      \
      CHOICE("ha", spec.ha, "POLICY", ha_policies,                                                                     \
             "off (the default), manual or auto: whether it starts elsewhere when its node is gone, once an operator " \
             "has that fenced, or by itself")
static const struct cli_flag create_flags[] = {
    TEXT("microvm-config", microvm_config, "FILE",
         "a microvm.nix module of at most 48 KiB; this or --flake is required"),
    TEXT("flake", spec.flake, "REF#NAME", "a flake with a microvm.nix runner"),
    NUMBER("replicas", spec.replicas, AT(spec.has_replicas), 0, 1000, "N", "instances", "how many run; 1 without it"),
    NUMBER("memory", spec.memory_mib, 0, 32, 1048576, "MiB", "MiB", "memory; else the file's `mem`, else 128"),
    NUMBER("vcpus", spec.vcpus, 0, 1, 512, "N", "vCPUs", "virtual CPUs; else the file's `vcpu`, else 1"),
    CHOICE("restart", spec.restart_policy, "POLICY", restarts,
           "always (the default), on-failure or never: when the guest ends by itself"),
    NUMBER("ha-max-restart", spec.ha_max_restart, 0, 1, 100, "N", "failures",
           "with --ha: failures in a row before another node is tried; 3 without it"),
    LABELS("label", 'l', labels, 64, "a label; may be repeated"),
    DEMANDS,
    OWN("prefer", cli_parse_preference, "CONDITION:WEIGHT",
        "what should hold for its nodes' labels, and what that is worth, 1 to 100: disk=ssd:50; may be repeated"),
    {.name = "strategy",
     .kind = CLI_OWN,
     .parse = cli_parse_strategy,
     .value = "NAME",
     .choices = strategies,
     .n_choices = COUNT(strategies),
     .doc = "BestFit (the default), LoadBalanced, DataLocality or NetworkProximity: how nodes are chosen; or several "
            "with weights: BestFit=70,DataLocality=30"},
    OWN("near", cli_parse_near, "vm/NAME, node/NAME or KEY=VALUE",
        "for NetworkProximity: what it is to be close to; zone=b: those nodes; may be repeated"),
    OWN("data", cli_parse_data, "KEY=SIZE", "for DataLocality: what it reads, volume/db=10GiB; may be repeated"),
    NUMBER("priority", spec.priority, 0, 0, 1000, "N", "priority",
           "who waits is placed in this order, the highest first; 0 without it"),
    BOOL("no-preempt", 0, place.no_preempt, "it is never ended for one of higher priority"),
    NAMES("depends-on", depends_on, 16,
          "a VM that must run before this one starts, and stops after it; may be repeated"),
    TIME("stop-timeout", spec.stop_timeout_ms, 1000, 600000,
         "how long a guest may take to shut down before it is killed; 30s without it"),
    BOOL("ready-none", 0, spec.ready_none, "the guest has no agent: running means that its monitor runs"),
    BOOL("stopped", 0, stopped, "define it, do not start it"),
    PLAN,
    ALL,
    WAIT,
    REQUEST_ID,
    REASON,
    ABSENT("storage-class", "there is no storage yet; a guest's disks come from its microvm.nix module"),
    ABSENT("disk", "there is no storage yet; a guest's disks come from its microvm.nix module"),
    ABSENT("network", "there is no networking yet; a guest's interfaces come from its microvm.nix module"),
    ABSENT("health-check", "there are no health checks yet; a guest's agent says when it is ready"),
};

static const struct cli_flag capacity_flags[] = {
    OWN("shape", cli_parse_shape, "SHAPE", "processors and memory: 2c4g, 0.5c512m"),
    NUMBER("vcpus", spec.vcpus, 0, 1, 512, "N", "vCPUs", "or so many virtual CPUs"),
    NUMBER("memory", spec.memory_mib, 0, 32, 1048576, "MiB", "MiB", "and so much memory"),
    DEMANDS,
    NUMBER(
        "survive", place.survive, AT(place.has_survive), 0, 16, "N", "nodes",
        "so that those with --ha auto, and these, fit elsewhere when any N nodes are gone; else as the settings say"),
    STALE};

static const char create_more[] =
    "Placement must know a VM's size before its runner is built. Without --memory and --vcpus the FILE is searched "
    "for\n"
    "`mem = NUMBER;` and `vcpu = NUMBER;` (also with lib.mkDefault or lib.mkForce); the size that was found, or given, "
    "is\n"
    "what the runner is built with. An expression instead of a number is refused: give the flags then.\n"
    "\n"
    "  blixard vm create nginx --microvm-config nginx.nix --replicas 3\n";

static const char backup_more[] =
    "A backup holds VMs, their modules and instances as of one index, and no disks. `blixardd restore` makes a new "
    "cluster\n"
    "of it. --timeout is how long to wait for the next part.\n"
    "\n"
    "  blixard cluster backup save /var/backups/blixard\n"
    "  blixard cluster backup inspect /var/backups/blixard -o json\n";

static const char label_more[] =
    "KEY=VALUE sets a label, KEY- takes one away that was set here. A set label wins over the daemon's (blixardd "
    "--label)\n"
    "of the same key and stays when the daemon restarts; without it the daemon's shows again.\n"
    "\n"
    "  blixard node label n1 disk=ssd rack-\n";

static const char taint_more[] =
    "NoPlace (without another word) keeps away what does not tolerate it (vm create --tolerate), Avoid leaves such a\n"
    "node for the last. What runs there runs on. KEY- takes every taint of the key away.\n"
    "\n"
    "  blixard node taint n1 gpu=a100:NoPlace old:Avoid\n"
    "  blixard node taint n1 old-\n";

static const char scale_more[] = "The highest ordinals go first.\n"
                                 "\n"
                                 "  blixard vm scale web --replicas 5 --plan\n"
                                 "  blixard vm scale web --replicas 5 --wait\n";

static const char vm_explain_more[] =
    "Of a VM it is the first instance that waits, else the first. Every node is there with each reason why it cannot\n"
    "take it, and what is missing, or with its cost: the lowest wins.\n"
    "\n"
    "  blixard vm explain web-3\n"
    "  blixard vm explain web --all -o json\n";

static const char capacity_more[] = "  blixard cluster capacity --shape 2c4g\n"
                                    "  blixard cluster capacity --shape 2c4g --constraint 'zone in a,b' --survive 1\n";

static const char quota_more[] =
    "LIMIT is vms, instances, vcpus, memory_mib, node_instances, node_vcpus, node_memory_mib (on one node) or\n"
    "named.RESOURCE; LIMIT- takes one away; what is not named stays. What the tenant has already stays, too.\n"
    "\n"
    "  blixard quota set default vms=20 memory_mib=65536 named.gpu=4 node_instances=8\n"
    "  blixard quota set default vms- --node 'zone in a,b'\n";

static const char fence_more[] =
    "Instances with --ha auto or manual end there and start elsewhere when it is proved that they do not run: by the\n"
    "node's fence command, by the end of its lease, or by your word (--proved). Others stay. A node that is alive "
    "comes\n"
    "back by itself.\n"
    "\n"
    "  blixard node fence n3 --reason 'its fan is loud'\n"
    "  blixard node fence n3 --proved 'I pulled its plug' --yes-name n3\n";

static const char fence_command_more[] =
    "The leader runs it when the node is fenced, with BLIXARD_NODE, BLIXARD_NODE_UID and BLIXARD_INCARNATION set, for "
    "at\n"
    "most 60 s; any server may lead. Without a flag the present one is shown.\n"
    "\n"
    "  blixard node fence-command n3 --set '/usr/bin/ipmitool -H n3-bmc -U admin -f /etc/bmc chassis power off'\n";

static const char disarm_more[] =
    "For work on the network: leases last until then, so that instances run on without word from the cluster, and no\n"
    "node is fenced by itself. It is armed again by itself, or by `blixard ha arm`.\n"
    "\n"
    "  blixard ha disarm --for 30m --reason 'a new switch'\n";
static const char settings_more[] = "Modules that are built from then on are built with nixpkgs_ref and microvm_ref; "
                                    "what runs is not touched. Without a\n"
                                    "value (microvm_ref=) each daemon's own is used again.\n"
                                    "\n"
                                    "  blixard cluster settings\n"
                                    "  blixard cluster settings set lease.lease_ms=30000 lease.kill_ms=6000\n"
                                    "  blixard cluster settings set --leases-of 30s\n"
                                    "  blixard cluster settings set --overcommit class=burst:cpu=400,memory=150\n"
                                    "  blixard cluster settings set --survive-nodes 1 --survive-level rack\n";

static const char wait_more[] = "  blixard vm wait web --for phase=Running --timeout 2m\n"
                                "  blixard vm wait vm/web --for deleted\n";

static const char exec_more[] =
    "The exit status is the command's, or 128 and the signal that ended it. When the command could not be run, or was\n"
    "lost on the way, one line on the standard error begins with \"blixard: \", and the status is one of blixard(1).\n"
    "--timeout is how long it may take to reach the guest.\n"
    "\n"
    "  blixard vm exec web-1 -- uname -a\n"
    "  blixard vm exec web-1 -it -- sh\n";

static const char console_more[] = "Ctrl-] leaves it; the guest goes on. Where the input is no terminal, the end of it "
                                   "leaves, too, once the console has\n"
                                   "said nothing for a second.\n"
                                   "\n"
                                   "  blixard vm console web-1\n";
static const char logs_more[] = "  blixard vm logs nginx --follow --tail 100\n"
                                "  blixard vm logs web-1 --since 10m --timestamps\n";

static const char get_more[] = "  blixard get vm --filter phase=Running --sort-by -age\n"
                               "  blixard get vm/web -o yaml\n"
                               "  blixard get instances --filter node=n1 --columns name,phase,reason.text\n";

static const char events_more[] =
    "  blixard events --for vm/web -o json\n"
    "  blixard events --since 2h --node n1 --kind instance\n"
    "  blixard events --since 1200 --follow\n\n"
    "An event that the daemon has no more in memory comes from its history, which has a limit of age and size; where\n"
    "that begins later than what was asked for, it is said on stderr. A number alone is an index.\n";

static const char audit_more[] =
    "Records are of the whole cluster; --tenant shows those about one tenant's objects, $BLIXARD_TENANT does not.\n"
    "\n"
    "  blixard audit list --since 1h --verb vm --result refused\n"
    "  blixard audit list --object vm/web --tenant acme -o json\n";

static const char verify_more[] =
    "It recomputes the records of the daemon that is asked, names the first bad one, compares the end with the head "
    "in\n"
    "the cluster's state, and shows what that daemon does not have. The exit status is 7 when the chain is broken.\n";

static const char top_more[] = "Processor time is what was used between two answers of a node, in percent of one "
                               "processor. On a terminal the table\n"
                               "is made anew every two seconds until q or Ctrl-C.\n"
                               "\n"
                               "  blixard top\n"
                               "  blixard top nodes --sort-by memory --once\n";

static const char explain_more[] = "  blixard explain vm\n"
                                   "  blixard explain vm.spec.memory_mib\n";

static const char completion_more[] = "  source <(blixard completion bash)\n"
                                      "  source <(blixard completion zsh)\n";

static const struct cli_verb verbs[] = {
    {"cluster", "init", NULL, "", 0, 0, FLAGS(init_flags), cmd_cluster_init,
     "make a cluster of the daemon that is asked", NULL},
    {"cluster", "join", NULL, "", 0, 0, FLAGS(join_flags), cmd_cluster_join,
     "bring two daemons together: the one outside joins the other's cluster", NULL},
    {"cluster", "status", NULL, "", 0, 0, FLAGS(status_flags), cmd_cluster_status, "how the cluster is", NULL},
    {"cluster", "backup", NULL, "save|inspect FILE", 2, 2, FLAGS(backup_flags), cmd_cluster_backup,
     "save what the cluster agreed on, or say what a backup holds", backup_more},
    {"cluster", "transfer-leadership", NULL, "[NODE]", 0, 1, NULL, 0, cmd_cluster_transfer,
     "let another server lead, this one or any that votes", NULL},
    {"cluster", "leave", NULL, "", 0, 0, FLAGS(leave_flags), cmd_cluster_leave,
     "the daemon that is asked leaves its cluster, for good", NULL},
    {"cluster", "settings", NULL, "[set KEY=VALUE...]", 0, CLI_WORDS_MAX, FLAGS(settings_flags), cmd_cluster_settings,
     "what holds for the whole cluster; set: change it", settings_more},
    {"cluster", "capacity", NULL, "", 0, 0, FLAGS(capacity_flags), cmd_cluster_capacity,
     "how many more instances of a shape fit, and what stops the next one", capacity_more},
    {"node", "list", "ls", "", 0, 0, FLAGS(list_flags), cmd_node_list, "the nodes", NULL},
    {"node", "describe", NULL, "NAME", 1, 1, FLAGS(read_flags), cmd_node_describe,
     "one node for people: how it is and why, what is free, what is on it", NULL},
    {"node", "cordon", NULL, "NAME", 1, 1, FLAGS(cordon_flags), cmd_node_cordon,
     "place nothing new on a node; what runs there runs on", NULL},
    {"node", "uncordon", NULL, "NAME", 1, 1, FLAGS(node_flags), cmd_node_uncordon, "place instances on a node again",
     NULL},
    {"node", "label", NULL, "NAME LABEL...", 2, CLI_WORDS_MAX, FLAGS(node_flags), cmd_node_label,
     "set labels on a node, or take such away", label_more},
    {"node", "taint", NULL, "NAME TAINT...", 2, CLI_WORDS_MAX, FLAGS(node_flags), cmd_node_taint,
     "keep instances away from a node, or let them come again", taint_more},
    {"node", "fence", NULL, "NAME", 1, 1, FLAGS(fence_flags), cmd_node_fence,
     "cut a node off; what is highly available there starts elsewhere when that is proved", fence_more},
    {"node", "fence-command", NULL, "NAME", 1, 1, FLAGS(fence_command_flags), cmd_node_fence_command,
     "how a node is powered off when it is fenced", fence_command_more},
    {"ha", "status", NULL, "", 0, 0, FLAGS(read_flags), cmd_ha_status, "how fencing is, and what each node can take",
     NULL},
    {"ha", "disarm", NULL, "", 0, 0, FLAGS(disarm_flags), cmd_ha_disarm, "fence no node by itself for a while",
     disarm_more},
    {"ha", "arm", NULL, "", 0, 0, FLAGS(arm_flags), cmd_ha_arm, "fence silent nodes by itself again", NULL},
    {"node", "remove", NULL, "NAME", 1, 1, FLAGS(remove_flags), cmd_node_remove,
     "take a node that is gone out of the cluster, for good", NULL},
    {"vm", "create", NULL, "NAME", 1, 1, FLAGS(create_flags), cmd_vm_create, "create a VM; placement chooses its nodes",
     create_more},
    {"vm", "list", "ls", "", 0, 0, FLAGS(vm_list_flags), cmd_vm_list, "the VMs", NULL},
    {"vm", "status", "get", "NAME", 1, 1, FLAGS(read_flags), cmd_vm_get, "one VM and its instances", NULL},
    {"vm", "describe", NULL, "NAME", 1, 1, FLAGS(read_flags), cmd_vm_describe,
     "one VM for people: what is wanted, how far it is, what it waits for", NULL},
    {"vm", "explain", NULL, "NAME", 1, 1, FLAGS(explain_flags), cmd_vm_explain,
     "how every node stands to an instance: why it is where it is, or nowhere", vm_explain_more},
    {"vm", "scale", NULL, "NAME", 1, 1, FLAGS(scale_flags), cmd_vm_scale, "want another number of replicas",
     scale_more},
    {"vm", "start", NULL, "NAME", 1, 1, FLAGS(change_flags), cmd_vm_start, "want a VM running", NULL},
    {"vm", "stop", NULL, "NAME", 1, 1, FLAGS(change_flags), cmd_vm_stop, "want a VM stopped", NULL},
    {"vm", "restart", NULL, "NAME", 1, 1, FLAGS(restart_flags), cmd_vm_restart,
     "end a VM's instances, or one instance, and start them again", NULL},
    {"vm", "kill", NULL, "NAME", 1, 1, FLAGS(change_flags), cmd_vm_kill,
     "want a VM stopped at once, without asking its guests", NULL},
    {"vm", "pause", NULL, "NAME", 1, 1, FLAGS(change_flags), cmd_vm_pause,
     "let a VM's instances stand still, in memory, as soon as they run", NULL},
    {"vm", "resume", NULL, "NAME", 1, 1, FLAGS(change_flags), cmd_vm_resume, "let a paused VM go on", NULL},
    {"vm", "delete", "rm", "NAME", 1, 1, FLAGS(delete_flags), cmd_vm_delete,
     "delete a VM; its name is free when its nodes confirmed", NULL},
    {"vm", "wait", NULL, "NAME", 1, 1, FLAGS(wait_flags), cmd_vm_wait, "wait until a VM is in a phase, or gone",
     wait_more},
    {"vm", "logs", NULL, "NAME", 1, 1, FLAGS(logs_flags), cmd_vm_logs,
     "the consoles of a VM's instances, or of one instance", logs_more},
    {"vm", "exec", NULL, "NAME [flags] -- COMMAND [ARG...]", 2, CLI_WORDS_MAX, FLAGS(exec_flags), cmd_vm_exec,
     "run a command in the guest of an instance, or of a VM that has one", exec_more},
    {"vm", "console", NULL, "NAME", 1, 1, NULL, 0, cmd_vm_console,
     "the serial console of an instance, or of a VM that has one", console_more},
    {"vm", "migrate", NULL, "NAME", 0, 4, NULL, 0, NULL, "there is no live migration yet", NULL},
    {"quota", "set", NULL, "TENANT [LIMIT=NUMBER...]", 1, CLI_WORDS_MAX, FLAGS(quota_set_flags), cmd_quota_set,
     "say what a tenant may have", quota_more},
    {"quota", "get", NULL, "[TENANT]", 0, 1, FLAGS(read_flags), cmd_quota_get,
     "what a tenant may have, and what it has; of --tenant without a name", NULL},
    {"quota", "list", "ls", "", 0, 0, FLAGS(list_flags), cmd_quota_list, "the same of all tenants", NULL},
    {"quota", "delete", "rm", "TENANT", 1, 1, FLAGS(node_flags), cmd_quota_delete, "no limits any more for a tenant",
     NULL},
    {"audit", "list", "ls", "", 0, 0, FLAGS(audit_list_flags), cmd_audit_list,
     "who changed what, or was refused: the newest records, oldest first", audit_more},
    {"audit", "show", NULL, "SEQ", 1, 1, FLAGS(audit_show_flags), cmd_audit_show, "one record with its hashes", NULL},
    {"audit", "verify", NULL, "", 0, 0, FLAGS(audit_verify_flags), cmd_audit_verify,
     "recompute the chain of the daemon that is asked", verify_more},
    {"audit", "export", NULL, "FILE", 1, 1, FLAGS(audit_export_flags), cmd_audit_export,
     "all records, oldest first, as lines of JSON; -: to the standard output", NULL},
    {"", "get", NULL, "KIND[/NAME] [NAME...]", 1, CLI_WORDS_MAX, FLAGS(get_flags), cmd_get,
     "objects of a kind, all or by name: vm, node, instance, event or quota", get_more},
    {"", "events", NULL, "", 0, 0, FLAGS(event_flags), cmd_events, "what happened, oldest first", events_more},
    {"", "top", NULL, "[vms|nodes]", 0, 1, FLAGS(top_flags), cmd_top, "what running instances use, or nodes in sum",
     top_more},
    {"", "explain", NULL, "[KIND[.FIELD]]", 0, 1, NULL, 0, cmd_explain,
     "what the fields of a kind mean, their types, ranges and defaults", explain_more},
    {"storage", "pool", NULL, "", 0, 4, NULL, 0, NULL, "there is no storage yet", NULL},
    {"storage", "volume", NULL, "", 0, 4, NULL, 0, NULL, "there is no storage yet", NULL},
    {"storage", "fs", NULL, "", 0, 4, NULL, 0, NULL, "there is no storage yet", NULL},
    {"cluster", "storage", NULL, "", 0, 4, NULL, 0, NULL, "there is no storage yet", NULL},
    {"network", "create", NULL, "", 0, 4, NULL, 0, NULL, "there is no networking yet", NULL},
    {"function", "create", NULL, "", 0, 4, NULL, 0, NULL, "there are no functions yet", NULL},
    {"", "version", NULL, "", 0, 0, NULL, 0, cmd_version, "version of the command and its library", NULL},
    {"", "help", NULL, "[COMMAND...]", 0, 2, NULL, 0, cmd_help, "what there is, or one command", NULL},
    {"", "completion", NULL, "SHELL", 1, 1, NULL, 0, cmd_completion, "completion for a shell: bash or zsh",
     completion_more},
};

const struct cli_verb *cli_verbs(size_t *count) {
  *count = COUNT(verbs);
  return verbs;
}

const struct cli_flag *cli_global_flags(size_t *count) {
  *count = COUNT(global_flags);
  return global_flags;
}

int cmd_version(struct cli_args *args) {
  (void)args;
  printf("blixard %s\n", blx_version());
  return CLI_EXIT_OK;
}

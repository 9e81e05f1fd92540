#!/bin/bash
# Remove what up.sh made: its VMs, daemons, shims, monitors, cgroups and data. Also when half of it is dead; a second
# run does nothing. usage: down.sh, as root; see lib.sh for its two variables.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

say() { printf '[%3ds] %s\n' "$((SECONDS - started))" "$*"; }

# Any node may lead or be dead: the first that gets an answer from a leader speaks for all.
speaker() {
  local node
  [ -x "$build/bin/blixard" ] || return 1
  for node in $nodes; do
    on "$node" --timeout 5s vm list -o name >/dev/null 2>&1 && echo "$node" && return
  done
  return 1
}

delete_vms() {
  local node vm names
  if ! node=$(speaker); then
    [ -z "$(own_processes)" ] || say "no node answers with a leader: ending the processes without it"
    return
  fi
  names=$(on "$node" vm list -o name | sed 's|^.*/||')
  for vm in $names; do
    on "$node" vm delete "$vm" >/dev/null || say "$vm could not be deleted; its processes are ended below"
  done
  for vm in $names; do
    on "$node" vm wait "$vm" --for deleted --timeout 60s >/dev/null 2>&1 && say "deleted $vm" || true
  done
}

of_program() {
  local pid
  for pid in $(own_processes); do
    case $(program "$pid") in $1) echo "$pid" ;; esac
  done
}

end_all() {
  local pids program patience
  # Daemons first, or they would start again what is ended under them.
  for program in blixardd blixard-shim 'qemu-system-*' blixard-watchdog 'nix*'; do
    mapfile -t pids < <(of_program "$program")
    [ ${#pids[@]} -gt 0 ] || continue
    patience=100
    end_processes "$patience" "${pids[@]}"
    say "ended ${#pids[@]} $program"
  done
  pids=()
  for patience in $(seq 50); do
    mapfile -t pids < <(own_processes)
    [ ${#pids[@]} -gt 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.1
  done
  fail "these processes do not end: ${pids[*]}"
}

# Shims remove their control groups; those of a shim that was killed are left. Their names begin with the first eight
# digits of the cluster's id, which each node keeps in its identity.
cluster_tags() { cat "$dir"/n?/identity 2>/dev/null | grep -aoE '[0-9a-f]{32}' | cut -c 1-8 | sort -u; }

remove_cgroups() {
  local tag _
  for tag in $(cluster_tags); do
    # The kernel counts a process in for a moment after it ended.
    for _ in {1..50}; do
      find /sys/fs/cgroup -depth -type d -path "*/blixard-$tag-*" -exec rmdir {} + 2>/dev/null || true
      [ -n "$(find /sys/fs/cgroup -type d -name "blixard-$tag-*" -print -quit)" ] || continue 2
      sleep 0.1
    done
    fail "control groups are left that something still uses: /sys/fs/cgroup/*/blixard-$tag-*"
  done
}

unmount_all() {
  local point
  awk -v d="$dir/" 'index($2 "/", d) == 1 { print $2 }' /proc/mounts | sort -r | while read -r point; do
    umount "$(printf '%b' "$point")"
  done
}

if [ ! -e "$dir" ] && [ -z "$(own_processes)" ]; then
  rm -f "$dir.lock"
  say "there is no quickstart"
  exit 0
fi
[ "$(id -u)" = 0 ] || fail "what runs belongs to root: run 'sudo make quickstart-down'"
take_lock
delete_vms
end_all
remove_cgroups
unmount_all
rm -rf --one-file-system "$dir"
rm -f "$dir.lock"
say "the quickstart is gone"

#!/bin/bash
# Three nodes of Blixard on this machine and a VM `hello` with three replicas on them. Safe to run again: what runs is
# kept, what is half dead is started anew. usage: up.sh, as root, after `make all`; see lib.sh for its two variables.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
readonly steps=6
step=0

say() { printf '[%d/%d %3ds] %s\n' "$step" "$steps" "$((SECONDS - started))" "$*"; }
next() {
  step=$((step + 1))
  say "$@"
}

check_machine() {
  [ "$(id -u)" = 0 ] || fail "the nodes run virtual machines and build runners as root: run 'sudo make quickstart'"
  local socket file
  socket=$(node_socket n1)
  [ ${#socket} -le 107 ] && [ $((${#dir} + 3)) -le 80 ] ||
    fail "the path $dir is too deep: a node's data directory may have 80 bytes; move the tree nearer to /"
  for file in blixardd blixard blixard-shim blixard-guest; do
    [ -x "$build/bin/$file" ] || fail "$build/bin/$file is missing: run 'make all'"
  done
  for file in /usr/bin/qemu-system-x86_64 /bin/busybox "$root/build/deps/kernel/vmlinuz"; do
    [ -e "$file" ] || fail "$file is missing: run 'sudo make deps'"
  done
  command -v nix >/dev/null || fail "nix is missing: run 'sudo make deps'"
}

start_daemon() {
  local node=$1 first=()
  [ "$node" != n1 ] || first=(--bootstrap)
  mkdir -p -m 0711 "$(node_dir "$node")"
  # Its own session, so that the end of this terminal is not its end; the lock must not live on in it.
  setsid "$build/bin/blixardd" --data-dir "$(node_dir "$node")" --name "$node" --socket "$(node_socket "$node")" \
    --capacity vcpus=4,memory_mib=2048 --shim "$build/bin/blixard-shim" --guest "$build/bin/blixard-guest" \
    --unsafe-fs --runner-dir "$root/nix/debian-runner" \
    --kernel-dir "$root/build/deps/kernel" --nix-store-dir "$dir/nix" \
    "${first[@]}" \
    </dev/null >>"$(node_dir "$node")/daemon.log" 2>&1 9>&- &
  echo $! >"$(node_dir "$node")/daemon.pid"
  disown
}

# An embedder of the library would know from blx_node_open(); a script asks until there is an answer.
wait_for_answer() {
  local node=$1 pid tries=0
  pid=$(cat "$(node_dir "$node")/daemon.pid")
  until answers "$node"; do
    tries=$((tries + 1))
    if [ ! -d "/proc/$pid" ] || [ "$tries" -ge 150 ]; then
      tail -n 5 "$(node_dir "$node")/daemon.log" >&2
      fail "$node does not answer; the end of $(node_dir "$node")/daemon.log is above"
    fi
    sleep 0.2
  done
}

ensure_daemon() {
  local node=$1 pid
  if pid=$(daemon_pid "$node"); then
    if answers "$node"; then
      say "$node runs already (process $pid)"
      return
    fi
    say "$node (process $pid) does not answer: starting it anew"
    end_processes 50 "$pid"
  fi
  start_daemon "$node"
  wait_for_answer "$node"
  say "$node answers at build/quickstart/$node/blixard.sock"
}

ensure_member() {
  local node=$1 tries=0
  if [ -n "$(cluster_id "$node")" ]; then
    say "$node is a member"
    return
  fi
  until on "$node" cluster join --address "unix:$(node_socket n1)" >/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || fail "$node could not join; see $(node_dir "$node")/daemon.log"
    sleep 1
  done
  say "$node joined"
}

# Replicas are spread over the nodes that the leader has heard from, so it must have heard from all.
wait_for_nodes() {
  local tries=0
  until [ "$(on n1 --timeout 2s node list -o json 2>/dev/null | grep -o '"status": *"Ready"' | wc -l)" = 3 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "not all nodes are ready after 20 s: $(on n1 node list 2>&1)"
    sleep 0.2
  done
}

create_hello() {
  local desired
  if ! on n1 vm get hello >/dev/null 2>&1; then
    on n1 vm create hello --microvm-config "$root/examples/hello.nix" --replicas 3 --strategy LoadBalanced \
      --request-id "quickstart-$(cluster_id n1)" >/dev/null
    return
  fi
  desired=$(on n1 vm get hello -o json | json_field desired)
  say "hello exists, wanted $desired"
  [ "$desired" = Running ] || on n1 vm start hello >/dev/null
}

# One line for each change of what the instances do, until all run.
phases() { on n1 vm get hello -o json 2>/dev/null | grep -oE '"(name|phase)": *"[^"]*"' | cut -d'"' -f4 | paste -sd' ' |
  grep -oE 'hello-[0-9]+ [A-Z][a-z]+' | paste -sd, | sed 's/,/, /g' || true; }

# Why an instance failed; its restart policy tries again.
failure() {
  on n1 vm get hello -o json 2>/dev/null | grep -A 3 '"code": *".*Failed"' | grep -o '"text": *".*"' | head -n 1 |
    cut -c 9-600 || true
}

wait_for_hello() {
  local seen='' now waiter status=0
  on n1 vm wait hello --for phase=Running --timeout 240s >/dev/null 2>"$dir/wait.txt" 9>&- &
  waiter=$!
  while kill -0 "$waiter" 2>/dev/null; do
    now=$(phases)
    [ "$now" = "$seen" ] || {
      say "$now"
      [[ $now != *Failed* ]] || failure
    }
    seen=$now
    sleep 0.5
  done
  wait "$waiter" || status=$?
  [ "$status" = 0 ] || {
    on n1 vm describe hello >&2 || true
    fail "hello does not run: $(cat "$dir/wait.txt")"
  }
}

# The console of the first instance may trail its word that it is ready.
show() {
  echo
  echo '$ blixard vm list'
  on n1 vm list
  echo
  echo '$ blixard node list'
  on n1 node list
  echo
  echo '$ blixard vm logs hello-1 --tail 5'
  on n1 vm logs hello-1 --tail 5 | tr -d '\r'
  echo
  echo '$ blixard vm exec hello-3 -- uname -a'
  on n1 vm exec hello-3 -- uname -a
  cat <<END

Three nodes, three guests, $((SECONDS - started)) seconds. The next commands to try:

  export PATH=$build/bin:\$PATH BLIXARD_SOCKET=$(node_socket n1)
  blixard vm describe hello
  blixard vm logs hello --follow --tail 10
  blixard vm exec hello-1 -it -- sh
  blixard top
  blixard vm stop hello --wait
  blixard cluster status --verbose

README.md goes on from here. \`sudo make quickstart-down\` removes everything.
END
}

next "checking the machine"
check_machine
take_lock
mkdir -p "$dir"
next "starting three nodes"
for node in $nodes; do ensure_daemon "$node"; done
next "making one cluster of them"
for node in $nodes; do ensure_member "$node"; done
wait_for_nodes
next "creating hello with three replicas from examples/hello.nix"
create_hello
next "waiting until all three run: Nix builds the runner, then the guests boot"
wait_for_hello
next "done"
show

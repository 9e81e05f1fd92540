# Shared by up.sh and down.sh: where the quickstart lives, and which processes are its own. Sourced by bash.
# BLX_BUILD (default build/release) names the build tree, BLX_QUICKSTART (default build/quickstart) the place of the
# data.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
build=${BLX_BUILD:-build/release}
[[ $build = /* ]] || build=$root/$build
dir=${BLX_QUICKSTART:-build/quickstart}
[[ $dir = /* ]] || dir=$root/$dir
readonly root build dir
readonly nodes="n1 n2 n3"
readonly started=$SECONDS

fail() {
  echo "quickstart: $*" >&2
  exit 1
}

node_dir() { echo "$dir/$1"; }
node_socket() { echo "$dir/$1/blixard.sock"; }

# The CLI against one node.
on() {
  local node=$1
  shift
  BLIXARD_SOCKET=$(node_socket "$node") "$build/bin/blixard" "$@"
}

# One string field of a JSON document on standard input, the first of that name.
json_field() { grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//'; }

# The arguments of a process, one a line.
arguments() { tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null; }

# Program of a process, also when its file was replaced since.
program() {
  local exe
  exe=$(readlink "/proc/$1/exe" 2>/dev/null) || return 0
  basename "${exe% (deleted)}"
}

# A pid file alone proves nothing: after a crash the number may be another's.
daemon_pid() {
  local pid
  pid=$(cat "$dir/$1/daemon.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] && is_daemon "$pid" "$1" && echo "$pid"
}

is_daemon() {
  [ "$(program "$1")" = blixardd ] && arguments "$1" | grep -qxF -- "$dir/$2"
}

# All processes that are the quickstart's: daemons of its nodes, their watchdog processes, shims and monitors of its
# instances, builds in its store.
# A shell or an editor that merely sits in the directory is not.
own_processes() {
  local proc pid
  for proc in /proc/[0-9]*; do
    pid=${proc#/proc/}
    [ "$pid" != $$ ] && is_own "$pid" && echo "$pid"
  done
  return 0
}

is_own() {
  case $(program "$1") in
  blixardd | blixard-shim | blixard-watchdog | nix | nix-build | nix-daemon) touches_dir "$1" ;;
  qemu-system-*) touches_dir "$1" ;;
  *) return 1 ;;
  esac
}

touches_dir() {
  local cwd
  cwd=$(readlink "/proc/$1/cwd" 2>/dev/null) || return 1
  [[ $cwd/ = "$dir"/* ]] || arguments "$1" | grep -qF -- "$dir/"
}

# Ends the given processes: asks, waits at most $1 tenths of a second, then kills.
end_processes() {
  local patience=$1 pid
  shift
  for pid in "$@"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "$@"; do
    while [ "$patience" -gt 0 ] && [ -d "/proc/$pid" ]; do
      sleep 0.1
      patience=$((patience - 1))
    done
  done
  for pid in "$@"; do kill -KILL "$pid" 2>/dev/null || true; done
}

answers() { on "$1" --timeout 2s cluster status --stale -o json >/dev/null 2>&1; }

cluster_id() { on "$1" --timeout 2s cluster status --stale -o json 2>/dev/null | json_field id; }

# Only one up or down at a time. The lock file is not in $dir, which down.sh removes.
take_lock() {
  mkdir -p "$(dirname "$dir")"
  exec 9>"$dir.lock"
  flock -w 600 9 || fail "another quickstart or quickstart-down has been running for ten minutes"
}

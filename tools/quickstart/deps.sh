#!/bin/bash
# Install what Blixard needs on Debian 12, only what is missing, and fetch the guests' kernel under build/deps.
# usage: deps.sh [build|run|test]...   default: all three groups. Packages and reasons: packages.txt beside this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
readonly attempts_max=4

groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(build run test)

die() {
  echo "deps: $*" >&2
  exit 1
}

wanted() {
  local group
  for group in "${groups[@]}"; do
    case $group in
    build | run | test) awk -v g="$group" '$1 == g { print $2 }' "$here/packages.txt" ;;
    *) die "no group \"$group\": build, run and test are known" ;;
    esac
  done
}

# Prints those of its arguments that are not installed.
missing() {
  local have
  have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "$@" | grep -vxF -f <(printf '%s\n' "$have" ' ') || true
}

# Mirrors fail now and then. The lists are read anew only when apt knows too little or a download failed.
apt_install() {
  local attempt=1
  export DEBIAN_FRONTEND=noninteractive
  [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)" ] || apt-get update -q || true
  while ! apt-get install -q -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@"; do
    [ "$attempt" -lt "$attempts_max" ] || return 1
    echo "deps: apt-get install failed, attempt $attempt of $attempts_max: reading the package lists anew" >&2
    sleep "$((attempt * 2 - 1))"
    apt-get update -q || true
    attempt=$((attempt + 1))
  done
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  die "this script knows Debian only; install what tools/quickstart/packages.txt lists and build with 'make all'"

packages=$(wanted)
mapfile -t absent < <(missing $packages)
if [ ${#absent[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "these packages are missing: ${absent[*]}; run 'sudo make deps' once"
  echo "deps: installing ${absent[*]}"
  apt_install "${absent[@]}" || die "apt-get could not install ${absent[*]}; its message is above"
fi

case " ${groups[*]} " in
*" run "*)
  kernel=$root/build/deps/kernel
  if [ ! -s "$kernel/vmlinuz" ]; then
    attempt=1
    until "$root/nix/debian-runner/fetch-kernel.sh" "$kernel"; do
      [ "$attempt" -lt "$attempts_max" ] || die "the guests' kernel could not be fetched; its message is above"
      [ "$(id -u)" != 0 ] || apt-get update -q || true
      sleep "$((attempt * 2 - 1))"
      attempt=$((attempt + 1))
    done
  fi
  ;;
esac

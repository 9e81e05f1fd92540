#!/bin/sh
# usage: blixard-shim-scope SHIM-ARGUMENTS. Starts blixard-shim, which keeps one VM, in a systemd scope of its own below
# blixard-vms.slice, so that nothing that is done to blixardd.service is done to it. The node gives it the shim's
# arguments (`blixardd --shim`), and hears from it what it would hear from the shim: the same process becomes both.
set -eu
shim=$(dirname "$0")/blixard-shim

# Without systemd there is no service that could take the shim with it.
[ -d /run/systemd/system ] || exec "$shim" "$@"
exec systemd-run --scope --quiet --collect --slice=blixard-vms.slice --description="A virtual machine of Blixard" \
  -- "$shim" "$@"

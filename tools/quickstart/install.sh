#!/bin/bash
# usage: install.sh BUILD DESTDIR PREFIX VERSION SOVERSION, from the root of the tree; `make install` calls it.
set -euo pipefail
[ $# = 5 ] || {
  echo "install: use 'make install DESTDIR=... PREFIX=...'" >&2
  exit 2
}
build=$1 prefix=$3 version=$4 so=libblixard.so.$5
to=$2$prefix

put() { # MODE FILE DIRECTORY
  install -d "$to/$3"
  install -m "$1" "$2" "$to/$3/"
}

# The shim, the watchdog process and the guest agent lie beside the daemon, which looks for them there.
for program in blixardd blixard blixard-shim blixard-watchdog blixard-guest; do put 0755 "$build/bin/$program" bin; done
put 0644 "$build/lib/$so" lib
put 0644 "$build/lib/libblixard.a" lib
ln -sf "$so" "$to/lib/libblixard.so"
install -d "$to/lib/pkgconfig"
sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" lib/blixard.pc.in >"$to/lib/pkgconfig/blixard.pc"
find include/blixard -name '*.h' | sort | while read -r header; do
  put 0644 "$header" "$(dirname "$header")"
done
put 0644 lib/schema/blixard.proto share/blixard
for file in nix/guest.nix nix/debian-runner/* nix/vm-template/*; do
  mode=0644
  [ ! -x "$file" ] || mode=0755
  put "$mode" "$file" "share/blixard/$(dirname "${file#nix/}")"
done
for page in docs/man/*.[1-8]; do
  [ ! -e "$page" ] || put 0644 "$page" "share/man/man${page##*.}"
done
install -d "$to/lib/systemd/system"
sed -e "s|/usr/local/bin|$prefix/bin|g" daemon/blixardd.service >"$to/lib/systemd/system/blixardd.service"
put 0644 daemon/blixard-vms.slice lib/systemd/system
install -m 0755 daemon/blixard-shim-scope.sh "$to/bin/blixard-shim-scope"

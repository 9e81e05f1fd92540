#!/bin/sh
# Put Debian's cloud kernel and its modules into DIR (default build/deps/kernel) without installing the package:
# DIR/vmlinuz, DIR/lib/modules/VERSION, DIR/version. Safe to run again; needs no network once the files are there.
# Usage: fetch-kernel.sh [DIR]
set -eu

dir=${1:-build/deps/kernel}
if [ -s "$dir/vmlinuz" ] && [ -s "$dir/version" ] && [ -d "$dir/lib/modules/$(cat "$dir/version")" ]; then
  exit 0
fi
[ "$(dpkg --print-architecture)" = amd64 ] || {
  echo "fetch-kernel: only amd64 has a cloud kernel that the runner knows" >&2
  exit 1
}

package=$(apt-cache depends --no-recommends linux-image-cloud-amd64 |
  sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*-cloud-amd64\)$/\1/p' | head -n 1)
[ -n "$package" ] || {
  echo "fetch-kernel: apt knows no linux-image-cloud-amd64: run 'apt-get update' first" >&2
  exit 1
}

mkdir -p "$(dirname "$dir")"
part=$(mktemp -d "$(dirname "$dir")/kernel.part.XXXXXX")
trap 'rm -rf "$part"' EXIT
# apt drops its privileges for downloads, so its user must reach the directory.
chmod 0755 "$part"
mkdir "$part/deb" "$part/tree" "$part/out"
chmod 0777 "$part/deb"
(cd "$part/deb" && apt-get -q -y download "$package" >/dev/null)
dpkg-deb -x "$part"/deb/*.deb "$part/tree"

image=$(find "$part/tree/boot" -name 'vmlinuz-*' | head -n 1)
version=${image##*/vmlinuz-}
[ -n "$version" ] && [ -d "$part/tree/lib/modules/$version" ] || {
  echo "fetch-kernel: $package holds no kernel with modules" >&2
  exit 1
}
mv "$image" "$part/out/vmlinuz"
mkdir -p "$part/out/lib/modules"
mv "$part/tree/lib/modules/$version" "$part/out/lib/modules/$version"
printf '%s\n' "$version" >"$part/out/version"
chmod 0755 "$part/out"
rm -rf "$dir"
mv "$part/out" "$dir"
echo "fetch-kernel: $package in $dir"

# The builder: makes the runner in $out. Its environment is the derivation's (runner.nix). The host's files are read
# here and not in evaluation; each must still be what was hashed.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
umask 022

check() { # FILE HASH
  [ -r "$1" ] || { echo "debian-runner: $1 is missing" >&2; exit 1; }
  got=$(sha256sum <"$1" | cut -d' ' -f1)
  [ "$got" = "$2" ] || { echo "debian-runner: $1 changed since the flake was made: make it anew" >&2; exit 1; }
}
check "$kernel" "$kernelHash"
check "$busybox" "$busyboxHash"
check "$guest" "$guestHash"
check "$qemu" "$qemuHash"
got=$(while read -r m; do cat "$modules/kernel/$m.ko"; done <"$modules_list" | sha256sum | cut -d' ' -f1)
[ "$got" = "$modulesHash" ] || {
  echo "debian-runner: the modules in $modules changed since the flake was made: make it anew" >&2
  exit 1
}

# ---- the initial file system: uncompressed, since unpacking costs the guest more than loading
root=$PWD/root
mkdir -p "$out/bin" "$out/share/microvm" "$out/share/blixard"
mkdir -p "$root/bin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/modules" "$root/tmp" \
  "$root/root"

# ---- volumes and interfaces: what the monitor is told, the host, and the guest's init. A disk is found by its serial
# and a card by its address, since the order in which a guest finds them is not theirs.
devices='' prepare='' n=0
: >"$root/etc/volumes"
while read -r image place size type create label read_only; do
  [ -n "$image" ] || continue
  options=rw locked=off
  [ "$read_only" = 0 ] || options=ro locked=on
  prepare="${prepare}volume $image $size $type $create $label
"
  devices="$devices -drive id=vol$n,file=$image,format=raw,if=none,discard=unmap,read-only=$locked"
  devices="$devices -device virtio-blk-device,drive=vol$n,serial=vol$n"
  [ "$place" = - ] || echo "vol$n $place $type $options" >>"$root/etc/volumes"
  n=$((n + 1))
done <<END
$volumes
END
# The guest's memory is then one that whoever serves the shares may see.
n=0 memory=''
: >"$root/etc/shares"
while read -r tag socket source place; do
  [ -n "$tag" ] || continue
  memory=,memory-backend=mem
  mkdir -p "$out/share/microvm/virtiofs/$tag"
  echo "$socket" >"$out/share/microvm/virtiofs/$tag/socket"
  echo "$source" >"$out/share/microvm/virtiofs/$tag/source"
  devices="$devices -chardev socket,id=fs$n,path=$socket -device vhost-user-fs-device,chardev=fs$n,tag=$tag"
  echo "$tag $place" >>"$root/etc/shares"
  n=$((n + 1))
done <<END
$shares
END
[ -z "$memory" ] || devices="-object memory-backend-memfd,id=mem,size=${mem}M,share=on \\
  -global virtio-mmio.force-legacy=false$devices" # vhost-user has no legacy devices

n=0 macvtaps=''
: >"$root/etc/interfaces"
: >"$out/share/microvm/tap-interfaces"
: >"$out/share/microvm/macvtap-interfaces"
while read -r type id mac link mode; do
  case $type in
  '') continue ;;
  user) devices="$devices -netdev user,id=net$n" ;;
  tap)
    devices="$devices -netdev tap,id=net$n,ifname=$id,script=no,downscript=no"
    echo "$id" >>"$out/share/microvm/tap-interfaces"
    ;;
  macvtap)
    fd=$((30 + n))
    devices="$devices -netdev tap,id=net$n,fd=$fd"
    macvtaps="${macvtaps}exec $fd<>\"/dev/tap\$(< /sys/class/net/$id/ifindex)\"
"
    echo "$id $mac $link $mode" >>"$out/share/microvm/macvtap-interfaces"
    ;;
  esac
  mac=$(echo "$mac" | tr A-F a-f)
  devices="$devices -device virtio-net-device,netdev=net$n,mac=$mac"
  echo "$mac $type" >>"$root/etc/interfaces"
  n=$((n + 1))
done <<END
$interfaces
END
printf vnet_hdr >"$out/share/microvm/tap-flags"
cp "$busybox" "$root/bin/busybox"
for applet in sh mount mkdir insmod hostname cat uname nproc sed cut sleep poweroff ps top free ls dmesg ip ping wget \
  setsid cttyhack stty tty kill head tail grep wc date vi df mv cp rm touch env id seq yes true false test \
  echo printf find sort tr tee dd sync; do
  ln -s busybox "$root/bin/$applet"
done
cp "$guest" "$root/bin/blixard-guest"
cp "$init" "$root/init"
chmod 0755 "$root/init" "$root/bin/busybox" "$root/bin/blixard-guest"
printf '%s\n' "$hostName" >"$root/etc/hostname"
# Those of file systems only for who mounts one: each costs the guest time.
[ -n "$memory" ] && unused='^$' || unused='^fs/'
grep -v "$unused" "$modules_list" >"$root/modules/list"
while read -r m; do cp "$modules/kernel/$m.ko" "$root/modules/"; done <"$root/modules/list"
find "$root" -exec touch -h -d @1 {} +

(cd "$root" && find . | sort | cpio --quiet -o -H newc --reproducible --owner 0:0) >"$out/share/blixard/initrd"
cp "$kernel" "$out/share/blixard/vmlinuz"

# ---- the layout that microvm.nix promises
printf '%s' x86_64-linux >"$out/share/microvm/system"
printf '%s' "$hypervisor" >"$out/share/microvm/hypervisor"
: >"$out/share/microvm/pci-devices"

case $accel in
kvm) machine=",accel=kvm" cpu=host append="" ;;
tcg) machine="" cpu=max append=" tsc_early_khz=2000000" ;;
*) echo "debian-runner: accel is \"$accel\", not kvm or tcg" >&2; exit 1 ;;
esac
[ "$accel" = tcg ] && accel_args="-accel tcg,tb-size=64" || accel_args=""

# The sockets lie in the working directory: the runner's own QMP socket as microvm.nix names it, and two of Blixard's:
# a second QMP, since one serves a single client, and the guest agent's port.
cat >"$out/bin/microvm-run" <<'END'
#!/bin/bash
set -e
END
[ -z "$prepare" ] || cat >>"$out/bin/microvm-run" <<'END'
die() {
  echo "microvm-run: the volume $1 $2" >&2
  exit 1
}
volume() { # IMAGE MIB TYPE CREATE LABEL
  [ ! -e "$1" ] || return 0
  [ "$4" = 1 ] || die "$1" "is missing, and autoCreate is false"
  command -v mke2fs >/dev/null || die "$1" "cannot be made: install e2fsprogs on this host, for mke2fs"
  case $1 in */*) mkdir -p "${1%/*}" ;; esac
  rm -f "$1.part"
  truncate -s "$2M" "$1.part" || die "$1" "cannot be made"
  label=(-L "$5")
  [ "$5" != - ] || label=()
  mke2fs -q -F -t "$3" "${label[@]}" "$1.part" || die "$1" "cannot be formatted"
  mv "$1.part" "$1"
}
END
cat >>"$out/bin/microvm-run" <<END
${prepare}${macvtaps}exec -a "microvm@$hostName" $qemu -name "$hostName" \\
  -M microvm,acpi=on,pit=on,pic=on,rtc=on$machine$memory $accel_args -cpu $cpu \\
  -m $mem -smp $vcpu -nodefaults -no-user-config -no-reboot -display none \\
  -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \\
  -kernel $out/share/blixard/vmlinuz -initrd $out/share/blixard/initrd \\
  -append "console=ttyS0 loglevel=2 panic=-1 reboot=t$append" \\
  -chardev stdio,id=stdio,signal=off -serial chardev:stdio \\
  -qmp unix:$hostName.sock,server=on,wait=off \\
  -qmp unix:blixard-qmp.sock,server=on,wait=off \\
  -device virtio-serial-device \\
  -chardev socket,id=blixard-guest,path=blixard-guest.sock,server=on,wait=off \\
  -device virtserialport,chardev=blixard-guest,name=org.blixard.guest.0 \\
 $devices $extraArgs
END

cat >"$out/bin/microvm-shutdown" <<END
#!/usr/bin/perl
# Asks the guest to power off through the runner's QMP socket and waits until QEMU has closed it, that is, has ended.
use strict;
use IO::Socket::UNIX;
my \$qmp = IO::Socket::UNIX->new(Peer => "$hostName.sock") or die "$hostName.sock: \$!\n";
print \$qmp "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";
1 while <\$qmp>;
END
chmod 0755 "$out/bin/microvm-run" "$out/bin/microvm-shutdown"

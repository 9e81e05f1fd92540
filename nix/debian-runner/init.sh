#!/bin/sh
# PID 1 of the guest.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
while read -r module; do
  insmod "/modules/${module##*/}.ko" || echo "init: $module did not load"
done </modules/list
while read -r serial place type options; do
  for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial")" = "$serial" ] || continue
    mkdir -p "$place"
    mount -t "$type" -o "$options" "/dev/${disk##*/}" "$place" && echo "init: ${disk##*/} on $place" ||
      echo "init: ${disk##*/} could not be mounted on $place"
  done
done </etc/volumes
while read -r tag place; do
  mkdir -p "$place"
  mount -t virtiofs "$tag" "$place" && echo "init: share $tag on $place" ||
    echo "init: share $tag could not be mounted on $place"
done </etc/shares
ip link set lo up
while read -r mac type; do
  for card in /sys/class/net/*; do
    [ "$(cat "$card/address")" = "$mac" ] || continue
    card=${card##*/}
    ip link set "$card" up && echo "init: $card up as $mac"
    [ "$type" = user ] || continue
    # The only addresses that QEMU's user network has.
    ip addr add 10.0.2.15/24 dev "$card"
    ip route add default via 10.0.2.2
    echo "nameserver 10.0.2.3" >/etc/resolv.conf
  done
done </etc/interfaces
hostname "$(cat /etc/hostname)"
echo "hello from $(hostname)"
memory=$(sed -n 's/^MemTotal: *//p' /proc/meminfo)
echo "Linux $(uname -r), $(nproc) cpu, $memory of memory, up $(cut -d' ' -f1 /proc/uptime) s"
# A shell for whoever presses Enter at the console; until then it says nothing.
while read -r _; do
  TERM=vt100 HOME=/root setsid cttyhack sh
done <>/dev/ttyS0 >&0 2>&0 &
while :; do
  blixard-guest --name-host --power-off
  echo "init: blixard-guest ended with $?"
  sleep 1
done

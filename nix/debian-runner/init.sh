#!/bin/sh
# PID 1 of the guest.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
while read -r module; do
  insmod "/modules/${module##*/}.ko" || echo "init: $module did not load"
done </modules/list
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

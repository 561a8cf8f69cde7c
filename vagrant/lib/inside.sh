#!/bin/bash
# First process of the lab's room: makes the room's mounts, says who it is, and becomes tini. Started by namespace.sh with
# LAB and LAB_TAG in the environment; it still sees the host's /proc when it starts, which is how it learns its pid there.
set -euo pipefail

read -r host_pid rest </proc/self/stat
# shellcheck disable=SC2086
set -- ${rest##*) }
started=${20}

bind() { mkdir -p "$2" && mount --bind "$1" "$2"; }

# libvirt's compiled-in paths of root mode, each private. The host's D-Bus and systemd vanish with its /run, so that libvirtd
# neither asks them for machine slices nor tells them anything.
bind "$LAB/libvirt/etc" /etc/libvirt
bind "$LAB/libvirt/lib" /var/lib/libvirt
bind "$LAB/libvirt/log" /var/log/libvirt
bind "$LAB/libvirt/cache" /var/cache/libvirt
[[ -L /var/run ]] || bind "$LAB/run" /var/run
# AppArmor, where there is one, keeps generated profiles here.
if [[ -d /etc/apparmor.d/libvirt ]]; then
  mkdir -p "$LAB/libvirt/etc/apparmor"
  cp -a /etc/apparmor.d/libvirt/. "$LAB/libvirt/etc/apparmor/"
  bind "$LAB/libvirt/etc/apparmor" /etc/apparmor.d/libvirt
fi

# /sys must show the room's network devices, so it is mounted anew. That hides the control groups below it (the trap of
# `ip netns exec`: CPU quotas then fail), so they are carried over, each reduced to the lab's own group.
carried=$LAB/run/.sys
mkdir -p "$carried"
mount -t tmpfs -o mode=0700 none "$carried"
mkdir -p "$carried/cgroup" "$carried/security"
mount --rbind /sys/fs/cgroup "$carried/cgroup"
mountpoint -q /sys/kernel/security && mount --rbind /sys/kernel/security "$carried/security"
umount --recursive --lazy /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount --rbind "$carried/cgroup" /sys/fs/cgroup
mountpoint -q "$carried/security" && mount --rbind "$carried/security" /sys/kernel/security
umount --recursive --lazy "$carried"
rmdir "$carried"
awk '($3 == "cgroup" || $3 == "cgroup2") && $2 ~ "^/sys/fs/cgroup" {print $2}' /proc/self/mounts | sort -ru |
  while read -r where; do
    if [[ -d $where/$LAB_TAG ]]; then mount --bind "$where/$LAB_TAG" "$where"; fi
  done

# Image recipes use the host's network, so names must still be found where resolv.conf points into /run.
resolver=$(readlink -f /etc/resolv.conf || true)
if [[ $resolver == /run/* && -r $resolver ]]; then install -D -m 644 "$resolver" "$LAB/run/${resolver#/run/}"; fi
mount --bind "$LAB/run" /run
# As on a real host, where /run is in memory: libvirt writes and flushes a machine's status there at each of its steps.
mkdir -p /run/libvirt/qemu
mount -t tmpfs -o mode=0755 tmpfs /run/libvirt/qemu
ip link set lo up

printf '%s %s %s\n' "$host_pid" "$started" "$(</proc/sys/kernel/random/boot_id)" >"$LAB/init.new"
mount -t proc proc /proc
mv "$LAB/init.new" "$LAB/init"
tini=$(command -v tini-static || command -v tini)
exec "$tini" -- /bin/bash "$(dirname "$0")/keep-daemons.sh"

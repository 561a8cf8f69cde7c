# shellcheck shell=bash
# The lab's room: network, mount, pid and cgroup namespaces with a private libvirtd in them. Nothing of the host's libvirt
# is touched, and ending the room's first process ends everything in it, because the kernel does that for a pid namespace.
#
#   up ──▶ launch (host side: own cgroups) ──▶ inside.sh (mounts) ──▶ tini ──▶ keep-daemons.sh ──▶ virtlogd, libvirtd ──▶ QEMU
#
# tini is the room's process 1 for a measured reason: libvirt's destroy waits until the dead QEMU is reaped, and a first
# process that reaps late makes each destroy 1–2 s long instead of milliseconds.

lab_paths() {
  LAB=$(realpath -ms "${GREENROOM_LAB:-/var/lib/greenroom-lab}")
  CACHE=$(realpath -ms "${GREENROOM_CACHE:-/var/cache/greenroom}")
  case $LAB/ in
    //|/run/*|/var/run/*|/proc/*|/sys/*|/dev/*|/etc/libvirt/*|/var/lib/libvirt/*|/var/log/libvirt/*|/var/cache/libvirt/*|/var/lib/|/var/|/usr/*|/home/|/tmp/)
      die "GREENROOM_LAB=$LAB is a place that the lab covers or must not delete; choose a folder of its own" 2 ;;
  esac
  # Two labs with different folders must not share control groups.
  LAB_TAG=greenroom-lab-$(printf '%s' "$LAB" | cksum | cut -d' ' -f1)
  export LAB CACHE LAB_TAG
}

# lock_lab: one `up` or `down` at a time. A lock file that was purged meanwhile is taken again.
lock_lab() {
  mkdir -p "$LAB"
  while :; do
    exec 9>"$LAB/lock"
    if ! flock -n 9; then
      hint "another lab command is at work on $LAB; waiting for it"
      flock 9
    fi
    [[ $LAB/lock -ef /proc/self/fd/9 ]] && return 0
    mkdir -p "$LAB"
  done
}

unlock_lab() { exec 9>&-; }

# --- who is who -------------------------------------------------------------------------------------------------------

# start_time PID: ticks since boot at which the process started; with the boot's id this names a process for good.
start_time() {
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field is a name in brackets that may hold spaces: count from its end.
  # shellcheck disable=SC2086
  set -- ${line##*) }
  printf '%s' "${20}"
}

# is_recorded FILE: does FILE (pid, start time, boot id) still name a living process? A stale file never names a stranger.
is_recorded() {
  local pid started boot state
  [[ -s $1 ]] || return 1
  read -r pid started boot <"$1" || return 1
  [[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] || return 1
  [[ $(start_time "$pid") == "$started" ]] || return 1
  state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) || return 1
  [[ $state != Z && $state != X ]]
}

lab_pid() { cut -d' ' -f1 "$LAB/init"; }

lab_is_up() { is_recorded "$LAB/init" && [[ -e $LAB/ready ]]; }

# in_lab COMMAND…: runs COMMAND in the lab's namespaces as root, in the current folder.
in_lab() {
  # shellcheck disable=SC2016
  nsenter --target "$(lab_pid)" --mount --net --pid --cgroup --ipc -- \
    /bin/bash -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' lab "$PWD" "$@" 9>&-
}

# --- control groups ---------------------------------------------------------------------------------------------------

# cgroup_mounts: each mounted hierarchy of the host, v1 or v2.
cgroup_mounts() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $3, $2}' /proc/self/mounts | sort -u -k2; }

# enter_own_cgroups: gives the lab one group per hierarchy, so that quotas of its VMs work and never meet those of others.
enter_own_cgroups() {
  local kind where group leaf file
  while read -r kind where; do
    group=$where/$LAB_TAG
    mkdir -p "$group" 2>/dev/null || continue
    leaf=$group
    if [[ $kind == cgroup2 ]]; then
      # A v2 group that hands out controllers must not hold processes itself.
      leaf=$group/init
      mkdir -p "$leaf"
      local controller
      local -a controllers
      read -ra controllers <"$group/cgroup.controllers" || true
      for controller in "${controllers[@]}"; do
        printf '+%s' "$controller" >"$group/cgroup.subtree_control" 2>/dev/null || true
      done
    fi
    # v1's cpuset group refuses processes until it has CPUs and memory nodes.
    for file in cpuset.cpus cpuset.mems; do
      if [[ $kind == cgroup && -e $group/$file && -z $(<"$group/$file") ]]; then
        cat "$where/$file" >"$group/$file" 2>/dev/null || true
      fi
    done
    printf '%s' "$BASHPID" >"$leaf/cgroup.procs" 2>/dev/null || hint "cannot enter control group $leaf"
  done < <(cgroup_mounts)
}

remove_own_cgroups() {
  local kind where
  while read -r kind where; do
    [[ -d $where/$LAB_TAG ]] || continue
    find "$where/$LAB_TAG" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(cgroup_mounts)
}

# --- up ---------------------------------------------------------------------------------------------------------------

lab_up() {
  lock_lab
  if lab_is_up; then
    hint "lab: already up (process $(lab_pid))"
    unlock_lab
    return 0
  fi
  end_room # what a killed lab or a half-made one left
  prepare_folders
  step "lab room" launch_room
  step "libvirt answers" wait_for_libvirt
  step "lab network" define_network
  step "device network" define_device_network
  write_boot_configuration
  step "cpu quotas" check_cpu_quota
  : >"$LAB/ready"
  unlock_lab
}

prepare_folders() {
  rm -rf "$LAB/run" "$LAB/libvirt/etc" "$LAB/libvirt/lib" "$LAB/ready" "$LAB/init"
  mkdir -p "$LAB"/{run,state,log} "$LAB"/libvirt/{etc,lib,log,cache} "$CACHE"
  # QEMU runs as libvirt's own user and opens disks below state; /run and libvirt's folders must be traversable too.
  chmod 0755 "$LAB/run" "$LAB"/libvirt "$LAB"/libvirt/*
  chmod 0711 "$LAB" "$LAB/state"
  mkdir -p "$LAB"/run/{lock,libvirt}
  write_libvirt_configuration
}

write_libvirt_configuration() {
  local etc=$LAB/libvirt/etc
  mkdir -p "$etc/qemu/networks"
  # Whoever reaches this socket is root in the room already, and there is no polkit to ask.
  cat >"$etc/libvirtd.conf" <<'C'
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
max_clients = 200
max_workers = 40
max_client_requests = 20
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
C
  # All of libvirt's defaults on purpose: DAC with its own user, seccomp, mount namespaces, control groups. Leaving any of
  # them out saved nothing that could be measured.
  printf '# Defaults, on purpose.\n' >"$etc/qemu.conf"
  printf 'log_outputs = "2:file:/var/log/libvirt/virtlogd.log"\nmax_clients = 4096\n' >"$etc/virtlogd.conf"
  printf 'uri_default = "qemu:///system"\n' >"$etc/libvirt.conf"
}

launch_room() {
  local deadline
  (
    enter_own_cgroups
    cd /
    exec setsid unshare --mount --net --pid --cgroup --ipc --propagation slave --fork --kill-child \
      /bin/bash "$HERE/lib/inside.sh" </dev/null >>"$LAB/log/room.log" 2>&1
  ) &
  deadline=$(($(now_ms) + 20000))
  until is_recorded "$LAB/init"; do
    if (($(now_ms) > deadline)) || ! kill -0 $! 2>/dev/null; then
      echo "the room's first process did not start:"
      tail -n 20 "$LAB/log/room.log"
      return 1
    fi
    sleep 0.02
  done
}

wait_for_libvirt() {
  local deadline answer
  deadline=$(($(now_ms) + ${GREENROOM_LAB_DEADLINE_S:-90} * 1000))
  until answer=$(in_lab virsh -c qemu:///system version 2>&1); do
    if ! is_recorded "$LAB/init"; then
      echo "the room ended by itself:"
      tail -n 20 "$LAB/log/room.log"
      return 1
    fi
    if (($(now_ms) > deadline)); then
      echo "libvirt did not answer within ${GREENROOM_LAB_DEADLINE_S:-90} s; virsh says: $answer"
      tail -n 15 "$LAB/log/room.log" "$LAB/libvirt/log/libvirtd.log" 2>/dev/null || true
      return 1
    fi
    sleep 0.1
  done
  printf '%s\n' "$answer"
}

# The network that chains may attach a VM to. It is isolated: the room has no way out. dnsmasq's ping check before each
# lease is off because the lab owns the range: a lease takes 0.6 s instead of 3.6 s.
define_network() {
  in_lab virsh -q -c qemu:///system net-define /dev/stdin <<'X'
<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
  <name>greenroom</name>
  <bridge name='gr0' stp='off' delay='0'/>
  <domain name='greenroom.lab' localOnly='yes'/>
  <ip address='192.168.90.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.90.10' end='192.168.90.250'/></dhcp>
  </ip>
  <dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options>
</network>
X
  in_lab virsh -q -c qemu:///system net-start greenroom
  # virsh says "started" before the bridge's address can be used on a loaded machine.
  in_lab ip -brief address show gr0
}

# A room without control groups works until the first CPU quota is set, which is how predicted sizes are enforced. Better to
# hear it now: a guest without any system is created paused, given a quota and destroyed.
check_cpu_quota() {
  local name=lab-quota-check answer=0
  in_lab virsh -q -c qemu:///system create --paused /dev/stdin <<X
<domain type='qemu'><name>$name</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
X
  in_lab virsh -q -c qemu:///system schedinfo "$name" --live --set vcpu_quota=50000 || answer=$?
  in_lab virsh -q -c qemu:///system destroy "$name"
  if ((answer != 0)); then
    echo "the lab works, but CPU quotas do not: libvirt finds no CPU control group in the room"
    return 1
  fi
}

# --- down -------------------------------------------------------------------------------------------------------------

lab_down() {
  local keep=$1
  if [[ ! -d $LAB ]]; then
    hint "lab: nothing at $LAB"
    return 0
  fi
  lock_lab
  [[ -e $LAB/libvirt || -e $LAB/init || -e $LAB/state ]] || [[ -z $(find "$LAB" -mindepth 1 ! -name lock -print -quit) ]] ||
    die "$LAB does not look like a lab; nothing was deleted"
  step "lab down" end_room
  if [[ $keep == purge ]]; then
    rm -rf --one-file-system "$LAB"
    hint "lab: $LAB removed; caches stay in $CACHE"
  else
    rm -rf "$LAB/libvirt/etc" "$LAB/libvirt/lib"
    hint "lab: state and images stay in $LAB/state (remove them too with: vagrant/lab down --purge)"
  fi
  unlock_lab
}

# end_room: asks first, then lets the kernel do it. Only a process that the lab itself recorded is ever signalled.
end_room() {
  local pid domain
  if is_recorded "$LAB/init"; then
    pid=$(lab_pid)
    stop_daemon || true
    for domain in $(timeout 10 nsenter -t "$pid" -m -n -p -C -i -- virsh -q -c qemu:///system list --uuid 2>/dev/null || true); do
      timeout 20 nsenter -t "$pid" -m -n -p -C -i -- virsh -q -c qemu:///system destroy "$domain" || true
    done
    kill -TERM "$pid" 2>/dev/null || true
    wait_until_gone 80 || kill -KILL "$pid" 2>/dev/null || true
    wait_until_gone 200 || { echo "process $pid does not end"; return 1; }
  fi
  remove_own_cgroups
  rm -rf "$LAB/run" "$LAB/init" "$LAB/ready" "$LAB/greenroom.pid"
}

# wait_until_gone TRIES: at most TRIES × 0.1 s.
wait_until_gone() {
  local tries=$1
  while is_recorded "$LAB/init"; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

# --- the greenroom daemon in the room ---------------------------------------------------------------------------------

# Its pid is one of the room's own pid namespace, so that a stale file can never mean a process of the host.
daemon_is_running() {
  [[ -s $LAB/greenroom.pid ]] && is_recorded "$LAB/init" &&
    [[ $(in_lab cat "/proc/$(<"$LAB/greenroom.pid")/comm" 2>/dev/null) == greenroom ]]
}

stop_daemon() {
  local tries=100
  daemon_is_running || return 0
  in_lab kill -TERM "$(<"$LAB/greenroom.pid")" || return 0
  while daemon_is_running; do
    ((tries-- > 0)) || { in_lab kill -KILL "$(<"$LAB/greenroom.pid")"; break; }
    sleep 0.1
  done
  rm -f "$LAB/greenroom.pid"
}

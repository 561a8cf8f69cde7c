#!/bin/bash
# Runs under the room's tini: keeps virtlogd and libvirtd alive, as a service manager would. A test may kill libvirtd and
# find it back a second later; whoever keeps crashing is started ever more slowly.
set -uo pipefail

stopping=0 children=()

keep() {
  local name=$1 pause=1 began status
  shift
  # This shell is one per daemon: when asked to stop, it stops its daemon first.
  trap 'stopping=1; [[ -n ${pid:-} ]] && kill -TERM "$pid" 2>/dev/null' TERM
  while ((!stopping)); do
    began=$SECONDS
    "$@" </dev/null &
    pid=$!
    wait "$pid"
    status=$?
    ((stopping)) && { wait "$pid"; break; }
    printf '%(%FT%T)T %s ended with %d; again in %d s\n' -1 "$name" "$status" "$pause"
    sleep "$pause"
    if ((SECONDS - began > 20)); then pause=1; else pause=$((pause < 16 ? pause * 2 : 16)); fi
  done
}

trap 'stopping=1; kill -TERM "${children[@]}" 2>/dev/null' TERM
keep virtlogd /usr/sbin/virtlogd &
children+=($!)
keep libvirtd /usr/sbin/libvirtd &
children+=($!)
while ((!stopping)); do wait; done
wait

# shellcheck shell=bash
# One device through one chain, from nothing to done, in steps that can be read one by one.

readonly demo_device=web-1 demo_chain=onboard

command_demo() {
  wants_help "$@" && { cat <<'U'
vagrant/lab demo: starts the lab, compiles greenroom, builds the images, starts the daemon, lets it make a few machines
ahead of need, adds a device from chains/devices/web-1.yaml and runs the chain "onboard" for it: five machines, one after the
other, build a bootable disk. Then it shows what each stage was given and left, by which engine it had its machine, and that
only machines that wait remained. The lab stays up; end it with vagrant/lab down. The first time takes some ten minutes,
nearly all of it compiling; then it is three.
U
    return; }
  (($# == 0)) || die_usage "demo takes no arguments" demo
  demo_lab
  demo_compile
  demo_images
  demo_daemon
  demo_pool
  demo_chain_and_device
  demo_run
  demo_show
  demo_nothing_left
  note ""
  note "Look around: vagrant/lab shell     End: vagrant/lab down"
}

demo_lab() {
  ensure_packages
  lab_up
}

demo_compile() {
  cargo_or_die
  step "compile" build_release
}

demo_images() { step "images" build_images tiny toolbox device; }

# The daemon outlives this command; its pid is noted by the shell that becomes it.
demo_daemon() {
  if daemon_is_running; then
    hint "greenroom: already running"
    return 0
  fi
  step "daemon" start_daemon
}

start_daemon() {
  # The first start after a boot tries for 20 s whether KVM really runs guests.
  local deadline=$(($(now_ms) + 60000))
  # shellcheck disable=SC2016
  in_lab_with_environment setsid --fork /bin/bash -c 'echo $$ >"$1/greenroom.pid"; exec greenroom serve --config "$1/boot.yaml" </dev/null >>"$1/log/greenroom.log" 2>&1' greenroom "$LAB"
  # A socket file may be a dead daemon's: only an answer counts.
  until in_lab_with_environment greenroom status -q >/dev/null 2>&1; do
    if (($(now_ms) > deadline)) || { [[ -s $LAB/greenroom.pid ]] && ! is_starting_or_running; }; then
      echo "greenroom serve did not open $LAB/state/greenroom.sock"
      tail -n 20 "$LAB/log/greenroom.log" || true
      return 1
    fi
    sleep 0.3
  done
}

# Just after the fork the process is still the shell that will become greenroom.
is_starting_or_running() { in_lab test -d "/proc/$(<"$LAB/greenroom.pid")"; }

# Machines that wait before they are asked for.
demo_pool() {
  demo_say greenroom pool set tiny --hot 1 --wait
  demo_say greenroom pool set toolbox --hot 2 --wait
}

demo_chain_and_device() {
  demo_say greenroom chain apply "$CHECKOUT/chains/$demo_chain.yaml"
  demo_say greenroom device add -f "$CHECKOUT/chains/devices/$demo_device.yaml"
}

# Nobody names the chain: its trigger holds for the device.
demo_run() {
  demo_say greenroom run start --device "$demo_device" --wait
  demo_run_id=$(in_lab_with_environment greenroom run list --device "$demo_device" -o json | jq -r '[.[] | .id] | max')
}

demo_show() {
  demo_say greenroom run show "$demo_run_id"
  demo_say greenroom run output "$demo_run_id"
  note ""
  note "What each stage was given and what it left (input of the next = output of the last), and its machine:"
  in_lab_with_environment greenroom run show "$demo_run_id" -o json |
    jq -r '.attempts[] | "  \(.stage)\t\(.input[:16]) → \(.output[:16])\t\(.machine)"' | column -t -s $'\t'
}

# The last machine goes in the moment after the run has ended.
demo_nothing_left() {
  local deadline=$(($(now_ms) + 10000))
  while in_lab_with_environment virsh -q -c qemu:///system list --all --name | grep -q "^gr-$demo_run_id-" && (($(now_ms) < deadline)); do
    sleep 0.2
  done
  note ""
  note "What remains are machines that wait for the next one who needs them:"
  demo_say greenroom pool top --once
  demo_say virsh -c qemu:///system list --all
}

# demo_say COMMAND…: shows the command as a user would type it in the lab, then runs it.
demo_say() {
  note ""
  note "\$ $*"
  in_lab_with_environment "$@"
}

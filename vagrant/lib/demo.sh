# shellcheck shell=bash
# One device through one chain, from nothing to done, in steps that can be read one by one.

readonly demo_device=demo-1 demo_chain=onboard

command_demo() {
  wants_help "$@" && { cat <<'U'
vagrant/lab demo: starts the lab, compiles greenroom, builds the images, starts the daemon, adds a device and runs the chain
"onboard" for it, then shows what happened and that no VM was left. The lab stays up; end it with vagrant/lab down.
U
    return; }
  (($# == 0)) || die_usage "demo takes no arguments" demo
  demo_lab
  demo_compile
  demo_images
  demo_daemon
  demo_add_device
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

demo_images() { step "images" build_images tiny toolbox; }

# The daemon outlives this command; its pid is noted by the shell that becomes it.
demo_daemon() {
  if daemon_is_running; then
    hint "greenroom: already running"
    return 0
  fi
  step "daemon" start_daemon
}

start_daemon() {
  local deadline=$(($(now_ms) + 30000))
  # shellcheck disable=SC2016
  in_lab_with_environment setsid --fork /bin/bash -c 'echo $$ >"$1/greenroom.pid"; exec greenroom serve </dev/null >>"$1/log/greenroom.log" 2>&1' greenroom "$LAB"
  until [[ -S $LAB/state/greenroom.sock ]]; do
    if (($(now_ms) > deadline)) || { [[ -s $LAB/greenroom.pid ]] && ! is_starting_or_running; }; then
      echo "greenroom serve did not open $LAB/state/greenroom.sock"
      tail -n 20 "$LAB/log/greenroom.log" || true
      return 1
    fi
    sleep 0.1
  done
}

# Just after the fork the process is still the shell that will become greenroom.
is_starting_or_running() { in_lab test -d "/proc/$(<"$LAB/greenroom.pid")"; }

demo_add_device() {
  local example=$CHECKOUT/chains/devices/$demo_device.yaml
  if [[ -e $example ]]; then
    demo_say greenroom device add --file "$example"
  else
    demo_say greenroom device add "$demo_device"
  fi
}

demo_run() { demo_say greenroom run start --chain "$demo_chain" --device "$demo_device" --wait; }

demo_show() { demo_say greenroom run show --device "$demo_device" --latest; }

demo_nothing_left() { demo_say virsh list --all; }

# demo_say COMMAND…: shows the command as a user would type it in the lab, then runs it.
demo_say() {
  note ""
  note "\$ $*"
  in_lab_with_environment "$@"
}

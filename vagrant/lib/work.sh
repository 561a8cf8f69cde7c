# shellcheck shell=bash
# What is done with a lab that is up: commands in it, the build, images, tests, measurements, logs.

require_up() { lab_is_up || die "the lab is not up; start it with: vagrant/lab up"; }

# lab_environment COMMAND…: COMMAND, a function of the lab or a program, with the variables that a user of the lab has.
# shellcheck disable=SC2030,SC2031 # a subshell on purpose
lab_environment() (
  export GREENROOM_STATE=$LAB/state
  export GREENROOM_SOCKET=$LAB/state/greenroom.sock
  export GREENROOM_LIBVIRT_URI=qemu:///system
  export GREENROOM_NETWORK=greenroom
  export GREENROOM_IMAGES=$CHECKOUT/images
  export GREENROOM_CHAINS=$CHECKOUT/chains
  export GREENROOM_CACHE=$CACHE
  export CARGO_TARGET_DIR=$CACHE/target
  export PATH=$CACHE/target/release:$CACHE/target/debug:$PATH
  "$@"
)

# in_lab_with_environment COMMAND…: as a user of the lab runs it. The room has no way out, so cargo must not look for one.
in_lab_with_environment() { lab_environment in_lab env CARGO_NET_OFFLINE=true "$@"; }

# --- code -------------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2031
cargo_or_die() {
  command -v cargo >/dev/null || die "cargo is not in PATH. The Rust toolchain is yours to install (https://rustup.rs, stable); run the lab with it in PATH"
  export CARGO_TARGET_DIR=$CACHE/target
  mkdir -p "$CARGO_TARGET_DIR"
}

# The device's agent runs where there is no C library: it is linked statically, the rest is not.
build_release() (
  cd "$CHECKOUT" || exit
  cargo build --release --locked --bin greenroom && static_agent --release
)

# static_agent OPTIONS…: compiles the device's agent. Cargo keeps one agent per profile, and each other command of it makes a
# dynamic one again.
static_agent() (
  cargo_or_die
  cd "$CHECKOUT" && cargo rustc --locked "$@" --bin greenroom-device -- -C target-feature=+crt-static
)

# is_static FILE: as the recipe of the image asks it.
is_static() { [[ -x $1 ]] && ! LC_ALL=C grep -q -a -F '/lib64/ld-linux-x86-64.so.2' "$1"; }

command_build() {
  wants_help "$@" && { echo "vagrant/lab build: cargo build --release --locked; the result is in <cache>/target/release, which is in PATH within the lab."; return; }
  (($# == 0)) || die_usage "build takes no arguments" build
  ensure_packages
  cargo_or_die
  build_release
}

# --- images -----------------------------------------------------------------------------------------------------------

# The recipes' build scripts fetch packages, and the room has no way out: they run on the host's network, in everything else
# like a command of the lab.
command_images() {
  wants_help "$@" && { echo "vagrant/lab images [NAME…]: greenroom image build NAME… (default: tiny toolbox device). Runs with the host's network, because recipes fetch Debian packages."; return; }
  require_up
  build_images "${@:-tiny toolbox device}"
}

build_images() {
  local -a names
  read -ra names <<<"$*"
  [[ -x $CACHE/target/release/greenroom || -x $CACHE/target/debug/greenroom ]] || die "greenroom is not built yet: vagrant/lab build"
  if [[ " ${names[*]} " == *" device "* && -z ${GREENROOM_DEVICE_AGENT:-} ]]; then
    # The image takes the agent that is beside the greenroom that builds it.
    if [[ -x $CACHE/target/release/greenroom ]]; then
      is_static "$CACHE/target/release/greenroom-device" || static_agent --release || return
    else
      is_static "$CACHE/target/debug/greenroom-device" || static_agent || return
    fi
  fi
  with_host_network greenroom image build "${names[@]}"
}

# with_host_network COMMAND…: all of the lab's namespaces but the network's.
with_host_network() {
  # shellcheck disable=SC2016
  lab_environment nsenter --target "$(lab_pid)" --mount --pid --cgroup --ipc -- \
    /bin/bash -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' lab "$PWD" "$@" 9>&-
}

# --- tests and measurements -------------------------------------------------------------------------------------------

# with_lab_up COMMAND…: starts the lab when it is down, and ends it again when it was this that started it.
with_lab_up() {
  local ours=0 status=0
  if ! lab_is_up; then ours=1; fi
  ensure_packages
  lab_up
  if ((ours)); then trap 'lab_down keep; exit 130' INT TERM; fi
  "$@" || status=$?
  if ((ours)); then
    trap - INT TERM
    lab_down keep
  fi
  return "$status"
}

command_test() {
  wants_help "$@" && { cat <<'U'
vagrant/lab test [ARGS…]: cargo test --locked --features fault-points in the lab, with real virtual machines.
ARGS go to cargo, for example: vagrant/lab test --test libvirt -- forks
Starts the lab when it is down, and then ends it afterwards. The images tiny and toolbox are built first when their inputs
changed (skip that with GREENROOM_LAB_SKIP_IMAGES=1), and emulated BMCs are installed and started for the tests of power
(leave those out with GREENROOM_LAB_SKIP_BMC=1). For the tests of the API schemathesis is installed once where there is a
package index (leave that out with GREENROOM_LAB_SKIP_SCHEMATHESIS=1).
U
    return; }
  cargo_or_die
  with_lab_up run_tests "$@"
}

run_tests() {
  # Compiled on the host's network, so that cargo can fetch crates; the room has none.
  (cd "$CHECKOUT" && cargo test --locked --features fault-points --no-run) || return
  if [[ -z ${GREENROOM_LAB_SKIP_IMAGES:-} ]]; then
    build_images tiny toolbox || return
    build_device_image || return
  fi
  if wants_bmc "$@"; then bmc_up || return; fi
  local schemathesis=''
  if wants_schemathesis "$@"; then
    schemathesis_up || return
    schemathesis=$(schemathesis_program)
  fi
  (cd "$CHECKOUT" && in_lab_with_environment env GREENROOM_LAB_READY=1 GREENROOM_BMC="$LAB/bmc" GREENROOM_SCHEMATHESIS="$schemathesis" cargo test --locked --features fault-points "$@")
}

# wants_bmc ARGS…: the tests of power are among those that run. They are when none is named.
wants_bmc() {
  [[ -z ${GREENROOM_LAB_SKIP_BMC:-} ]] || return 1
  [[ " $* " != *" --test "* || " $* " == *" --test power "* ]]
}

# The agent of the image is the one that is tested.
build_device_image() {
  static_agent --features fault-points || return
  GREENROOM_DEVICE_AGENT=$CARGO_TARGET_DIR/debug/greenroom-device build_images device
}

command_bench() {
  wants_help "$@" && { echo "vagrant/lab bench [NAME…] [--json FILE]: cargo bench --locked --bench lab in the lab. Other work on the machine moves absolute times by a factor of two: compare numbers of one run."; return; }
  cargo_or_die
  with_lab_up run_bench "$@"
}

run_bench() {
  (cd "$CHECKOUT" && cargo bench --locked --bench lab --no-run) && build_release || return
  if [[ -z ${GREENROOM_LAB_SKIP_IMAGES:-} ]]; then build_images tiny toolbox device || return; fi
  (cd "$CHECKOUT" && in_lab_with_environment env GREENROOM_LAB_READY=1 cargo bench --locked --bench lab -- "$@")
}

command_chaos() {
  wants_help "$@" && { cat <<'U'
vagrant/lab chaos [ARGS…]: first the sweeps on the simulated host, at every point instead of some of them; then the ignored
tests of tests/chaos, which kill daemons, VMs and steps at bad moments. ARGS go to the test program of the latter, and with
ARGS the former are left out.
U
    return; }
  cargo_or_die
  with_lab_up run_chaos "$@"
}

run_chaos() {
  (cd "$CHECKOUT" && cargo test --locked --features fault-points --test chaos --test scenarios --test pool --no-run) || return
  if (($# == 0)); then
    (cd "$CHECKOUT" && GREENROOM_EVERY_POINT=1 \
      cargo test --locked --features fault-points --test scenarios --test pool -- --nocapture kill) || return
  fi
  if [[ -z ${GREENROOM_LAB_SKIP_IMAGES:-} ]]; then build_images tiny toolbox || return; fi
  (cd "$CHECKOUT" && in_lab_with_environment env GREENROOM_LAB_READY=1 \
    cargo test --locked --features fault-points --test chaos -- --ignored --nocapture "$@")
}

# --- looking ----------------------------------------------------------------------------------------------------------

command_status() {
  wants_help "$@" && { echo "vagrant/lab status: what runs in the lab. Exit code 0 when it is up, 3 when it is down."; return; }
  row() { printf '%-12s %s\n' "$1" "$2"; }
  local code=0
  if lab_is_up; then
    row lab "up, process $(lab_pid)"
    row libvirt "$(in_lab virsh -c qemu:///system version 2>/dev/null | sed -n 's/^Using library: libvirt //p' || true)"
    row QEMU "$(in_lab virsh -c qemu:///system version 2>/dev/null | sed -n 's/^Running hypervisor: QEMU //p' || true)"
    row domains "$(in_lab virsh -q -c qemu:///system list --name 2>/dev/null | grep -c . || true) running, $(in_lab virsh -q -c qemu:///system list --all --name 2>/dev/null | grep -c . || true) in all"
    row network "$(in_lab ip -4 -brief address show gr0 2>/dev/null | awk '{print $1, $3}' || true)"
    if daemon_is_running; then row greenroom "running, process $(<"$LAB/greenroom.pid") of the lab"; else row greenroom "not running"; fi
  else
    row lab "down"
    code=3
  fi
  row state "$LAB ($(size_of "$LAB"))"
  row cache "$CACHE ($(size_of "$CACHE"))"
  row images "$(image_names)"
  return "$code"
}

size_of() { if [[ -d $1 ]]; then du -shx "$1" 2>/dev/null | cut -f1 || true; else printf 'absent'; fi; }

# image_names: recipes of the checkout; the built ones are greenroom's to list.
image_names() {
  local recipe
  for recipe in "$CHECKOUT"/images/*/recipe.yaml; do basename "$(dirname "$recipe")"; done | paste -sd' '
}

command_log() {
  wants_help "$@" && { echo "vagrant/lab log [NAME] [-f]: the last lines of a log; without NAME the list of them. -f follows."; return; }
  local name='' follow='' file candidate
  for word; do
    case $word in
      -f | --follow) follow=1 ;;
      -*) die_usage "log does not know \"$word\"" log ;;
      *) name=$word ;;
    esac
  done
  if [[ -z $name ]]; then
    find "$LAB/log" "$LAB/libvirt/log" -name '*.log' -printf '%TY-%Tm-%Td %TH:%TM  %8s  %p\n' 2>/dev/null | sort || true
    return
  fi
  file=''
  for candidate in "$LAB/log/$name.log" "$LAB/libvirt/log/$name.log" "$LAB/libvirt/log/qemu/$name.log"; do
    if [[ -e $candidate ]]; then file=$candidate; break; fi
  done
  [[ -n $file ]] || die "there is no log \"$name\"; see the list: vagrant/lab log" 3
  if [[ $follow ]]; then exec tail -n 50 -F "$file"; else tail -n 50 "$file"; fi
}

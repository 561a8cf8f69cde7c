# shellcheck shell=bash
# Two devices with empty disks become two different personas, from nothing to reporting, in steps that can be read one by one.

readonly demo_chain=onboard demo_web=web-1 demo_db=db-1
# From power-on until both report and are judged, seconds. Two emulated onboardings at once on two busy cores take half of it.
readonly demo_patience_s=${GREENROOM_DEMO_PATIENCE:-2400}

command_demo() {
  wants_help "$@" && { cat <<'U'
vagrant/lab demo [--compiled] [--kills N]: starts the lab, compiles greenroom, builds the images, starts the daemon, lets it make a few
machines ahead of need, applies the personas "web-server" and "db-node" with rules on hardware facts and the chain "onboard",
and switches on two blank VMs of different hardware. Nobody says which is to become what: they boot from the network, are
discovered, get their personas, images and first reports. Then it shows their consoles, their packet filters as they are in
force, the performance report of each, and how long each step took. --compiled takes what is compiled already. --kills N kills
the daemon (SIGKILL) at N random moments of the onboarding and starts it again: both devices have to come out all the same.
The web interface is there from the start, at an address of this host's loopback that is printed first.
The lab and the web interface stay up; end them with vagrant/lab down. Compiling takes some ten minutes the first time; then it is ten.
U
    return; }
  local compiled='' demo_kills=0 demo_before=0
  while (($#)); do
    case $1 in
      --compiled) compiled=1 ;;
      --kills)
        [[ ${2:-} =~ ^[0-9]+$ ]] || die_usage "--kills needs a number" demo
        demo_kills=$2
        shift
        ;;
      *) die_usage "demo does not know \"$1\"" demo ;;
    esac
    shift
  done
  demo_lab
  [[ $compiled ]] || demo_compile
  demo_images
  demo_daemon
  web_open
  demo_pool
  demo_rules
  demo_power_on
  demo_watch
  demo_show "$demo_web" nginx
  demo_show "$demo_db" 'srv-data|nftables'
  demo_end
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

# The lab has a network of its own, so a listener on the host's loopback hands connections on. It belongs to the lab's
# processes and ends with them.
web_open() {
  # shellcheck disable=SC2016
  web_answers || with_host_network setsid --fork /bin/bash -c 'exec socat TCP-LISTEN:"$1",bind=127.0.0.1,reuseaddr,fork EXEC:"nsenter --net=/proc/1/ns/net socat STDIO TCP\:127.0.0.1\:$1" </dev/null >>"$2/log/web.log" 2>&1' web "$WEB_PORT" "$LAB"
  local tries
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    web_answers && break
    ((tries < 10)) || hint "nothing listens at 127.0.0.1:$WEB_PORT: see vagrant/lab log web; another port: GREENROOM_WEB_PORT with vagrant/lab down and up"
    sleep 0.3
  done
  web_say
}

web_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$WEB_PORT") 2>/dev/null; }

web_say() {
  local code
  note ""
  note "The web interface: https://127.0.0.1:$WEB_PORT/   (its certificate is its own: the browser asks once)"
  note "  from another machine: ssh -L $WEB_PORT:127.0.0.1:$WEB_PORT ${HOSTNAME:-this-host}"
  if [[ $(in_lab_with_environment greenroom user list -o json 2>/dev/null | jq -r length) == 0 ]]; then
    code=$(sed -n 's/^    \([A-Z0-9-]\{8,\}\)$/\1/p' "$LAB/log/greenroom.log" | tail -n 1)
    note "  Make the first admin at https://127.0.0.1:$WEB_PORT/first-admin with the one-time code: ${code:-see vagrant/lab log greenroom}"
  else
    note "  Log in with the user that you made (greenroom user list)."
  fi
}

# Machines that wait before they are asked for: each stage then begins at once.
demo_pool() {
  demo_say greenroom pool set tiny --hot 1 --wait
  demo_say greenroom pool set toolbox --hot 2 --wait
}

# The rules speak of hardware; which device has which is found out when it comes.
demo_rules() {
  local personas=$CHECKOUT/chains/personas
  demo_say greenroom persona apply -f "$personas/base.yaml" -f "$personas/web-server.yaml" -f "$personas/db-node.yaml" --promote
  demo_say greenroom persona rules apply "$personas/rules/hardware.yaml"
  demo_say greenroom chain apply "$CHECKOUT/chains/$demo_chain.yaml"
}

# What is declared is what somebody would read from the box and the plan of the network: serial, first card, and for the
# database its address, which its persona takes from there.
demo_power_on() {
  local name
  for name in "$demo_web" "$demo_db"; do
    [[ ! -e $LAB/devices/$name.qcow2 ]] || demo_forget "$name"
  done
  # What an earlier demo left is not what this one waits for.
  demo_before=$(in_lab_with_environment greenroom run list -o json | jq 'map(.id) | max // 0')
  note ""
  note "Two machines on the provisioning network, declared by serial number:"
  device_facts "$demo_web" | in_lab_with_environment greenroom device add -f -
  device_facts "$demo_db" | sed 's|wishes: {}|wishes: { network: { address: 192.168.91.9/24, gateway: 192.168.91.1 } }|' |
    in_lab_with_environment greenroom device add -f -
  device_add "$demo_web" --memory 1536 --cpus 1 --disk 12 --nics 1 --vendor Supermicro --product "SYS-5019S"
  # db-node wants two processors, 4 GiB and a disk of 64 GiB; nothing of it is used until it is written.
  device_add "$demo_db" --memory 4608 --cpus 2 --disk 16 --disk 65 --nics 2 --vendor "Dell Inc." --product "PowerEdge R650"
}

# What an earlier demo made.
demo_forget() {
  device_remove "$1"
  in_lab_with_environment greenroom run list --device "$1" -o json 2>/dev/null |
    jq -r '.[] | select(.state == "queued" or .state == "running" or .state == "waiting" or .state == "undoing" or .state == "held") | .id' |
    while read -r run; do in_lab_with_environment greenroom run abort "$run" || true; done
  in_lab_with_environment greenroom device forget "$1" >/dev/null 2>&1 || true
}

# Every event as it happens, until both runs are over: they end with the report on what the devices say of themselves.
demo_watch() {
  local deadline=$(($(now_ms) + demo_patience_s * 1000)) watcher name states killed=0 next_kill
  next_kill=$(($(now_ms) + 10000 + RANDOM % 60 * 1000))
  note ""
  note "\$ greenroom device watch"
  in_lab_with_environment greenroom device watch &
  watcher=$!
  while :; do
    states=''
    for name in "$demo_web" "$demo_db"; do states+=" $(demo_state "$name")"; done
    [[ $states != ' succeeded succeeded' ]] || break
    if [[ $states =~ held|failed|aborted ]] || (($(now_ms) > deadline)); then
      kill "$watcher" 2>/dev/null || true
      note ""
      demo_say greenroom run list
      for name in "$demo_web" "$demo_db"; do demo_say greenroom device show "$name" || true; done
      die "the devices are$states after $((demo_patience_s - (deadline - $(now_ms)) / 1000)) s; see vagrant/lab log greenroom"
    fi
    if ((killed < demo_kills && $(now_ms) > next_kill)); then
      killed=$((killed + 1))
      demo_kill "$killed"
      kill "$watcher" 2>/dev/null || true
      in_lab_with_environment greenroom device watch &
      watcher=$!
      next_kill=$(($(now_ms) + 10000 + RANDOM % 60 * 1000))
    fi
    sleep 3
  done
  kill "$watcher" 2>/dev/null || true
  wait "$watcher" 2>/dev/null || true
  ((killed == demo_kills)) || hint "the devices were there before the daemon was killed $demo_kills times: it was $killed"
}

# demo_kill N: without warning, for the Nth time.
demo_kill() {
  note ""
  note "The daemon is killed at $(date +%T) (SIGKILL, number $1) and started again:"
  local pid
  pid=$(<"$LAB/greenroom.pid")
  in_lab kill -KILL "$pid"
  # Its locks are its own until it has ended.
  while in_lab test -d "/proc/$pid"; do sleep 0.1; done
  rm -f "$LAB/greenroom.pid"
  step "daemon" start_daemon
}

# demo_state NAME: of its newest run.
demo_state() {
  in_lab_with_environment greenroom run list --device "$1" -o json 2>/dev/null |
    jq -r --argjson before "$demo_before" 'map(select(.id > $before)) | max_by(.id).state // "none"' || echo none
}

demo_run_of() { in_lab_with_environment greenroom run list --device "$1" -o json | jq -r 'max_by(.id).id'; }

# demo_show NAME PATTERN: PATTERN is what its console says of its application.
demo_show() {
  local name=$1 pattern=$2 run
  run=$(demo_run_of "$name")
  note ""
  note "======== $name ========"
  demo_say greenroom persona why "$name"
  demo_say greenroom device timeline "$name"
  note ""
  note "Its serial console (host name, application, packet filter):"
  device_console "$name" | tr '\r' '\n' | sed 's/\[[0-9;]*[mKHJ]//g' | grep -E "login:|Started|Finished|Mounted|Hostname set" |
    grep -E "login:|Hostname|$pattern|nftables|ssh" | tail -n 10 | sed 's/^/  │ /' || true
  note ""
  note "Its packet filter, as its kernel has it:"
  in_lab_with_environment greenroom device telemetry "$name" -o json | jq -r '.latest.details.firewall[]? | select(test("policy|dport|saddr"))' | sed 's/^/  │ /'
  demo_say greenroom device telemetry "$name"
  note ""
  note "What was expected of it and what was seen (run $run, stage performance):"
  in_lab_with_environment greenroom run output "$run" -o json |
    jq -r '(.document // .).performance | "  \(.verdict): \(.passed) of \(.checks | length) expectations met",
      (.checks[] | "  \(if .passed then "ok   " else "below" end) \(.name): expected \(.expected), seen \(.seen // "nothing") — \(.reason)")'
}

demo_end() {
  note ""
  note "What remains are machines that wait for the next one who needs them:"
  demo_say greenroom pool top --once
  demo_say greenroom device watch --once
  note ""
  web_say
  note ""
  note "Where to look next, in vagrant/lab shell:"
  note "  greenroom device show $demo_web               where it stands, the end of its console"
  note "  greenroom run show $(demo_run_of "$demo_web")                    its stages, machines and times; greenroom run logs, run output"
  note "  greenroom device telemetry $demo_db --since 1h"
  note "  greenroom persona preview db-node --device $demo_db"
  note "  greenroom device reprovision $demo_web        then: virsh -c qemu:///system reset $demo_web"
  note "End: vagrant/lab down"
}

# demo_say COMMAND…: shows the command as a user would type it in the lab, then runs it.
demo_say() {
  note ""
  note "\$ $*"
  in_lab_with_environment "$@"
}

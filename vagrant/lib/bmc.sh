# shellcheck shell=bash
# Baseboard controllers for the lab's machines: sushy-tools' emulator speaks Redfish for every VM of the lab's libvirtd, and
# virtualbmc speaks IPMI for those that are added to it. Both run inside of the room and listen on its loopback only.
#
# They are Python programs, installed with pinned versions into a folder of the cache that is named after everything that
# goes into it, so that an upgrade of libvirt or of a pin makes a new one.
#
#   $LAB/bmc/   url, fingerprint, user, password      what a client has to know (the folder is root's alone)
#               sushy.conf, auth, cert.pem, key.pem   of the emulator
#               virtualbmc.conf, vbmc/                of virtualbmc; use it with VIRTUALBMC_CONFIG
#               bin                                   where `vbmc` is

readonly bmc_packages=(ipmitool curl python3-venv python3-dev gcc libc6-dev libvirt-dev pkg-config openssl)
readonly bmc_port=8443

command_bmc() {
  wants_help "$@" && { bmc_usage; return; }
  require_up
  case ${1:-} in
    up) bmc_up ;;
    down) bmc_down ;;
    show) bmc_show ;;
    ipmi) shift; bmc_ipmi "$@" ;;
    *) die_usage "bmc does not know \"${1:-}\"" bmc ;;
  esac
}

bmc_usage() {
  cat <<'U'
vagrant/lab bmc up              installs (once) and starts the emulated BMCs of the lab's machines
vagrant/lab bmc show            how they are reached, and a command that makes a device use one
vagrant/lab bmc ipmi NAME PORT  gives a machine a BMC that speaks IPMI, at 127.0.0.1 and a UDP port of its own
vagrant/lab bmc down            ends them
U
}

bmc_up() {
  if bmc_is_running sushy && bmc_is_running vbmcd; then
    hint "BMCs: already up"
    return 0
  fi
  bmc_ensure_packages
  local venv
  venv=$(bmc_venv)
  [[ -e $venv/complete ]] || step "BMC programs" bmc_install "$venv"
  step "BMCs" bmc_start "$venv"
}

bmc_ensure_packages() {
  local name
  local -a missing=()
  for name in "${bmc_packages[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null) == ii* ]] && continue
    [[ $name == pkg-config && -x /usr/bin/pkg-config ]] && continue
    missing+=("$name")
  done
  ((${#missing[@]} == 0)) || step "packages for BMCs" install_packages "${missing[@]}"
}

# bmc_venv: the folder's name is a digest of the pins, of Python and of the libvirt that libvirt-python is compiled for.
bmc_venv() {
  printf '%s/bmc-%s' "$CACHE" "$( (cat "$HERE/lib/bmc-requirements.txt"; /usr/bin/python3 --version; pkg-config --modversion libvirt) | sha256sum | cut -c1-12)"
}

# Built beside and moved into place by the mark, so that one that was broken off is made anew.
bmc_install() {
  local venv=$1
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  PIP_CACHE_DIR=$CACHE/pip "$venv/bin/pip" install --quiet --disable-pip-version-check \
    -r "$HERE/lib/bmc-requirements.txt" "libvirt-python==$(pkg-config --modversion libvirt)"
  : >"$venv/complete"
}

bmc_start() {
  local venv=$1 folder=$LAB/bmc
  bmc_end
  mkdir -p "$folder/vbmc" "$folder/tmp"
  chmod 0700 "$folder"
  ln -sfn "$venv/bin" "$folder/bin"
  bmc_write_configuration "$venv" "$folder"
  bmc_run sushy "$folder" "$venv/bin/sushy-emulator" --config "$folder/sushy.conf"
  # vbmcd takes whatever process has the number of its last life for itself, and refuses to start.
  bmc_is_running vbmcd || rm -f "$folder/vbmc/master.pid"
  bmc_run vbmcd "$folder" "$venv/bin/vbmcd" --foreground
  bmc_wait "$folder"
}

bmc_write_configuration() (
  local venv=$1 folder=$2
  umask 077
  if [[ ! -s $folder/password ]]; then
    # 20 bytes is what IPMI takes at most.
    head -c 9 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' >"$folder/password"
  fi
  printf admin >"$folder/user"
  printf 'https://127.0.0.1:%d' "$bmc_port" >"$folder/url"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=bmc.lab \
    -addext 'subjectAltName=IP:127.0.0.1' -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
  openssl x509 -in "$folder/cert.pem" -noout -fingerprint -sha256 | sed 's/.*=//' | tr -d ':\n' | tr 'A-F' 'a-f' >"$folder/fingerprint"
  "$venv/bin/python" -c 'import bcrypt, sys; sys.stdout.write("admin:" + bcrypt.hashpw(sys.stdin.buffer.read(), bcrypt.gensalt(4)).decode() + "\n")' \
    <"$folder/password" >"$folder/auth"
  cat >"$folder/sushy.conf" <<C
SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'
SUSHY_EMULATOR_LISTEN_PORT = $bmc_port
SUSHY_EMULATOR_SSL_CERT = '$folder/cert.pem'
SUSHY_EMULATOR_SSL_KEY = '$folder/key.pem'
SUSHY_EMULATOR_AUTH_FILE = '$folder/auth'
SUSHY_EMULATOR_LIBVIRT_URI = 'qemu:///system'
SUSHY_EMULATOR_BOOT_LOADER_MAP = {'UEFI': {'x86_64': '/usr/share/OVMF/OVMF_CODE_4M.fd'}, 'Legacy': {'x86_64': None}}
SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.fd'
C
  cat >"$folder/virtualbmc.conf" <<C
[default]
config_dir = $folder/vbmc
pid_file = $folder/vbmc/master.pid
server_port = 50891
C
)

# bmc_run NAME FOLDER COMMAND…: COMMAND in the room, outliving this; its pid, as the room counts, is noted by the shell that
# becomes it.
bmc_run() {
  local name=$1 folder=$2
  shift 2
  # shellcheck disable=SC2016
  in_lab setsid --fork env TMPDIR="$folder/tmp" VIRTUALBMC_CONFIG="$folder/virtualbmc.conf" PYTHONDONTWRITEBYTECODE=1 \
    /bin/bash -c 'echo $$ >"$1/$2.pid"; log=$3; shift 3; exec "$@" </dev/null >>"$log" 2>&1' bmc "$folder" "$name" "$LAB/log/$name.log" "$@"
}

bmc_wait() {
  local folder=$1 deadline=$(($(now_ms) + 60000))
  until in_lab curl -fsS --cacert "$folder/cert.pem" -K <(printf 'user = "admin:%s"\n' "$(<"$folder/password")") \
    "https://127.0.0.1:$bmc_port/redfish/v1/" >/dev/null 2>&1 &&
    in_lab env VIRTUALBMC_CONFIG="$folder/virtualbmc.conf" "$folder/bin/vbmc" list >/dev/null 2>&1; do
    if (($(now_ms) > deadline)); then
      echo "the emulated BMCs did not answer within 60 s:"
      tail -n 15 "$LAB/log/sushy.log" "$LAB/log/vbmcd.log"
      return 1
    fi
    sleep 0.3
  done
}

# bmc_is_running NAME: the pid file may be of an earlier room, whose numbers begin anew.
bmc_is_running() {
  local pid
  pid=$(cat "$LAB/bmc/$1.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  in_lab grep -qsa -e "$LAB/bmc" -e "/bmc-[0-9a-f]*/bin/" "/proc/$pid/cmdline"
}

bmc_end() {
  local name pid
  for name in sushy vbmcd; do
    bmc_is_running "$name" || continue
    pid=$(<"$LAB/bmc/$name.pid")
    in_lab kill -TERM "$pid" 2>/dev/null || true
    for _ in {1..50}; do
      bmc_is_running "$name" || break
      sleep 0.1
    done
    if bmc_is_running "$name"; then in_lab kill -KILL "$pid" 2>/dev/null || true; fi
  done
  rm -f "$LAB"/bmc/*.pid
}

bmc_down() { step "BMCs end" bmc_end; }

bmc_show() {
  bmc_is_running sushy || die "the BMCs are not up; start them with: vagrant/lab bmc up"
  cat <<U
Redfish      $(<"$LAB/bmc/url"), a system per machine of the lab (vagrant/lab device list)
user         $(<"$LAB/bmc/user")
password     in $LAB/bmc/password
certificate  SHA-256 $(<"$LAB/bmc/fingerprint")

  vagrant/lab exec greenroom device bmc set NAME --redfish $(<"$LAB/bmc/url") --system VM \\
    --user $(<"$LAB/bmc/user") --password-file $LAB/bmc/password --fingerprint $(<"$LAB/bmc/fingerprint")
U
}

# virtualbmc's server side knows cipher suite 3 only: clients have to say so.
bmc_ipmi() {
  local name=${1:-} port=${2:-} folder=$LAB/bmc
  device_name "$name"
  [[ $port =~ ^[0-9]+$ ]] || die_usage "bmc ipmi needs a UDP port, such as 6230" bmc
  bmc_is_running vbmcd || die "the BMCs are not up; start them with: vagrant/lab bmc up"
  bmc_vbmc add "$name" --address 127.0.0.1 --port "$port" --username "$(<"$folder/user")" --password "$(<"$folder/password")" --libvirt-uri qemu:///system
  bmc_vbmc start "$name"
  hint "IPMI for $name: --ipmi 127.0.0.1 --port $port --cipher 3"
}

bmc_vbmc() { in_lab env VIRTUALBMC_CONFIG="$LAB/bmc/virtualbmc.conf" "$LAB/bmc/bin/vbmc" "$@"; }

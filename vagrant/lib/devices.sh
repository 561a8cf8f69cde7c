# shellcheck shell=bash
# Devices to be provisioned: libvirt VMs with an empty disk and a network boot ROM on a network of their own. They carry
# none of Greenroom's tags: to it they are what any machine on that network is.
#
# The network has a bridge and addresses, and neither DHCP nor DNS: those are Greenroom's there (boot.dhcp: full). Stages'
# machines stay on their own network, so that neither sees the other.

define_device_network() {
  in_lab virsh -q -c qemu:///system net-define /dev/stdin <<'X'
<network>
  <name>devices</name>
  <bridge name='gr1' stp='off' delay='0'/>
  <dns enable='no'/>
  <ip address='192.168.91.1' netmask='255.255.255.0'/>
</network>
X
  in_lab virsh -q -c qemu:///system net-start devices
  # Greenroom announces a router with it, for which firmware waits 13 s otherwise. libvirt would start a dnsmasq for it.
  in_lab sysctl -q -w net.ipv6.conf.gr1.disable_ipv6=0
  in_lab ip -6 address add fd90:91::1/64 dev gr1 nodad
  in_lab ip -brief address show gr1
}

# write_boot_configuration: the network boot is in a file of its own, because only the lab's one daemon may have it; daemons
# of tests run beside it without.
write_boot_configuration() {
  cat >"$LAB/boot.yaml" <<Y
boot:
  enabled: true
  interface: gr1
  address: 192.168.91.1
  dhcp: full
  first: 192.168.91.10
  last: 192.168.91.250
  approve: network
  # What the devices' serial consoles say, for \`device show\`.
  consoles: $LAB/devices
# The web interface; the demo lets the host's own browser through to it.
api:
  address: 127.0.0.1:$WEB_PORT
Y
}

command_device() {
  wants_help "$@" && { device_usage; return; }
  require_up
  local verb=${1:-}
  shift || true
  case $verb in
    add) device_add "$@" ;;
    list) device_list ;;
    console) device_console "$@" ;;
    facts) device_facts "$@" ;;
    remove) device_remove "$@" ;;
    *) die_usage "device does not know \"$verb\"" device ;;
  esac
}

device_usage() {
  cat <<'U'
vagrant/lab device add NAME [--memory MIB] [--cpus N] [--disk GIB]… [--nics N] [--vendor TEXT] [--product TEXT] [--mac MAC]
                                [--code CODE] [--uefi] [--no-rom] [--no-start]
                                makes a VM with empty disks that boots from the network, and switches it on;
                                --code: of "greenroom device code create", in its firmware's tables;
                                --no-rom: with the firmware's own PXE, not with the card's iPXE (UEFI only)
vagrant/lab device facts NAME   what is printed on it, for \`greenroom device add -f -\`: its serial and its first card's address
vagrant/lab device list         which there are, and whether they are on
vagrant/lab device console NAME [-f]
                                what its serial console said; -f follows
vagrant/lab device remove NAME  switches it off and removes it with its disk
U
}

device_name() {
  [[ ${1:-} =~ ^[a-z0-9][a-z0-9-]{0,40}$ ]] || die_usage "a device's name has small letters, digits and hyphens, not \"${1:-}\"" device
}

device_add() {
  local name=${1:-} memory=1024 cpus=1 nics=1 mac='' firmware='' rom='' code='' start=1 folder number
  local vendor=Greenroom product='Lab device'
  local -a disks=()
  device_name "$name"
  shift
  while (($#)); do
    case $1 in
      --memory) memory=$2; shift ;;
      --cpus) cpus=$2; shift ;;
      --disk) disks+=("$2"); shift ;;
      --nics) nics=$2; shift ;;
      --vendor) vendor=$2; shift ;;
      --product) product=$2; shift ;;
      --mac) mac=$2; shift ;;
      --code) code=$2; shift ;;
      --uefi) firmware=uefi ;;
      --no-rom) rom="<rom enabled='no'/>" ;;
      --no-start) start='' ;;
      *) die_usage "device add does not know \"$1\"" device ;;
    esac
    shift
  done
  ((${#disks[@]})) || disks=(9)
  for number in "$memory" "$cpus" "$nics" "${disks[@]}"; do
    [[ $number =~ ^[0-9]+$ ]] || die_usage "--memory, --cpus, --disk and --nics are numbers" device
  done
  ((nics >= 1 && nics <= 8 && ${#disks[@]} <= 8)) || die_usage "a device has 1 to 8 cards and at most 8 disks" device
  [[ $vendor$product =~ ^[A-Za-z0-9\ .,_-]+$ ]] || die_usage "--vendor and --product have letters, digits, spaces and . , _ -" device
  [[ $code =~ ^[0-9A-Za-z-]{0,40}$ ]] || die_usage "--code is like 00000-AAAAA-…" device
  # The same name has the same hardware each time it is made.
  local digest
  digest=$(device_digest "$name")
  [[ -n $mac ]] || mac=$(device_mac "$name")
  [[ $mac =~ ^([0-9a-f]{2}:){5}[0-9a-f]{2}$ ]] || die_usage "--mac is like 52:54:00:12:34:56" device
  local uuid=${digest:8:8}-${digest:16:4}-4${digest:21:3}-8${digest:25:3}-${digest:28:12}
  folder=$LAB/devices
  mkdir -p "$folder"
  chmod 0711 "$folder"
  for number in "${!disks[@]}"; do
    in_lab qemu-img create -q -f qcow2 "$(device_disk "$folder" "$name" "$number")" "${disks[number]}G"
    chmod 0666 "$(device_disk "$folder" "$name" "$number")"
  done
  # A device that nobody has declared is known by its card.
  ln -sf "$name.console" "$folder/${mac//:/-}.console"
  device_xml "$name" "$memory" "$cpus" "$mac" "$uuid" "$folder" "$firmware" "$rom" "$nics" "${#disks[@]}" "$vendor" "$product" "$code" |
    in_lab virsh -q -c qemu:///system define /dev/stdin
  [[ -z $start ]] || in_lab virsh -q -c qemu:///system start "$name"
  hint "device $name: $mac, serial $(device_serial "$name")"
}

device_digest() { printf 'device %s' "$1" | sha256sum; }
device_serial() { printf 'GR-%s' "$(device_digest "$1" | cut -c1-8)"; }
device_mac() { device_digest "$1" | sed -E 's/^(..)(..)(..).*/52:54:00:\1:\2:\3/'; }

# device_disk FOLDER NAME NUMBER: the first one says by its name that the device is there.
device_disk() { if (($3 == 0)); then printf '%s/%s.qcow2' "$1" "$2"; else printf '%s/%s.disk%s' "$1" "$2" "$3"; fi; }

device_facts() {
  local name=${1:-}
  device_name "$name"
  cat <<Y
name: $name
facts:
  hardware:
    serial: $(device_serial "$name")
    nics: [{ name: eth0, mac: "$(device_mac "$name")" }]
  wishes: {}
Y
}

# Network first, disk second: a machine with a system on its disk still asks the network whether it should go there.
device_xml() {
  local name=$1 memory=$2 cpus=$3 mac=$4 uuid=$5 folder=$6 firmware=$7 rom=$8 nics=$9 disk_count=${10} vendor=${11} product=${12} code=${13}
  local loader='' number more=''
  # Only the first card and the first disk are booted from.
  for ((number = 1; number < disk_count; number++)); do
    more+="    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/><source file='$(device_disk "$folder" "$name" "$number")'/>
      <target dev='vd$(printf '%b' "\\x$(printf %x $((97 + number)))")' bus='virtio'/><serial>disk$number-$(device_digest "$name" | cut -c1-8)</serial></disk>
"
  done
  for ((number = 1; number < nics; number++)); do
    more+="    <interface type='network'><source network='devices'/><mac address='${mac%:*}:$(printf %02x $(((16#${mac##*:} + number) % 256)))'/><model type='virtio'/><rom enabled='no'/></interface>
"
  done
  if [[ -n $firmware ]]; then
    [[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ]] || die "UEFI devices need the package ovmf: apt-get install ovmf"
    loader="<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>$folder/$name.nvram</nvram>"
  fi
  [[ -z $code ]] || code="<oemStrings><entry>greenroom.code=$code</entry></oemStrings>"
  cat <<X
<domain type='qemu'>
  <name>$name</name><uuid>$uuid</uuid>
  <memory unit='MiB'>$memory</memory><vcpu>$cpus</vcpu>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>$vendor</entry><entry name='product'>$product</entry><entry name='serial'>$(device_serial "$name")</entry>
  </system>$code</sysinfo>
  <os><type arch='x86_64' machine='q35'>hvm</type>$loader<smbios mode='sysinfo'/><bios useserial='yes' rebootTimeout='0'/></os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/><source file='$folder/$name.qcow2'/>
      <target dev='vda' bus='virtio'/><serial>disk-$(device_digest "$name" | cut -c1-8)</serial><boot order='2'/></disk>
    <interface type='network'><source network='devices'/><mac address='$mac'/><model type='virtio'/>$rom<boot order='1'/></interface>
$more    <serial type='file'><source path='$folder/$name.console' append='on'/><target port='0'/></serial>
    <console type='file'><source path='$folder/$name.console' append='on'/><target type='serial' port='0'/></console>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>
X
}

# Its own domains are those whose disk is in the folder of devices.
device_names() { find "$LAB/devices" -maxdepth 1 -name '*.qcow2' -printf '%f\n' 2>/dev/null | sed 's/\.qcow2$//' | sort; }

device_list() {
  local name
  for name in $(device_names); do
    printf '%-20s %s\n' "$name" "$(in_lab virsh -q -c qemu:///system domstate "$name" 2>/dev/null || echo gone)"
  done
}

device_console() {
  local name=${1:-}
  device_name "$name"
  [[ -e $LAB/devices/$name.console ]] || die "there is no device \"$name\", or it was never on; see: vagrant/lab device list" 3
  # What a machine writes is not for the terminal's own use.
  if [[ ${2:-} == -f ]]; then tail -n +1 -F "$LAB/devices/$name.console" | tr -d '\000-\010\013-\037\177'; else tr -d '\000-\010\013-\037\177' <"$LAB/devices/$name.console"; fi
}

device_remove() {
  local name=${1:-}
  device_name "$name"
  [[ -e $LAB/devices/$name.qcow2 ]] || die "there is no device \"$name\"; see: vagrant/lab device list" 3
  in_lab virsh -q -c qemu:///system destroy "$name" 2>/dev/null || true
  in_lab virsh -q -c qemu:///system undefine "$name" --nvram 2>/dev/null || in_lab virsh -q -c qemu:///system undefine "$name" || true
  rm -f "$LAB/devices/$name".{qcow2,console,nvram} "$LAB/devices/$name".disk*
  find "$LAB/devices" -maxdepth 1 -type l -lname "$name.console" -delete
}

#!/bin/sh
# Decides what the device becomes. Reads texts and lists joined by `,` (entries), `|` (fields) and `;` (keys of a user);
# writes the plan that all later stages follow. For busybox: no jq here.
#
# Every text is checked against the alphabet of the place where it will end up, so that it can be written into JSON here, and
# into configuration files later, as it is.
set -eu
set -f

readonly BIOS_BOOT_MIB=1 ESP_MIB=64 EDGE_MIB=2 # EDGE: before the first and after the last partition
readonly ROOT_LEAST_MIB=640                    # what is unpacked takes 300 MiB, an application, a journal and air the rest
readonly DISK_LEAST_GIB=8 MEMORY_LEAST_MIB=512

faults=0

main() {
    say "reading what is known about $GREENROOM_DEVICE"
    hostname=$(field hostname)
    [ -n "$hostname" ] || hostname=$(printf %s "$GREENROOM_DEVICE" | tr 'A-Z_.' 'a-z--')
    check_persona
    check_hostname
    check_machine
    choose_boot
    choose_root_disk
    lay_out
    choose_network
    list_users
    list_applications
    list_open_ports
    check_region
    [ "$faults" -eq 0 ] || { echo "facts: $faults things do not fit; mend the device's facts and start a new run" >&2; exit 1; }
    write_plan > "$GREENROOM_OUTPUT"
    say "the plan for $hostname is made"
}

say() { echo "facts: $*"; }
fault() { echo "facts: $*" >&2; faults=$((faults + 1)); }

# The value of a field. The input is one flat object whose texts have neither quotes nor backslashes.
field() { sed -n 's/.*"'"$1"'":"\([^"\\]*\)".*/\1/p' "$GREENROOM_INPUT"; }

# matches TEXT PATTERN: the whole text.
matches() { printf '%s\n' "$1" | grep -Eqx -e "$2"; }

is_name() { matches "$1" '[a-z_][a-z0-9_-]{0,30}'; }
is_number() { matches "$1" '0|[1-9][0-9]{0,8}'; }
is_ipv4() { matches "$1" '((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'; }
is_ipv4_with_length() { is_ipv4 "${1%/*}" && matches "$1" '[^/]*/([1-9]|[12][0-9]|3[0-2])'; }

# each LIST COMMAND: calls COMMAND with the fields of each entry.
each() {
    entries=$1
    while [ -n "$entries" ]; do
        entry=${entries%%,*}
        case $entries in *,*) entries=${entries#*,} ;; *) entries= ;; esac
        [ -z "$entry" ] || split "$2" "$entry"
    done
}
split() {
    command=$1
    old_ifs=$IFS
    IFS='|'
    # shellcheck disable=SC2086
    set -- $2
    IFS=$old_ifs
    "$command" "$@"
}

# joined LIST ITEM: the list with one more item.
joined() { if [ -n "$1" ]; then printf '%s,%s' "$1" "$2"; else printf %s "$2"; fi; }

# What the persona asks of the device was compared with its facts when the run was made.
check_persona() {
    persona=$(field persona)
    [ -n "$persona" ] || { say "no persona: the owner's wishes count"; return 0; }
    say "persona: $persona"
    problems=$(field problems)
    [ "$problems" = 0 ] ||
        fault "the persona $persona does not fit: $problems reasons, told by \`greenroom persona preview $persona --device $GREENROOM_DEVICE\`"
    cmdline=$(field cmdline)
    matches "$cmdline" '[A-Za-z0-9 ._=,:/@+-]*' || fault "\"$cmdline\" cannot be on a kernel's command line"
}

check_hostname() {
    matches "$hostname" '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?' ||
        fault "\"$hostname\" cannot be a host name: small letters, digits and inner hyphens, at most 63"
}

check_machine() {
    memory_mib=$(field memory_mib)
    [ "$(field arch)" = x86_64 ] || fault "this builds systems for x86_64, the device is $(field arch)"
    if ! is_number "$memory_mib" || [ "$memory_mib" -lt "$MEMORY_LEAST_MIB" ]; then
        fault "the device has $memory_mib MiB of memory, it needs $MEMORY_LEAST_MIB"
    fi
}

choose_boot() {
    firmware=$(field firmware)
    case $firmware in
        bios) boot_why="its firmware is a BIOS: boot code in the disk's first sector" ;;
        uefi) boot_why="its firmware is UEFI: boot loader on the EFI system partition" ;;
        *) fault "the firmware is \"$firmware\", neither bios nor uefi" ;;
    esac
    say "boot: ${boot_why:-?}"
}

# The fastest kind that is there, and of that the smallest that is large enough: large disks are for data.
choose_root_disk() {
    disk_name='' disk_kind='' disk_gib=0 disk_rank=9
    each "$(field disks)" consider_disk
    if [ -z "$disk_name" ]; then
        fault "no fixed disk has $DISK_LEAST_GIB GiB"
        return
    fi
    say "root disk: $disk_name ($disk_kind, $disk_gib GiB)"
}
consider_disk() {
    [ $# -eq 4 ] || { fault "a disk is not described by name, kind, size and whether it can be removed"; return; }
    matches "$1" '[A-Za-z0-9]{1,32}' || { fault "\"$1\" cannot be the name of a disk"; return; }
    is_number "$3" || { fault "disk $1: \"$3\" is not a whole number of GiB"; return; }
    case $2 in
        nvme) rank=1 ;;
        ssd) rank=2 ;;
        hdd) rank=3 ;;
        *) fault "disk $1: \"$2\" is neither nvme, ssd nor hdd"; return ;;
    esac
    [ "$4" = false ] && [ "$3" -ge "$DISK_LEAST_GIB" ] || return 0
    if [ "$rank" -lt "$disk_rank" ] || { [ "$rank" -eq "$disk_rank" ] && [ "$3" -lt "$disk_gib" ]; }; then
        disk_name=$1 disk_kind=$2 disk_gib=$3 disk_rank=$rank
    fi
}

lay_out() {
    image_mib=$(field image_mib)
    data_mib=$(field data_mib)
    data_mount=$(field data_mount)
    is_number "$image_mib" && is_number "$data_mib" || { fault "the sizes are not numbers of MiB"; root_mib=0; return; }
    if [ -n "$data_mount" ]; then
        matches "$data_mount" '/(srv|data|var/lib)(/[a-z0-9][a-z0-9_-]{0,31}){1,3}' ||
            fault "data cannot be at \"$data_mount\": a folder below /srv, /data or /var/lib"
        [ "$data_mib" -ge 32 ] || fault "a data partition starts with at least 32 MiB, not $data_mib"
    elif [ "$data_mib" -gt 0 ]; then
        fault "a data partition needs a place (wishes.data.mount)"
    fi
    root_mib=$((image_mib - EDGE_MIB - BIOS_BOOT_MIB - ESP_MIB - data_mib))
    [ "$root_mib" -ge "$ROOT_LEAST_MIB" ] ||
        fault "$data_mib MiB of data leave $root_mib MiB for the system, it needs $ROOT_LEAST_MIB; the last partition grows on the device"
    say "layout: BIOS boot $BIOS_BOOT_MIB MiB, EFI $ESP_MIB MiB, root $root_mib MiB${data_mount:+, $data_mount $data_mib MiB}"
}

# The first interface is the way out; it is found again by its hardware address, whatever the kernel calls it.
choose_network() {
    nic_name='' nic_mac='' dns=''
    each "$(field nics)" consider_nic
    [ -n "$nic_name" ] || fault "the device has no network interface"
    address=$(field address)
    gateway=$(field gateway)
    each "$(field dns)" add_dns
    if [ -z "$address" ]; then
        [ -z "$gateway" ] || fault "a gateway without an address; with DHCP there is no need for either"
        say "network: $nic_name ($nic_mac) by DHCP"
        return
    fi
    is_ipv4_with_length "$address" || fault "\"$address\" is not an IPv4 address with its network's length, such as 10.0.0.5/24"
    [ -z "$gateway" ] || is_ipv4 "$gateway" || fault "the gateway \"$gateway\" is not an IPv4 address"
    say "network: $nic_name ($nic_mac) at $address"
}
consider_nic() {
    [ $# -eq 2 ] && matches "$1" '[A-Za-z0-9]{1,15}' || { fault "\"${1:-}\" cannot be a network interface's name"; return; }
    mac=$(printf %s "$2" | tr A-F a-f)
    matches "$mac" '([0-9a-f]{2}:){5}[0-9a-f]{2}' || { fault "$1: \"$2\" is not a hardware address"; return; }
    [ -n "$nic_name" ] || nic_name=$1 nic_mac=$mac
}
add_dns() {
    is_ipv4 "$1" || { fault "the name server \"$1\" is not an IPv4 address"; return; }
    dns=$(joined "$dns" "\"$1\"")
}

list_users() {
    users='' user_names=' ' admins=0
    each "$(field users)" add_user
    [ "$admins" -gt 0 ] || fault "nobody could administer the device: no user has both sudo and a key"
    say "users:$user_names"
}
add_user() {
    name=$1 sudo=${2:-} keys=${3:-} groups=${4:-} shell=${5:-/bin/bash} list='' group_list=''
    is_name "$name" || { fault "\"$name\" cannot be a user's name"; return; }
    case $name in root | daemon | bin | sys | sshd | nobody | www-data | systemd-*) fault "the user name $name is taken"; return ;; esac
    case $user_names in *" $name "*) fault "two users are called $name"; return ;; esac
    user_names="$user_names$name "
    case $sudo in true | false) ;; *) fault "user $name: sudo is true or false"; return ;; esac
    [ -n "$keys" ] || { fault "user $name has no key and could never log in"; return; }
    [ "$sudo" = false ] || admins=$((admins + 1))
    while [ -n "$keys" ]; do
        key=${keys%%;*}
        case $keys in *\;*) keys=${keys#*;} ;; *) keys= ;; esac
        matches "$key" '(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,1400}={0,2}( [A-Za-z0-9@._-]{1,64})?' ||
            { fault "user $name: this is not a public SSH key: $(printf %.40s "$key")"; return; }
        list=$(joined "$list" "\"$key\"")
    done
    while [ -n "$groups" ]; do
        group=${groups%%;*}
        case $groups in *\;*) groups=${groups#*;} ;; *) groups= ;; esac
        is_name "$group" || { fault "user $name: \"$group\" cannot be a group"; continue; }
        group_list=$(joined "$group_list" "\"$group\"")
    done
    case $shell in /bin/bash | /bin/sh) ;; *) fault "user $name: \"$shell\" is not a login shell here" ;; esac
    users=$(joined "$users" "{\"name\":\"$name\",\"sudo\":$sudo,\"groups\":[$group_list],\"shell\":\"$shell\",\"keys\":[$list]}")
}

list_applications() {
    applications='' implied=''
    each "$(field applications)" add_application
    site_title=$(field site_title)
    [ -n "$site_title" ] || site_title=$hostname
    matches "$site_title" '[A-Za-z0-9 .,:!?_-]{1,80}' || fault "the site's title has characters other than letters, digits and . , : ! ? _ -"
    say "applications: $(printf %s "${applications:-none}" | tr -d '"')"
}
add_application() {
    matches "$1" '[a-z0-9][a-z0-9+.-]{1,62}' || { fault "\"$1\" cannot be the name of a package"; return; }
    applications=$(joined "$applications" "\"$1\"")
    # The port without which it would be useless.
    case $1 in nginx | nginx-*) implied=$(joined "$implied" '80|tcp|any') ;; esac
}

list_open_ports() {
    open='' open_said=''
    ssh_from=$(field ssh_from)
    is_source "$ssh_from" || fault "SSH from \"$ssh_from\": any, or a network such as 10.0.0.0/8"
    # A persona lists all of its ports.
    [ "$(field ports)" = 'as listed' ] || each "$implied" add_open_port
    each "$(field allow)" add_open_port
    say "open ports: 22 from $ssh_from$open_said"
}
add_open_port() {
    port=$1 proto=${2:-} from=${3:-}
    if ! is_number "$port" || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then fault "\"$port\" is not a port"; return; fi
    case $proto in tcp | udp) ;; *) fault "port $port: \"$proto\" is neither tcp nor udp"; return ;; esac
    is_source "$from" || { fault "port $port from \"$from\": any, or a network such as 10.0.0.0/8"; return; }
    case "$open_said," in *", $port/$proto from $from,"*) return ;; esac
    open_said="$open_said, $port/$proto from $from"
    open=$(joined "$open" "{\"port\":$port,\"proto\":\"$proto\",\"from\":\"$from\"}")
}
is_source() { [ "$1" = any ] || is_ipv4_with_length "$1"; }

check_region() {
    timezone=$(field timezone)
    locale=$(field locale)
    matches "$timezone" '[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}' || fault "\"$timezone\" is not the name of a time zone"
    matches "$locale" '[A-Za-z]{1,8}(_[A-Z]{2})?(\.[A-Za-z0-9-]{1,16})?' || fault "\"$locale\" is not the name of a locale"
}

write_plan() {
    if [ -n "$data_mount" ]; then data="{\"mount\":\"$data_mount\",\"size_mib\":$data_mib}"; else data=null; fi
    if [ -n "$address" ]; then
        uplink="{\"how\":\"static\",\"address\":\"$address\",\"gateway\":\"$gateway\",\"dns\":[$dns]}"
    else
        uplink="{\"how\":\"dhcp\",\"dns\":[$dns]}"
    fi
    cat <<PLAN
{
  "hostname": "$hostname",
  "boot": { "mode": "$firmware", "why": "$boot_why" },
  "root_disk": { "name": "$disk_name", "kind": "$disk_kind", "size_gib": $disk_gib },
  "layout": { "image_mib": $image_mib, "bios_boot_mib": $BIOS_BOOT_MIB, "esp_mib": $ESP_MIB, "root_mib": $root_mib, "data": $data },
  "network": { "interface": "$nic_name", "mac": "$nic_mac", "uplink": $uplink },
  "users": [$users],
  "applications": [$applications],
  "site": { "title": "$site_title" },
  "ssh_from": "$ssh_from",
  "allow": [$open],
  "cmdline": "$(field cmdline)",
  "timezone": "$timezone",
  "locale": "$locale"
}
PLAN
}

main

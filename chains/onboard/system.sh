#!/bin/sh
# Builds the system on the handoff disk: partitions, file systems, Debian, its settings, boot loaders.
# Starts over whatever is on the disk. The plan has been checked against its schema before this is started.
set -eu

readonly disk=$GREENROOM_HANDOFF_DISK root=/mnt/device
readonly grub_modules="part_gpt ext2 fat search search_fs_uuid normal configfile linux serial terminal test echo reboot minicmd ls"

main() {
    trap 'ended $?' EXIT
    trap 'exit 143' HUP INT TERM
    clock read_plan
    clock partition
    clock make_file_systems
    clock mount_all
    clock unpack
    clock name_it
    clock set_region
    clock set_network
    clock add_users
    clock write_files
    clock say_what_to_watch
    clock set_boot_files
    clock install_boot_loaders
    say "report"
    step=report
    report > "$GREENROOM_OUTPUT"
    leave
    say "done"
}

say() { echo "system: $*"; }
die() { echo "system: $*" >&2; exit 1; }

# clock STEP: runs it and remembers how long it took.
clock() {
    step=$1
    begun=$(now_ms)
    "$1"
    timings="${timings:-}$1 $(($(now_ms) - begun))
"
}
now_ms() { date +%s%3N; }

ended() {
    [ "$1" -eq 0 ] || echo "system: stopped in step $step" >&2
    leave
}

# The second time there is nothing left to do.
leave() {
    cd /
    mountpoint -q "$root" || return 0
    sync -f "$root" || :
    umount -R "$root" || umount -R -l "$root"
}

# plan FILTER: a value, or several as lines.
plan() { jq -r "$1" "$GREENROOM_INPUT"; }

partition_device() {
    case $disk in *[0-9]) echo "${disk}p$1" ;; *) echo "$disk$1" ;; esac
}

read_plan() {
    { read -r data_mount; read -r image_mib; read -r bios_boot_mib; read -r esp_mib; read -r root_mib
      read -r timezone; read -r locale; read -r cmdline; read -r hostname; } <<VALUES
$(plan '(.layout | (.data.mount // ""), .image_mib, .bios_boot_mib, .esp_mib, .root_mib), .timezone, .locale, (.cmdline // ""), .hostname')
VALUES
    say "$hostname on $disk"
    [ -b "$disk" ] || die "there is no disk $disk"
    has_mib=$(($(blockdev --getsize64 "$disk") >> 20))
    [ "$has_mib" -ge "$image_mib" ] || die "the disk has $has_mib MiB, the plan was made for $image_mib"
}

# Types are those of the Discoverable Partitions Specification, by which the device grows its last partition.
partition() {
    say "partitions: BIOS boot $bios_boot_mib MiB, EFI $esp_mib MiB, root $root_mib MiB${data_mount:+, and data}"
    {
        echo 'label: gpt'
        echo "size=${bios_boot_mib}MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios-boot"
        echo "size=${esp_mib}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp"
        if [ -n "$data_mount" ]; then
            echo "size=${root_mib}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root"
            echo 'type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=data'
        else
            echo 'type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root'
        fi
    } | sfdisk --quiet --wipe always --wipe-partitions always "$disk"
    udevadm settle --timeout=20 || :
    esp=$(partition_device 2) system=$(partition_device 3) data=
    [ -z "$data_mount" ] || data=$(partition_device 4)
    for part in "$esp" "$system" ${data:+"$data"}; do
        [ -b "$part" ] || die "the kernel does not show $part after partitioning"
    done
}

# Without the two ext4 features that GRUB 2.06 cannot read.
make_file_systems() {
    say "file systems"
    mkfs.vfat -F 32 -n ESP "$esp" >/dev/null
    mkfs.ext4 -q -F -L root -m 1 -O ^metadata_csum_seed,^orphan_file "$system"
    [ -z "$data" ] || mkfs.ext4 -q -F -L data -m 0 "$data"
    esp_uuid=$(blkid -p -s UUID -o value "$esp")
    root_uuid=$(blkid -p -s UUID -o value "$system")
    data_uuid=
    [ -z "$data" ] || data_uuid=$(blkid -p -s UUID -o value "$data")
}

# Nothing is lost when this disk's journal is lazy: a stage that dies starts over. Unpacking takes a quarter less time with it
# (27 s instead of 37 s on a busy emulated machine; the same into RAM takes 20 s).
mount_all() {
    mkdir -p "$root"
    mount -o noatime,data=writeback,nobarrier,noauto_da_alloc,commit=300 "$system" "$root"
    mkdir -p "$root/boot/efi"
    mount "$esp" "$root/boot/efi"
    if [ -n "$data" ]; then
        mkdir -p "$root$data_mount"
        mount -o noatime "$data" "$root$data_mount"
    fi
}

unpack() {
    say "unpacking Debian"
    tar -C "$root" --use-compress-program='zstd -d -T0' --numeric-owner -xpf /srv/greenroom/rootfs.tar.zst
    kernel=$(one_of "$root"/boot/vmlinuz-*)
    initrd=$(one_of "$root"/boot/initrd.img-*)
    kernel_version=${kernel#"$root"/boot/vmlinuz-}
    debian=$(cat "$root/etc/debian_version")
    say "Debian $debian, kernel $kernel_version"
    # The toolbox brings one system; a persona may want another one.
    variant=$(plan '.variant // ""')
    case $variant in
        '' | "debian-${debian%%.*}") ;;
        *) die "the persona wants $variant, the toolbox image brings Debian $debian" ;;
    esac
}
one_of() {
    [ $# -eq 1 ] && [ -f "$1" ] || die "expected one file, found: $*"
    echo "$1"
}

# No machine id: each device draws its own when it first boots, and keeps it.
name_it() {
    echo "$hostname" > "$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$hostname" > "$root/etc/hosts"
    : > "$root/etc/machine-id"
    rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_*
    cat > "$root/etc/systemd/system/ssh-host-key.service" <<UNIT
[Unit]
Description=Make the SSH host key when the device first boots
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -C %H -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
UNIT
    systemctl --quiet --root="$root" enable ssh-host-key.service
}

set_region() {
    [ -e "$root/usr/share/zoneinfo/$timezone" ] || die "the system knows no time zone $timezone"
    ln -sf "/usr/share/zoneinfo/$timezone" "$root/etc/localtime"
    echo "$timezone" > "$root/etc/timezone"
    # glibc spells the folder of C.UTF-8 "C.utf8".
    folder=$(printf %s "$locale" | sed 's/UTF-8$/utf8/')
    [ -d "$root/usr/lib/locale/$folder" ] ||
        die "the system has no locale $locale; it has: $(ls "$root/usr/lib/locale" | tr '\n' ' ')"
    echo "LANG=$locale" > "$root/etc/default/locale"
}

# A persona brings files for each of its interfaces, which count instead of the plan's one.
set_network() {
    [ "$(plan '[.files[]? | select(.path | startswith("/etc/systemd/network/"))] | length')" -gt 0 ] || {
        printf '[Match]\nMACAddress=%s\n\n[Network]\n' "$(plan .network.mac)"
        plan '.network.uplink
            | (if .how == "dhcp" then "DHCP=yes" else "Address=\(.address)", (select(.gateway != "") | "Gateway=\(.gateway)") end),
              (.dns[] | "DNS=\(.)")'
    } > "$root/etc/systemd/network/20-uplink.network"
    systemctl --quiet --root="$root" enable systemd-networkd.service
    systemctl --quiet --root="$root" disable systemd-networkd-wait-online.service
    # The system has no resolver daemon: what is not written here is not known.
    rm -f "$root/etc/resolv.conf"
    plan '.network.uplink.dns[] | "nameserver \(.)"' > "$root/etc/resolv.conf"
}

# Keys only: passwords stay locked, so that whoever may use sudo does so without one.
add_users() {
    plan '.users[] | "\(.name) \(.sudo)"' | while read -r name sudo; do
        say "user $name"
        groups=$(jq -r --arg name "$name" '.users[] | select(.name == $name)
            | ((if .sudo then ["sudo", "adm"] else [] end) + (.groups // [])) | unique | join(",")' "$GREENROOM_INPUT")
        shell=$(jq -r --arg name "$name" '.users[] | select(.name == $name) | .shell // "/bin/bash"' "$GREENROOM_INPUT")
        chroot "$root" useradd --create-home --shell "$shell" ${groups:+--groups "$groups"} "$name"
        install -d -m 700 "$root/home/$name/.ssh"
        jq -r --arg name "$name" '.users[] | select(.name == $name) | .keys[]' "$GREENROOM_INPUT" \
            > "$root/home/$name/.ssh/authorized_keys"
        chmod 600 "$root/home/$name/.ssh/authorized_keys"
        chroot "$root" chown -R "$name:" "/home/$name/.ssh"
    done
    echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/keys-only"
    chmod 440 "$root/etc/sudoers.d/keys-only"
    chroot "$root" visudo -q -c -f /etc/sudoers.d/keys-only || die "the rule for sudo is refused"
}

# The persona's own files, as `persona preview` shows them. The schema says which paths there may be.
write_files() {
    plan '.files[]? | "\(.mode) \(.path)"' | while read -r mode path; do
        say "file $path"
        mkdir -p "$root${path%/*}"
        rm -f "$root$path"
        jq -j --arg path "$path" '.files[] | select(.path == $path) | .text' "$GREENROOM_INPUT" > "$root$path"
        chmod "$mode" "$root$path"
    done
}

# For the program that reports from the device, which delivery puts beside it.
say_what_to_watch() {
    install -d -m 755 "$root/etc/greenroom"
    plan '.watch // { units: [], packages: .applications }' > "$root/etc/greenroom/watch.json"
}

set_boot_files() {
    say "boot files"
    grow_root='' grow_type=root-x86-64
    if [ -n "$data" ]; then grow_type=linux-generic; else grow_root=,x-systemd.growfs; fi
    {
        echo "UUID=$root_uuid / ext4 noatime,errors=remount-ro$grow_root 0 1"
        echo "UUID=$esp_uuid /boot/efi vfat umask=0077,nofail 0 2"
        [ -z "$data" ] || echo "UUID=$data_uuid $data_mount ext4 noatime,nodev,nosuid,x-systemd.growfs 0 2"
    } > "$root/etc/fstab"
    mkdir -p "$root/etc/repart.d" "$root/boot/grub"
    printf '# The last partition takes what the disk has.\n[Partition]\nType=%s\n' "$grow_type" > "$root/etc/repart.d/50-grow.conf"
    cat > "$root/boot/grub/grub.cfg" <<CONFIG
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=1
set default=0
search --no-floppy --fs-uuid --set=root $root_uuid
menuentry "Debian, $hostname" {
    linux /boot/vmlinuz-$kernel_version root=UUID=$root_uuid ro console=tty0 console=ttyS0,115200n8${cmdline:+ $cmdline}
    initrd /boot/initrd.img-$kernel_version
}
menuentry "Debian, $hostname, rescue" {
    linux /boot/vmlinuz-$kernel_version root=UUID=$root_uuid ro single console=tty0 console=ttyS0,115200n8${cmdline:+ $cmdline}
    initrd /boot/initrd.img-$kernel_version
}
CONFIG
    # The initramfs comes with the root file system; making one here would take longer than all the rest.
    names=$(zstd -dc "$initrd" | cpio --quiet -t)
    for driver in virtio_blk virtio_net virtio_scsi ahci sd_mod; do
        case $names in *"/$driver.ko"*) ;; *) die "the initramfs lacks the driver $driver" ;; esac
    done
}

# Both, whatever the plan says: firmware gets switched, and disks move.
install_boot_loaders() {
    say "boot loader for BIOS"
    grub-install --target=i386-pc --boot-directory="$root/boot" --install-modules="$grub_modules" --locales= --themes= \
        --fonts= --no-floppy "$disk" 2>&1 | quietly
    say "boot loader for UEFI"
    grub-install --target=x86_64-efi --boot-directory="$root/boot" --efi-directory="$root/boot/efi" --removable --no-nvram \
        --install-modules="$grub_modules" --locales= --themes= --fonts= "$disk" 2>&1 | quietly
    [ -s "$root/boot/grub/i386-pc/core.img" ] || die "there is no boot loader for BIOS"
    [ -s "$root/boot/efi/EFI/BOOT/BOOTX64.EFI" ] || die "there is no boot loader for UEFI"
}
quietly() { grep -v -e '^Installing for' -e 'No error reported' >&2 || :; }

report() {
    promised=$(sha256sum "$kernel" "$initrd" "$root/boot/grub/grub.cfg" "$root/boot/efi/EFI/BOOT/BOOTX64.EFI" "$root/etc/fstab" \
        "$root/etc/hostname" "$root"/etc/systemd/network/*.network "$root/etc/sudoers.d/keys-only")
    sfdisk --json "$disk" | jq \
        --arg root "$root" --arg promised "$promised" --arg timings "$timings" --arg kernel "$kernel_version" \
        --arg debian "$(cat "$root/etc/debian_version")" --arg grub "$(grub-install --version)" \
        --arg systemd "$(package_version systemd)" --arg ssh "$(package_version openssh-server)" \
        --arg esp_uuid "$esp_uuid" --arg root_uuid "$root_uuid" --arg data_uuid "$data_uuid" --arg data_mount "$data_mount" \
        --arg users "$(tail -n 50 "$root/etc/passwd")" \
        --argjson used "$(df --output=used -B1M "$root" | tail -n 1)" --argjson entries "$(df --output=iused "$root" | tail -n 1)" \
        --slurpfile plan "$GREENROOM_INPUT" '
        def lines: split("\n") | map(select(. != ""));
        {
          "bios-boot": { file_system: null, mount: null },
          "esp": { file_system: "vfat", file_system_uuid: $esp_uuid, mount: "/boot/efi" },
          "root": { file_system: "ext4", file_system_uuid: $root_uuid, mount: "/" },
          "data": { file_system: "ext4", file_system_uuid: $data_uuid, mount: $data_mount }
        } as $contents
        | .partitiontable
        | {
            disk: { label: .label, uuid: .id, sector_bytes: .sectorsize },
            partitions: (.sectorsize as $sector | [
              .partitions | to_entries[]
              | { number: (.key + 1), name: .value.name, type: .value.type, uuid: .value.uuid,
                  start_mib: (.value.start * $sector / 1048576 | floor), size_mib: (.value.size * $sector / 1048576 | floor) }
                + $contents[.value.name]
            ]),
            versions: { debian: $debian, kernel: $kernel, grub: ($grub | split(" ") | last), systemd: $systemd, openssh: $ssh },
            boot: {
              kernel: "/boot/vmlinuz-\($kernel)", initrd: "/boot/initrd.img-\($kernel)", uefi: "/boot/efi/EFI/BOOT/BOOTX64.EFI"
            },
            users: ($users | lines | map(split(":") | { name: .[0], uid: (.[2] | tonumber), home: .[5] })
              | map(select(.name as $name | any($plan[0].users[]; .name == $name)))),
            files: ($promised | lines | map({ path: (.[66:] | ltrimstr($root)), sha256: .[:64] })),
            unpacked: { entries: $entries, mib: $used },
            timings_ms: ($timings | lines | map(split(" ") | { key: .[0], value: (.[1] | tonumber) }) | from_entries)
          }'
}
package_version() { sed -n "/^Package: $1\$/,/^\$/s/^Version: //p" "$root/var/lib/dpkg/status"; }

main

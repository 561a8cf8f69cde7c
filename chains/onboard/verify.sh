#!/bin/sh
# Looks at the disk as the device will get it, believes nothing that earlier stages said, and gives the verdict.
# Leaves nothing behind on the disk.
set -eu

readonly disk=$GREENROOM_HANDOFF_DISK root=/mnt/device folder=$PWD
readonly test_mib=64 # what is read and written to measure the disk

main() {
    trap 'ended $?' EXIT
    trap 'exit 143' HUP INT TERM
    : > checks.tsv
    step=measuring
    measure_reading
    mount_all rw
    measure_writing
    leave
    step="checking the file systems"
    check_file_systems
    step="checking the boot loaders"
    check_boot_sectors
    mount_all ro
    check_boot_files
    step="checking what was promised"
    check_promises
    check_services
    check_identity
    step=report
    compliance=$root/var/lib/greenroom/compliance.json
    check "compliance measured" test -s "$compliance"
    [ -s "$compliance" ] || compliance=/dev/null
    report > "$GREENROOM_OUTPUT"
    leave
    failed=$(jq -r '.checks[] | select(.passed | not) | "\(.name): \(.finding)"' "$GREENROOM_OUTPUT")
    if [ -n "$failed" ]; then
        printf 'verify: the device must not get this disk:\n%s\n' "$failed" >&2
        step=verdict
        exit 1
    fi
    say "verdict: ready ($(jq -r '"\(.checks | length) checks, compliance \(.compliance.score) of 100"' "$GREENROOM_OUTPUT"))"
}

say() { echo "verify: $*"; }
now_ms() { date +%s%3N; }
input() { jq -r "$1" "$GREENROOM_INPUT"; }

ended() {
    [ "$1" -eq 0 ] || echo "verify: stopped while $step" >&2
    leave
}

# The second time there is nothing left to do.
leave() {
    cd "$folder"
    mountpoint -q "$root" || return 0
    rm -f "$root/var/tmp/write-test" 2>/dev/null || :
    umount -R "$root" || umount -R -l "$root"
}

partition_device() {
    case $disk in *[0-9]) echo "${disk}p$1" ;; *) echo "$disk$1" ;; esac
}

# mount_all MODE: ro or rw.
mount_all() {
    mkdir -p "$root"
    input '.system.partitions | map(select(.mount)) | sort_by(.mount)[] | "\(.number) \(.mount)"' | while read -r number mount; do
        mount -o "$1",noatime "$(partition_device "$number")" "$root$mount"
    done
}

# check NAME COMMAND…: what it says is the finding.
check() {
    name=$1
    shift
    if finding=$("$@" 2>&1); then passed=true; else passed=false; fi
    printf '%s\t%s\t%s\n' "$passed" "$name" "$(printf %s "$finding" | tail -n 3 | tr '\t\n' '  ' | cut -c 1-300)" >> checks.tsv
    if [ "$passed" = true ]; then say "ok: $name"; else say "FAILED: $name: $finding"; fi
}

# --- performance -----------------------------------------------------------------------------------------------------------

# Past the page cache, from the start of the root partition, which has data.
measure_reading() {
    begun=$(now_ms)
    dd if="$(partition_device 3)" of=/dev/null bs=1M count="$test_mib" iflag=direct status=none
    read_ms=$(($(now_ms) - begun))
    say "read $test_mib MiB in $read_ms ms"
}

measure_writing() {
    begun=$(now_ms)
    dd if=/dev/zero of="$root/var/tmp/write-test" bs=1M count="$test_mib" oflag=direct conv=fsync status=none
    write_ms=$(($(now_ms) - begun))
    rm -f "$root/var/tmp/write-test"
    fstrim "$root" >/dev/null 2>&1 || :
    say "wrote $test_mib MiB in $write_ms ms"
}

# --- checks ----------------------------------------------------------------------------------------------------------------

check_file_systems() {
    check "partition table" partition_table
    input '.system.partitions[] | select(.file_system) | "\(.number) \(.file_system) \(.name) \(.file_system_uuid)"' > file-systems
    while read -r number kind label uuid; do
        device=$(partition_device "$number")
        case $kind in
            ext4) check "file system $label" e2fsck -f -n "$device" ;;
            vfat) check "file system $label" fsck.vfat -n "$device" ;;
        esac
        check "identity of $label" test "$(blkid -p -s UUID -o value "$device")" = "$uuid"
    done < file-systems
}
partition_table() {
    answer=$(sgdisk --verify "$disk") || { echo "$answer"; return 1; }
    case $answer in *'No problems found'*) ;; *) echo "$answer"; return 1 ;; esac
}

# hex FILE OFFSET LENGTH
hex() { od -A n -t x1 -j "$2" -N "$3" "$1" | tr -d ' \n'; }

check_boot_sectors() {
    check "boot sector: signature" test "$(hex "$disk" 510 2)" = 55aa
    check "boot sector: GRUB's code" test "$(dd if="$disk" bs=1 skip=384 count=4 status=none | tr -d '\0')" = GRUB
    check "boot sector: points to the BIOS boot partition" test \
        "$(od -A n -t u8 -j 92 -N 8 "$disk" | tr -d ' ')" = "$(cat "/sys/class/block/${disk##*/}/$(basename "$(partition_device 1)")/start")"
}

check_boot_files() {
    kernel=$(input .system.boot.kernel) initrd=$(input .system.boot.initrd)
    check "BIOS boot partition: GRUB's core" grub_core
    check "EFI boot loader" test "$(hex "$root/boot/efi/EFI/BOOT/BOOTX64.EFI" 0 2)" = 4d5a
    check "kernel" test "$(hex "$root$kernel" 514 4)" = 48647253
    check "initramfs" zstd -q -t --format=zstd "$root$initrd"
    check "boot menu names the kernel" grep -q -F "linux $kernel root=UUID=$(input '.system.partitions[2].file_system_uuid') " "$root/boot/grub/grub.cfg"
    check "boot menu names the serial console" grep -q 'console=ttyS0' "$root/boot/grub/grub.cfg"
    check "kernel modules" test -s "$root/lib/modules/$(input .system.versions.kernel)/modules.dep"
}

# Where it is installed, its first 1,024 bytes hold the place on the disk and of the error correction; the rest is as it was.
grub_core() {
    core=$root/boot/grub/i386-pc/core.img
    cmp -i 1024:1024 -n "$(($(stat -c %s "$core") - 1024))" "$core" "$(partition_device 1)"
}

check_promises() {
    input '.system.files + .application.files | .[] | "\(.sha256)  \(.path)"' | sed "s,  /,  $root/," > promised
    check "$(wc -l < promised) files are as they were reported" sha256sum --quiet --check promised
    input '.application.packages[] | "\(.name) \(.version)"' > packages.promised
    check "$(wc -l < packages.promised) packages are installed as reported" packages_installed
    input '.plan.applications[]' > applications.wished
    check "every wished application is there" applications_there
    check "every user is there" users_there
}
packages_installed() {
    while read -r package version; do
        [ "$(installed_version "$package")" = "$version" ] || { echo "$package $version"; return 1; }
    done < packages.promised
}
applications_there() {
    while read -r package; do
        [ -n "$(installed_version "$package")" ] || { echo "$package"; return 1; }
    done < applications.wished
}
installed_version() {
    sed -n "/^Package: $1\$/,/^\$/{/^Status: install ok installed\$/,/^\$/s/^Version: //p}" "$root/var/lib/dpkg/status"
}
users_there() {
    input '.plan.users[] | "\(.name) \(.keys | length)"' | while read -r user keys; do
        grep -q "^$user:" "$root/etc/passwd" || { echo "$user"; exit 1; }
        [ "$(wc -l < "$root/home/$user/.ssh/authorized_keys")" = "$keys" ] || { echo "keys of $user"; exit 1; }
    done
}

check_services() {
    for unit in ssh.service nftables.service systemd-networkd.service ssh-host-key.service \
        $(input '.application.services[] | select(.state == "enabled") | .name'); do
        check "$unit starts at boot" systemctl --root="$root" is-enabled "$unit"
    done
    check "nothing keeps services from starting" test ! -e "$root/usr/sbin/policy-rc.d"
}

check_identity() {
    check "host name" test "$(cat "$root/etc/hostname")" = "$(input .plan.hostname)"
    check "no machine id yet" test ! -s "$root/etc/machine-id"
    check "no host keys yet" test -z "$(find "$root/etc/ssh" -name 'ssh_host_*')"
}

# --- report ----------------------------------------------------------------------------------------------------------------

report() {
    jq -R -n --argjson read_ms "$read_ms" --argjson write_ms "$write_ms" --argjson test_mib "$test_mib" \
        --argjson used "$(df --output=used -B1M "$root" | tail -n 1)" --argjson free "$(df --output=avail -B1M "$root" | tail -n 1)" \
        --argjson files "$(df --output=iused "$root" | tail -n 1)" \
        --argjson packages "$(grep -c '^Status: install ok installed$' "$root/var/lib/dpkg/status")" \
        --argjson units "$(find "$root/etc/systemd/system" -path '*.wants/*' | wc -l)" \
        --argjson boot_bytes "$(stat -c %s "$root$kernel" "$root$initrd" | awk '{ sum += $1 } END { print sum }')" \
        --argjson written "$(du -x -s -B1M "$root" | cut -f 1)" \
        --slurpfile document "$GREENROOM_INPUT" --slurpfile compliance "$compliance" '
        def rate($ms): if $ms > 0 then ($test_mib * 1048.576 / $ms * 10 | floor) / 10 else null end;
        [inputs | split("\t") | { name: .[1], passed: (.[0] == "true"), finding: .[2] }] as $checks
        | $document[0] as $document
        | {
            verdict: (if all($checks[]; .passed) then "ready" else "refused" end),
            checks: $checks,
            compliance: ($compliance[0] // { score: 0 } | { score, passed, failed, must_fail, failing: [.rules[]? | select(.outcome == "fail") | .id] }),
            performance: {
              disk: { read_mb_per_s: rate($read_ms), write_mb_per_s: rate($write_ms), measured_mib: $test_mib },
              build: {
                unpack_s: ($document.system.timings_ms.unpack / 1000),
                unpack_entries_per_s: ($document.system.unpacked.entries * 1000 / $document.system.timings_ms.unpack | floor),
                boot_loaders_s: ($document.system.timings_ms.install_boot_loaders / 1000),
                install_s: $document.application.install_s
              },
              size: { used_mib: $used, free_mib: $free, files: $files, disk_mib: $document.plan.layout.image_mib },
              boot: { kernel_and_initramfs_mib: ($boot_bytes / 1048576 * 10 | floor / 10), units_enabled: $units, packages: $packages }
            }
          }' checks.tsv
}

main

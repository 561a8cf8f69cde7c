#!/bin/sh
# Writes the device's security policy, has each part checked by the tool that will read it, and measures the system against a
# list of rules. The output is the evidence: a tar.gz with compliance.json, the policy files and what the tools said. The
# system keeps compliance.json too, for the next stage and for whoever asks the device later.
#
# The rules are our own. lynis, chosen tests only and without plugins, was not through after 100 s in an emulated machine,
# where all that is here takes a tenth of that; it also judges the machine on which it runs rather than the disk.
set -eu

readonly disk=$GREENROOM_HANDOFF_DISK root=/mnt/device evidence=$PWD/evidence
readonly firewall=/etc/nftables.conf ssh_policy=/etc/ssh/sshd_config.d/10-policy.conf kernel_policy=/etc/sysctl.d/zz-policy.conf

main() {
    trap 'ended $?' EXIT
    trap 'exit 143' HUP INT TERM
    mkdir -p "$evidence"
    step=mounting
    mount_all
    step="writing the packet filter"
    say "packet filter"
    given_or "$firewall" write_firewall > "$root$firewall"
    chmod 600 "$root$firewall"
    systemctl --quiet --root="$root" enable nftables.service
    step="writing the SSH policy"
    say "SSH policy"
    given_or "$ssh_policy" write_ssh_policy > "$root$ssh_policy"
    step="writing the kernel settings"
    say "kernel settings"
    given_or "$kernel_policy" write_kernel_policy > "$root$kernel_policy"
    step="tightening files"
    tighten
    step="measuring against the rules"
    measure
    step="packing the evidence"
    pack
    leave
    say "done"
}

say() { echo "security: $*"; }
die() { echo "security: $*" >&2; exit 1; }
input() { jq -r "$1" "$GREENROOM_INPUT"; }

ended() {
    [ "$1" -eq 0 ] || echo "security: stopped while $step" >&2
    leave
}

# The second time there is nothing left to do.
leave() {
    cd /
    mountpoint -q "$root" || return 0
    sync -f "$root" || :
    umount -R "$root" || umount -R -l "$root"
}

partition_device() {
    case $disk in *[0-9]) echo "${disk}p$1" ;; *) echo "$disk$1" ;; esac
}

mount_all() {
    mkdir -p "$root"
    input '.partitions | map(select(.mount)) | sort_by(.mount)[] | "\(.number) \(.mount)"' | while read -r number mount; do
        mount -o noatime "$(partition_device "$number")" "$root$mount"
    done
    [ "$(cat "$root/etc/hostname")" = "$(input .hostname)" ] || die "the disk is not that of $(input .hostname)"
    mount -t proc proc "$root/proc"
    mount -t devtmpfs dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mkdir "$root/run/sshd"
}

# given_or PATH WRITER: the persona's file of that path, as `persona preview` shows it; without one what the writer says.
given_or() {
    if jq -e --arg path "$1" 'any(.files[]?; .path == $path)' "$GREENROOM_INPUT" >/dev/null; then
        jq -j --arg path "$1" '.files[] | select(.path == $path) | .text' "$GREENROOM_INPUT"
    else
        "$2"
    fi
}

# Addresses and ports have been checked by the schema; no other text of the device's comes into this file.
write_firewall() {
    cat <<'HEAD'
#!/usr/sbin/nft -f
# What is not named here does not come in.
flush ruleset

table inet firewall {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iif lo accept
        meta l4proto { 1, 58 } limit rate 50/second accept comment "ICMP; numbers, for systems without /etc/protocols"
        udp dport 68 accept comment "DHCP"
HEAD
    input '
        ([{ port: 22, proto: "tcp", from: .ssh_from }] + .allow)[]
        | "        " + (if .from == "any" then "" else "ip saddr \(.from) " end) + "\(.proto) dport \(.port) ct state new accept"'
    cat <<'TAIL'
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
    chain output {
        type filter hook output priority filter; policy accept;
    }
}
TAIL
}

# The first value of a key counts, and Debian's own file reads this folder first.
write_ssh_policy() {
    cat <<'POLICY'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
MaxAuthTries 3
LoginGraceTime 30
ClientAliveInterval 300
ClientAliveCountMax 2
AllowAgentForwarding no
AllowTcpForwarding no
X11Forwarding no
PermitUserEnvironment no
LogLevel VERBOSE
POLICY
    input '"AllowUsers \(.users | join(" "))"'
}

# Debian's protect-links.conf is read after every file with a number: hence the name of this one.
write_kernel_policy() {
    cat <<'POLICY'
fs.protected_fifos = 2
fs.protected_hardlinks = 1
fs.protected_regular = 2
fs.protected_symlinks = 1
fs.suid_dumpable = 0
kernel.dmesg_restrict = 1
kernel.kptr_restrict = 2
kernel.randomize_va_space = 2
kernel.sysrq = 0
kernel.unprivileged_bpf_disabled = 1
kernel.yama.ptrace_scope = 1
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.icmp_echo_ignore_broadcasts = 1
net.ipv4.tcp_syncookies = 1
net.ipv6.conf.all.accept_redirects = 0
net.ipv6.conf.default.accept_redirects = 0
POLICY
}

tighten() {
    chmod 700 "$root/boot/grub" "$root/root"
    chmod 640 "$root/etc/shadow" "$root/etc/gshadow"
    sed -i 's/^UMASK.*/UMASK 027/' "$root/etc/login.defs"
    printf '* hard core 0\n' > "$root/etc/security/limits.d/60-no-core.conf"
}

# --- rules -----------------------------------------------------------------------------------------------------------------

# rule ID WEIGHT TITLE COMMAND…: passes when the command does; what it says is the finding. A rule of weight 3 must pass.
rule() {
    id=$1 weight=$2 title=$3
    shift 3
    if finding=$("$@" 2>&1); then outcome=pass; else outcome=fail; fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$id" "$weight" "$outcome" "$title" "$(printf %s "$finding" | tr '\t\n' '  ' | cut -c 1-300)" >> "$evidence/rules.tsv"
    [ "$outcome" = pass ] || say "rule $id fails: $title: $finding"
}

measure() {
    say "checking the policy with the tools that will read it"
    ssh-keygen -q -t ed25519 -N '' -f "$root/run/check-key"
    chroot "$root" sshd -T -h /run/check-key > "$evidence/sshd-effective.txt" 2> "$evidence/sshd-errors.txt" || :
    cp "$root/etc/shadow" shadow
    rm -f "$evidence/rules.tsv"
    rule nft-syntax 3 "the kernel accepts the packet filter" chroot "$root" nft -c -f "$firewall"
    rule nft-drop 3 "what comes in is dropped unless named" grep -q 'hook input .* policy drop;' "$root$firewall"
    rule nft-ports 3 "only the wished ports are open" only_wished_ports
    rule nft-enabled 3 "the packet filter is loaded at boot" enabled nftables.service
    rule ssh-syntax 3 "the SSH server accepts its configuration" chroot "$root" sshd -t -h /run/check-key
    rule ssh-enabled 3 "the SSH server starts at boot" enabled ssh.service
    rule ssh-root 3 "root cannot log in by SSH" effective permitrootlogin no
    rule ssh-passwords 3 "passwords are no way in" effective passwordauthentication no
    rule ssh-dialogues 3 "nor are dialogues" effective kbdinteractiveauthentication no
    rule ssh-tries 1 "at most three tries" tries_at_most 3
    rule ssh-x11 1 "no X11 forwarding" effective x11forwarding no
    rule ssh-forwarding 1 "no TCP forwarding" effective allowtcpforwarding no
    rule ssh-users 3 "only the wished users may log in" only_wished_users
    rule ssh-no-keys 3 "no host key is in the image" no_files "$root"/etc/ssh/ssh_host_*
    rule machine-id 3 "no machine id is in the image" test ! -s "$root/etc/machine-id"
    rule sysctl-known 3 "the kernel knows every setting" kernel_knows
    rule sysctl-last 1 "no later file takes a setting back" settings_stand
    rule root-locked 3 "root has no password" no_match '^root:[^*!:]' shadow
    rule empty-passwords 3 "no account has an empty password" no_match '^[^:]*::' shadow
    rule uid-zero 3 "only root has user id 0" no_match '^[^:]*:[^:]*:0:' "$root/etc/passwd" '^root:'
    rule root-keys 3 "root has no SSH key" no_files "$root"/root/.ssh/authorized_keys
    rule key-files 3 "key files belong to their users alone" key_files
    rule shadow-mode 3 "password hashes are not readable by all" not_for_others "$root/etc/shadow" "$root/etc/gshadow"
    rule world-writable 3 "nothing is writable by all" world_writable
    rule set-id 1 "no unknown program runs as its owner" set_id
    rule umask 1 "new files are not readable by all" grep -q '^UMASK 027$' "$root/etc/login.defs"
    rule core-dumps 1 "no core dumps" grep -q 'hard core 0' "$root/etc/security/limits.d/60-no-core.conf"
    rule no-telnet 1 "no clear-text remote shells" no_files "$root"/usr/sbin/in.telnetd "$root"/usr/sbin/in.rshd
    rule apt-signed 1 "no package source is trusted unsigned" no_match 'trusted=yes' "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d
    compile
}

enabled() { systemctl --root="$root" is-enabled "$1"; }
effective() { grep -q -x -i "$1 $2" "$evidence/sshd-effective.txt" || { grep -i "^$1 " "$evidence/sshd-effective.txt"; return 1; }; }
tries_at_most() {
    tries=$(sed -n 's/^maxauthtries //p' "$evidence/sshd-effective.txt")
    [ "${tries:-99}" -le "$1" ] || { echo "$tries"; return 1; }
}
no_files() { for file in "$@"; do [ ! -e "$file" ] || { echo "${file#"$root"}"; return 1; }; done; }

# no_match PATTERN FILE… [except lines that match the last argument, when it is no file]
no_match() {
    pattern=$1 except='^$'
    shift
    files=
    for argument in "$@"; do if [ -e "$argument" ]; then files="$files $argument"; else except=$argument; fi; done
    # shellcheck disable=SC2086
    matching=$(grep -r -h -E "$pattern" $files | grep -v -E "$except" | cut -d : -f 1)
    [ -z "$matching" ] || { echo "$matching"; return 1; }
}

only_wished_ports() {
    # Rules that were written by hand stand in a chain of their own and may say anything.
    sed -n '/chain input/,/^    }/s/.*\(tcp\|udp\) dport \([0-9]*\) .*/\2 \1/p' "$root$firewall" | sort > ports.are
    input '([{ port: 22, proto: "tcp" }, { port: 68, proto: "udp" }] + .allow)[] | "\(.port) \(.proto)"' | sort > ports.wished
    diff ports.wished ports.are
}

only_wished_users() {
    sed -n 's/^allowusers //p' "$evidence/sshd-effective.txt" | tr ' ' '\n' | sort > users.are
    input '.users[]' | sort > users.wished
    diff users.wished users.are
}

# This stage runs the kernel line that the device runs, so that what is not here is not there.
kernel_knows() {
    unknown=
    while read -r key _; do
        [ -e "/proc/sys/$(printf %s "$key" | tr . /)" ] || unknown="$unknown $key"
    done < "$root$kernel_policy"
    [ -z "$unknown" ] || { echo "unknown:$unknown"; return 1; }
}

settings_stand() {
    find "$root/etc/sysctl.d" "$root/usr/lib/sysctl.d" -name '*.conf' -type f -printf '%f %p\n' | sort > settings.files
    awk -v name="${kernel_policy##*/}" '$1 > name { print $2 }' settings.files | while read -r file; do
        sed -n 's/^-\?\([a-z0-9_.]*\) *=.*/\1/p' "$file"
    done | sort -u > settings.later
    cut -d ' ' -f 1 "$root$kernel_policy" | sort | comm -12 - settings.later > settings.lost
    [ ! -s settings.lost ] || { cat settings.lost; return 1; }
}

key_files() {
    input '.users[]' | while read -r name; do
        file=$root/home/$name/.ssh/authorized_keys
        [ "$(stat -c %a "$file" "${file%/*}" | tr '\n' ' ')" = '600 700 ' ] || { echo "$name: $(stat -c %a "$file")"; exit 1; }
        [ "$(stat -c %u "$file")" = "$(awk -F : -v name="$name" '$1 == name { print $3 }' "$root/etc/passwd")" ] || { echo "$name"; exit 1; }
    done
}

not_for_others() { for file in "$@"; do case $(stat -c %a "$file") in *0) ;; *) echo "$file"; return 1 ;; esac; done; }

# Folders such as /tmp are, but with the sticky bit.
world_writable() {
    found=$(find "$root" -xdev \( -type f -o -type d ! -perm -1000 \) -perm -0002 | head -n 5)
    [ -z "$found" ] || { echo "$found"; return 1; }
}

set_id() {
    found=$(find "$root" -xdev -type f -perm -4000 -printf '%f\n' | grep -v -x \
        -e chfn -e chsh -e gpasswd -e newgrp -e passwd -e umount -e mount -e sudo -e su -e ssh-keysign -e dbus-daemon-launch-helper || :)
    [ -z "$found" ] || { echo "$found"; return 1; }
}

compile() {
    jq -R -n --arg device "$GREENROOM_DEVICE" --arg run "$GREENROOM_RUN" --arg at "$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
        [inputs | split("\t") | { id: .[0], weight: (.[1] | tonumber), outcome: .[2], title: .[3], finding: .[4] }] as $rules
        | ($rules | map(select(.outcome == "pass"))) as $passed
        | { device: $device, run: $run, at: $at,
            score: (100 * ($passed | map(.weight) | add // 0) / ($rules | map(.weight) | add) | floor),
            passed: ($passed | length), failed: (($rules | length) - ($passed | length)),
            must_fail: ($rules | map(select(.outcome == "fail" and .weight == 3) | .id)),
            rules: $rules }' "$evidence/rules.tsv" > "$evidence/compliance.json"
    say "compliance: $(jq -r '"\(.score) of 100, \(.passed) rules pass, \(.failed) fail"' "$evidence/compliance.json")"
}

# A system that breaks a rule which it must keep does not go on; the rules that failed have been named above.
pack() {
    install -d -m 755 "$root/var/lib/greenroom"
    install -m 644 "$evidence/compliance.json" "$root/var/lib/greenroom/compliance.json"
    cp "$root$firewall" "$root$ssh_policy" "$root$kernel_policy" "$root/etc/sudoers.d/keys-only" "$evidence/"
    (cd "$root" && sha256sum ".$firewall" ".$ssh_policy" ".$kernel_policy") > "$evidence/SHA256SUMS"
    rm -f "$evidence/rules.tsv"
    broken=$(jq -r '.must_fail | join(", ")' "$evidence/compliance.json")
    [ -z "$broken" ] || die "rules that must be kept are broken: $broken"
    tar -C "${evidence%/*}" --sort=name --owner=0 --group=0 --numeric-owner -czf "$GREENROOM_OUTPUT" evidence
}

main

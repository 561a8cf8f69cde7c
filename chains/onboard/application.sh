#!/bin/sh
# Installs applications into the system on the handoff disk, from the package repository that the toolbox brings, without a
# network, and puts their content in place. Writes an XML report.
# May run again on a disk that it has changed: what is installed stays installed, files are written anew.
set -eu

readonly disk=$GREENROOM_HANDOFF_DISK root=/mnt/device repository=/srv/greenroom/apps
readonly site=/var/www/html/index.html

main() {
    trap 'ended $?' EXIT
    trap 'exit 143' HUP INT TERM
    step=mounting
    mount_all
    step=installing
    applications=$(input '.applications[]')
    begun=$(now_ms)
    if [ -n "$applications" ]; then install_applications; else say "no applications are wished for"; fi
    install_ms=$(($(now_ms) - begun))
    step="setting up"
    set_up
    step=report
    report > "$GREENROOM_OUTPUT"
    leave
    say "done"
}

say() { echo "application: $*"; }
die() { echo "application: $*" >&2; exit 1; }
now_ms() { date +%s%3N; }
input() { jq -r "$1" "$GREENROOM_INPUT"; }

ended() {
    [ "$1" -eq 0 ] || echo "application: stopped while $step" >&2
    leave
}

# The second time there is nothing left to do.
leave() {
    cd /
    mountpoint -q "$root" || return 0
    rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/apt/greenroom.list"
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
    # Sockets and marks of what runs during the installation are not for the device.
    mount -t tmpfs tmpfs "$root/run"
    mkdir "$root/run/apps"
    mount --bind "$repository" "$root/run/apps"
}

install_applications() {
    missing=
    for name in $applications; do
        grep -q -x -F "Package: $name" "$repository/Packages" || missing="$missing $name"
    done
    [ -z "$missing" ] || die "the repository has no package$missing; it has: $(offered | tr '\n' ' ')"
    # Nothing may be started here: the services belong to the device.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo 'deb [trusted=yes] file:/run/apps ./' > "$root/etc/apt/greenroom.list"
    say "reading the repository"
    apt update >/dev/null
    say "installing $(echo "$applications" | tr '\n' ' ')"
    # shellcheck disable=SC2086
    apt install $applications
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
}

# apt-get in the system, with this repository only. Its words go to the log.
apt() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o Dir::Etc::SourceList=/etc/apt/greenroom.list -o Dir::Etc::SourceParts=/dev/null \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confnew -o Dpkg::Options::=--force-unsafe-io \
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root "$@"
}

set_up() {
    for name in $applications; do
        case $name in
            nginx | nginx-*)
                write_site > "$root$site"
                rm -f "$root/var/www/html/index.nginx-debian.html"
                # The version is nobody's business.
                echo 'server_tokens off;' > "$root/etc/nginx/conf.d/greenroom.conf"
                systemctl --quiet --root="$root" enable nginx.service
                say "nginx: checking its configuration"
                chroot "$root" nginx -t -q || die "nginx refuses its configuration"
                ;;
        esac
    done
}

write_site() {
    # The title's alphabet has no character that means something in HTML.
    title=$(input .site.title)
    cat <<PAGE
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>$title</title></head>
<body><h1>$title</h1><p>$(input .hostname) is up.</p></body>
</html>
PAGE
}

# Packages: those asked for and those that came with them from the repository.
report() {
    echo '<?xml version="1.0" encoding="UTF-8"?>'
    echo '<report>'
    printf '  <timing install_s="%d.%03d"/>\n' $((install_ms / 1000)) $((install_ms % 1000))
    # shellcheck disable=SC2046,SC2016
    chroot "$root" dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' $(offered) 2>/dev/null |
        while read -r status name version; do
        [ "$status" = ii ] || continue
        requested=no
        for wished in $applications; do [ "$wished" != "$name" ] || requested=yes; done
        printf '  <package name="%s" version="%s" requested="%s"/>\n' "$(text "$name")" "$(text "$version")" "$requested"
    done
    for unit in $(units); do
        printf '  <service name="%s" state="%s"/>\n' "$(text "$unit")" "$(systemctl --root="$root" is-enabled "$unit" || :)"
    done
    if [ -e "$root$site" ]; then
        printf '  <file path="%s" sha256="%s"/>\n' "$site" "$(sha256sum < "$root$site" | cut -d ' ' -f 1)"
    fi
    echo '</report>'
}

offered() { sed -n 's/^Package: //p' "$repository/Packages"; }

# Services of the packages that came from the repository.
units() {
    for name in $(offered); do
        list=$root/var/lib/dpkg/info/$name.list
        [ ! -e "$list" ] || sed -n 's,^\(/usr\)\?/lib/systemd/system/\([^/@]*\.service\)$,\2,p' "$list"
    done | sort -u
}

text() { printf %s "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/"/\&quot;/g'; }

main

# shellcheck shell=bash
# What the host must have installed. The check is one dpkg-query; apt runs only when something is missing.

# Forking a shell needs migration to a file and memory files opened read-only with rom=off: QEMU 8.2 and libvirt 10 on.
readonly oldest_qemu=1:8.2 oldest_libvirt=10.0

# These come from the newest place that is allowed (on Debian 12: backports, whose QEMU 10.0 and libvirt 11.3 were measured).
# libvirt-daemon-system is left out on purpose: it would enable a libvirtd of the host, and the lab brings its own.
vm_packages=(libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients libvirt-dev qemu-system-x86 qemu-utils)
# Split out of libvirt-daemon at different times by different distributions: wanted where they exist.
vm_packages_where_split=(libvirt-daemon-common libvirt-daemon-log libvirt-daemon-driver-network libvirt-common)
tool_packages=(busybox-static mmdebstrap e2fsprogs cpio jq iproute2 util-linux tini gcc libc6-dev pkg-config dnsmasq-base ipxe ovmf
  socat sqlite3 zstd xz-utils debian-archive-keyring ca-certificates)
# The browser in which the tests look at the pages. Its fonts: without one, pictures of pages have no letters.
browser_packages=(chromium chromium-driver fonts-dejavu-core)

# missing_packages: names, one per line, that are absent or too old.
missing_packages() {
  local -A have=()
  local name version status
  while IFS=$'\t' read -r name version status; do
    [[ $status == ii* ]] && have[$name]=$version
  done < <(dpkg-query -W -f='${binary:Package}\t${Version}\t${db:Status-Abbrev}\n' \
    "${vm_packages[@]}" "${tool_packages[@]}" "${browser_packages[@]}" 2>/dev/null | sed 's/^\([^\t:]*\):[a-z0-9]*\t/\1\t/')
  for name in "${vm_packages[@]}" "${tool_packages[@]}" "${browser_packages[@]}"; do
    if [[ -z ${have[$name]:-} ]]; then
      # Debian and Ubuntu name the pkg-config implementation differently.
      [[ $name == pkg-config && -x /usr/bin/pkg-config ]] && continue
      printf '%s\n' "$name"
      continue
    fi
    case $name in
      qemu-*) dpkg --compare-versions "${have[$name]}" ge "$oldest_qemu" || printf '%s\n' "$name" ;;
      libvirt-*) dpkg --compare-versions "${have[$name]}" ge "$oldest_libvirt" || printf '%s\n' "$name" ;;
    esac
  done
}

ensure_packages() {
  local -a missing
  command -v dpkg-query >/dev/null || die "this host is neither Debian nor Ubuntu; install libvirt ≥ $oldest_libvirt, QEMU ≥ 8.2, tini, mmdebstrap, busybox-static, e2fsprogs, cpio and jq yourself"
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    hint "packages: all there"
    return 0
  fi
  note "packages to install: ${missing[*]}"
  step "packages" install_packages "${missing[@]}"
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || die "after installing, these are still missing or too old: ${missing[*]}"
}

install_packages() (
  set -e
  export DEBIAN_FRONTEND=noninteractive
  local -a from_vm=() tools=() vm_target=()
  local name
  forbid_service_starts
  trap allow_service_starts EXIT
  write_backports_source
  apt-get update
  if [[ -n $(backports_suite) ]]; then vm_target=(-t "$(backports_suite)"); fi
  for name in "$@"; do
    if [[ " ${vm_packages[*]} " == *" $name "* ]]; then from_vm+=("$name"); else tools+=("$name"); fi
  done
  if ((${#from_vm[@]})); then
    for name in "${vm_packages_where_split[@]}"; do
      [[ -n $(apt-cache show --no-all-versions "$name" 2>/dev/null) ]] && from_vm+=("$name")
    done
    apt-get install -y --no-install-recommends "${vm_target[@]}" "${from_vm[@]}"
  fi
  ((${#tools[@]} == 0)) || apt-get install -y --no-install-recommends "${tools[@]}"
)

# backports_suite: "bookworm-backports" where the release's own QEMU is too old for forks, else nothing.
backports_suite() (
  # shellcheck disable=SC1091
  . /etc/os-release
  [[ ${ID:-} == debian && ${VERSION_ID:-0} -le 12 ]] && printf '%s-backports' "$VERSION_CODENAME"
  return 0
)

# Writes the same file each time, so that a second run changes nothing. The mirror is the one that the host already uses.
write_backports_source() {
  local suite file=/etc/apt/sources.list.d/greenroom-backports.sources mirror wanted
  suite=$(backports_suite)
  [[ -n $suite ]] || return 0
  mirror=$(debian_mirror)
  wanted=$(printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" "$suite")
  [[ -f $file && $(<"$file") == "$wanted" ]] || printf '%s\n' "$wanted" >"$file"
}

# debian_mirror: where this host takes Debian's main archive from.
debian_mirror() {
  local found
  found=$(awk '/^URIs:/ {print $2} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; break}}' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -E '/debian/?$' | head -n 1) || true
  printf '%s' "${found:-http://deb.debian.org/debian}"
}

# Installing libvirt must not start a libvirtd on the host. A policy that is there already is left alone.
forbid_service_starts() {
  [[ -e /usr/sbin/policy-rc.d ]] && return 0
  printf '#!/bin/sh\n# greenroom-lab: removed when the packages are in\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

allow_service_starts() {
  if grep -qs '^# greenroom-lab:' /usr/sbin/policy-rc.d; then rm -f /usr/sbin/policy-rc.d; fi
}

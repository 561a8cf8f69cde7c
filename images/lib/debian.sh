# shellcheck shell=bash
# A view of Debian's archive that does not depend on what the host has installed or enabled: own sources, own package lists,
# an empty dpkg state. A recipe therefore gives the same image on Debian 12, Debian 13 and Ubuntu, and its inputs can be
# listed without root and without touching the host's apt.

CACHE=${CACHE:-${GREENROOM_CACHE:-/var/cache/greenroom}/images}
# Package lists have one home whatever CACHE a build was given, so that `inputs` and `build` read the same ones.
LISTS_HOME=${GREENROOM_CACHE:-/var/cache/greenroom}/images
if ! mkdir -p "$LISTS_HOME" 2>/dev/null || [[ ! -w $LISTS_HOME ]]; then LISTS_HOME=$CACHE; fi
# Package lists older than this are fetched again, by `inputs` only: a build uses the lists that its inputs were read from.
LISTS_MAX_AGE_DAYS=${LISTS_MAX_AGE_DAYS:-7}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# A script that ends early says where.
trap 'printf "error: %s line %d: %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR
set -o errtrace

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# debian_suite: the host's own release where that is Debian; elsewhere the newest one that was tried.
debian_suite() (
  # shellcheck disable=SC1091
  . /etc/os-release
  if [[ ${ID:-} == debian && -n ${VERSION_CODENAME:-} ]]; then printf '%s' "$VERSION_CODENAME"; else printf 'trixie'; fi
)

# newer_suite: where kernel and guest agent come from. Debian 12's backports have the 6.12 kernel that was measured.
newer_suite() { if [[ $(debian_suite) == bookworm ]]; then printf 'bookworm-backports'; else debian_suite; fi; }

# mirror: where the host itself takes Debian from, so that a site's own mirror is used.
mirror() {
  local found
  found=$(awk '/^URIs:/ {print $2} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; break}}' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -E '/debian/?$' | head -n 1) || true
  printf '%s' "${found:-http://deb.debian.org/debian}"
}

write_sources() {
  local suite base
  suite=$(debian_suite) base=$(mirror)
  printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$base" "$suite"
  printf 'deb [signed-by=%s] %s %s-updates main\n' "$KEYRING" "$base" "$suite"
  if [[ $suite == bookworm ]]; then printf 'deb [signed-by=%s] %s %s-backports main\n' "$KEYRING" "$base" "$suite"; fi
  printf 'deb [signed-by=%s] %s %s-security main\n' "$KEYRING" "${base%/}-security" "$suite"
}

apt_root() { printf '%s/apt-%s' "$LISTS_HOME" "$(debian_suite)"; }

# private_apt TOOL ARGUMENTS…: apt-get or apt-cache on the private view.
private_apt() {
  local tool=$1 root
  shift
  root=$(apt_root)
  "$tool" -q \
    -o Dir::Etc::SourceList="$root/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State="$root/state" -o Dir::State::Lists="$root/lists" -o Dir::State::status="$root/status" \
    -o Dir::Cache="$root/cache" -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin \
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root -o Debug::NoLocking=true \
    -o APT::Update::Post-Invoke::= -o APT::Update::Post-Invoke-Success::= -o Acquire::Languages=none \
    -o Acquire::Retries=3 "$@"
}

# ready_lists MAX_AGE_DAYS: package lists exist and are not older than that (0: any age will do).
ready_lists() {
  local root
  root=$(apt_root)
  [[ -r $KEYRING ]] || die "Debian's archive keys are not installed (package debian-archive-keyring)"
  mkdir -p "$root"/{lists/partial,cache/archives/partial,state} "$CACHE/debs"
  touch "$root/status"
  write_sources >"$root/sources.list.new"
  if ! cmp -s "$root/sources.list.new" "$root/sources.list"; then rm -f "$root/fetched"; fi
  mv "$root/sources.list.new" "$root/sources.list"
  if [[ -e $root/fetched ]] && { (($1 == 0)) || [[ -z $(find "$root/fetched" -mtime "+$1") ]]; }; then return 0; fi
  (
    flock 8
    private_apt apt-get update >"$root/update.log" 2>&1 || { cat "$root/update.log" >&2; die "Debian's package lists cannot be fetched"; }
    touch "$root/fetched"
  ) 8>"$root/lock"
}

# closure SUITE PACKAGE…: "URL file size hash" of the packages with everything that they depend on, from nothing.
closure() {
  local suite=$1
  shift
  private_apt apt-get install -y --no-install-recommends --print-uris -t "$suite" "$@" | sed -n "s/^'\(.*\)'/\1/p" | sort -u
}

# alone SUITE PACKAGE…: the same without dependencies.
alone() {
  local suite=$1
  shift
  private_apt apt-get download --print-uris -t "$suite" "$@" | sed -n "s/^'\(.*\)'/\1/p" | sort -u
}

# kernel_package: the real package behind linux-image-cloud-amd64.
kernel_package() {
  local suite found
  suite=$(newer_suite)
  found=$(private_apt apt-cache -t "$suite" show --no-all-versions linux-image-cloud-amd64 | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
  [[ -n $found ]] || die "$suite has no linux-image-cloud-amd64"
  printf '%s' "$found"
}

# tiny_packages: what the tiny image is cut from. Packages that are depended on but give it nothing (Perl, for merging /usr)
# are left out, so that their updates do not make a new image.
tiny_packages() {
  {
    closure "$(newer_suite)" qemu-guest-agent busybox-static |
      grep -vE ' (perl|libperl|libfile-find|libtext-glob|libnumber|libgdbm|libdb5|usrmerge|usr-is-merged|dpkg|tar|init-system)[^ ]* '
    alone "$(newer_suite)" "$(kernel_package)"
  } | sort -u
}

# fetch: reads lines of closure or alone, leaves each file in $CACHE/debs (checked against apt's hash), prints its path.
fetch() {
  local url file size hash path sum
  while read -r url file size hash; do
    path=$CACHE/debs/$file
    if [[ ! -s $path || $(stat -c %s "$path") != "$size" ]]; then
      /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file "$url" "$path.new" "$hash" >&2 ||
        die "cannot fetch $file; if the archive has moved on, remove $(apt_root)/fetched and try again"
      mv "$path.new" "$path"
    fi
    case $hash in
      SHA256:*) sum=$(sha256sum <"$path"); [[ ${sum%% *} == "${hash#SHA256:}" ]] || { rm -f "$path"; die "$file is damaged; it was removed, try again"; } ;;
    esac
    printf '%s\n' "$path"
  done
}

# versions: reads lines of closure or alone, prints "package=version".
versions() { awk '{print $2}' | sed 's/_[a-z0-9]*\.deb$//; s/_/=/; s/%3a/:/g; s/%2b/+/g' | sort -u; }

# remembered KEY COMMAND…: COMMAND's output, computed once per state of the package lists and of the recipe.
remembered() {
  local key=$1 file
  shift
  file=$(apt_root)/inputs-$key
  if [[ ! -e $file || $(apt_root)/fetched -nt $file ]] ||
    [[ -n $(find "$(dirname "$(readlink -f "$0")")" "$(dirname "${BASH_SOURCE[0]}")" -newer "$file" -print -quit) ]]; then
    "$@" >"$file.new"
    mv "$file.new" "$file"
  fi
  cat "$file"
}

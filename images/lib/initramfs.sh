# shellcheck shell=bash
# Parts of a small initramfs, taken from unpacked Debian packages.

# one_of FOLDER PATH…: the first PATH that FOLDER has.
one_of() {
  local folder=$1 path
  shift
  for path in "$@"; do [[ -e $folder/$path ]] && { printf '%s' "$folder/$path"; return; }; done
  die "none of $* is in Debian's packages"
}

# copy_busybox ROOT PACKAGES: busybox with each applet at its usual place.
copy_busybox() {
  local root=$1 packages=$2 applet
  mkdir -p "$root/bin"
  cp "$(one_of "$packages" bin/busybox usr/bin/busybox)" "$root/bin/busybox"
  "$root/bin/busybox" --list-full | while read -r applet; do
    [[ $applet == bin/busybox || -e $root/$applet ]] && continue
    mkdir -p "$root/$(dirname "$applet")"
    ln -s /bin/busybox "$root/$applet"
  done
}

# copy_modules ROOT PACKAGES MODULE…: in loading order; what the kernel has built in is skipped.
copy_modules() {
  local root=$1 packages=$2 module found
  shift 2
  mkdir -p "$root/lib/modules"
  : >"$root/lib/modules/order"
  for module in "$@"; do
    found=$(find "$packages" -path '*/lib/modules/*' -name "$module.ko*" -print -quit)
    [[ -n $found ]] || continue
    case $found in
      *.xz) xz -dc "$found" >"$root/lib/modules/$module.ko" ;;
      *.zst) zstd -qdc "$found" >"$root/lib/modules/$module.ko" ;;
      *) cp "$found" "$root/lib/modules/$module.ko" ;;
    esac
    printf '%s\n' "$module" >>"$root/lib/modules/order"
  done
}

# shellcheck shell=bash
# What both scripts of this recipe need to know. Sourced after ../lib/debian.sh.

# device_packages: what the image is cut from.
device_packages() {
  {
    alone "$(debian_suite)" busybox-static
    alone "$(newer_suite)" "$(kernel_package)"
  } | sort -u
}

# The program inside is not a Debian package: it comes from this checkout, and the image from the greenroom beside it. So it
# is where the greenroom is that builds the image, unless GREENROOM_DEVICE_AGENT names it.
device_agent() {
  local builder
  if [[ -n ${GREENROOM_DEVICE_AGENT:-} ]]; then
    [[ -x $GREENROOM_DEVICE_AGENT ]] || die "GREENROOM_DEVICE_AGENT=$GREENROOM_DEVICE_AGENT is not a program"
    printf '%s' "$GREENROOM_DEVICE_AGENT"
    return
  fi
  builder=$(readlink -f "/proc/$PPID/exe") || builder=
  [[ -n $builder && -x $(dirname "$builder")/greenroom-device ]] ||
    die "greenroom-device is not beside the greenroom that builds this image; compile it first: vagrant/lab build, or cargo rustc --release --bin greenroom-device -- -C target-feature=+crt-static"
  printf '%s' "$(dirname "$builder")/greenroom-device"
}

# check_static FILE: the ramdisk has no C library. Two ELF programs differ in whether they ask for a loader.
check_static() {
  ! LC_ALL=C grep -q -a -F '/lib64/ld-linux-x86-64.so.2' "$1" ||
    die "$1 is linked dynamically; compile it with -C target-feature=+crt-static"
}

# shellcheck shell=bash
# What is done with a lab that is up: commands in it, the build, images, tests, measurements, logs.

require_up() { lab_is_up || die "the lab is not up; start it with: vagrant/lab up"; }

# in_lab_with_environment COMMAND…: as a user of the lab sees it.
in_lab_with_environment() {
  in_lab env \
    GREENROOM_STATE="$LAB/state" \
    GREENROOM_SOCKET="$LAB/state/greenroom.sock" \
    GREENROOM_LIBVIRT_URI=qemu:///system \
    GREENROOM_IMAGES="$CHECKOUT/images" \
    GREENROOM_CHAINS="$CHECKOUT/chains" \
    GREENROOM_CACHE="$CACHE" \
    CARGO_TARGET_DIR="$CACHE/target" \
    CARGO_NET_OFFLINE=true \
    PATH="$CACHE/target/release:$CACHE/target/debug:$PATH" \
    "$@"
}

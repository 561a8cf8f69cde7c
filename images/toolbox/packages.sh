# shellcheck shell=bash
# What goes in. Read by `inputs` and `build` alike. mmdebstrap adds what is essential.

# newer PACKAGE: the same spelled so that apt takes it from the newer suite.
newer() { if [[ $(newer_suite) == $(debian_suite) ]]; then printf '%s' "$1"; else printf '%s/%s' "$1" "$(newer_suite)"; fi; }

# The shell VM. Its kernel is unpacked beside these instead of installed: a kernel package would bring initramfs-tools, whose
# image takes longer to boot when emulated than the ten lines in ./initramfs.
shell_packages() {
  printf '%s\n' apt systemd-sysv udev dbus kmod iproute2 iputils-ping procps ca-certificates "$(newer qemu-guest-agent)" \
    jq python3 python3-yaml ansible-core openssh-client openssh-server \
    parted e2fsprogs dosfstools gdisk fdisk grub-pc-bin grub-efi-amd64-bin grub2-common \
    nftables lynis mmdebstrap zstd xz-utils cpio openssl
}

# What a device starts from.
device_packages() {
  printf '%s\n' apt systemd-sysv udev dbus kmod iproute2 procps e2fsprogs openssh-server nftables sudo initramfs-tools zstd \
    "$(newer qemu-guest-agent)" "$(newer linux-image-cloud-amd64)"
}

# Applications that a persona may ask for, as packages beside the device's root file system.
application_packages() { printf '%s\n' nginx-light; }

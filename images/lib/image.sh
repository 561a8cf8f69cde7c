# shellcheck shell=bash
# Making files that are the same each time, without loop devices and without mounting anything.

# One moment for everything that would otherwise carry the time of the build: 2025-01-01.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600}
export LC_ALL=C TZ=UTC
umask 022

build_folders() {
  : "${OUT:?OUT must name the folder to fill}" "${WORK:?WORK must name a scratch folder}"
  mkdir -p "$OUT" "$WORK"
}

# tool_versions: the host's programs that shape the result.
tool_versions() {
  local tool
  for tool in "$@"; do
    case $tool in
      mke2fs) printf 'tool mke2fs %s\n' "$(dpkg-query -W -f='${Version}' e2fsprogs)" ;;
      qemu-img) printf 'tool qemu-img %s\n' "$(dpkg-query -W -f='${Version}' qemu-utils)" ;;
      *) printf 'tool %s %s\n' "$tool" "$(dpkg-query -W -f='${Version}' "$tool")" ;;
    esac
  done
}

# pack_initramfs FOLDER: a cpio archive on stdout, in sorted order, owned by root, with one time stamp.
pack_initramfs() (
  cd "$1" || exit
  find . -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  find . -print0 | sort -z | cpio --null --create --format=newc --owner=0:0 --reproducible --quiet
)

# ext4_qcow2 FILE SIZE_MIB LABEL [FOLDER]: a disk with one ext4 file system over all of it, filled from FOLDER. The raw file in
# between lies in $WORK. Uuid and hash seed are derived from the label, because random ones would change the digest each time.
ext4_qcow2() {
  local file=$1 size=$2 label=$3 folder=${4:-} uuid raw=$WORK/ext4.raw
  uuid=$(printf 'greenroom %s' "$label" | sha256sum | sed 's/^\(........\)\(....\).\(...\).\(...\)\(............\).*/\1-\2-4\3-8\4-\5/')
  rm -f "$raw"
  truncate -s "${size}M" "$raw"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -L "$label" -U "$uuid" \
    -E "hash_seed=$uuid,lazy_itable_init=1,lazy_journal_init=1" -m 0 ${folder:+-d "$folder"} "$raw"
  qemu-img convert -q -O qcow2 "$raw" "$file"
  rm -f "$raw"
}

# idle_program: an x86-64 ELF program of 129 bytes on stdout, which ends with exit code 0. It stands for /sbin/hwclock: the guest
# agent, having set the clock, runs that and waits for it, and a virtual machine's hardware clock is the host's business.
idle_program() {
  printf '\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0' # 64 bits, little endian
  printf '\x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0' # executable, x86-64, begins at 0x400078
  printf '\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # program headers at 64, no sections
  printf '\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0' # one program header of 56 bytes
  printf '\x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0' # load, readable and executable, from 0
  printf '\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0' # at 0x400000
  printf '\x81\0\0\0\0\0\0\0\x81\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0' # 129 bytes, aligned to a page
  printf '\x31\xff\xb8\x3c\0\0\0\x0f\x05' # exit(0)
}

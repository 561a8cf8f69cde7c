# greenroom-identity 1
# shellcheck shell=sh
# Makes a fork somebody of its own, and says who it is. Runs in dash and in busybox's shell.
# $1 host name, $2 machine id, $3 whole seconds of the epoch (busybox ignores a fraction without a word), or nothing.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
fail() { echo "error=$1"; exit 1; }

if [ -n "$3" ]; then date -s "@$3" >/dev/null || fail 'the clock cannot be set'; fi

# The generation id reaches the kernel a moment after the guest goes on (up to 36 ms were seen elsewhere); nothing is drawn before.
reseeded=no
tries=0
while [ $tries -lt 60 ]; do
  if dmesg | grep -q 'reseeded due to virtual machine fork'; then reseeded=yes; break; fi
  tries=$((tries + 1))
  sleep 0.05
done

echo "$1" >/proc/sys/kernel/hostname || fail 'the host name cannot be set'
echo "$1" >/etc/hostname || fail 'the host name cannot be written'
if grep -q '^127\.0\.1\.1' /etc/hosts 2>/dev/null; then sed -i "s/^127\\.0\\.1\\.1.*/127.0.1.1 $1/" /etc/hosts
else echo "127.0.1.1 $1" >>/etc/hosts; fi
rm -f /etc/machine-id
echo "$2" >/etc/machine-id || fail 'the machine id cannot be written'
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then echo "$2" >/var/lib/dbus/machine-id; fi

had_keys=no
for key in /etc/ssh/ssh_host_*_key; do if [ -e "$key" ]; then had_keys=yes; fi; done
if [ $had_keys = yes ] && [ $reseeded = yes ]; then
  rm -f /etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -C "root@$1" -f /etc/ssh/ssh_host_ed25519_key || fail 'no host key can be made'
fi

read -r host_name </proc/sys/kernel/hostname
read -r machine_id </etc/machine-id
read -r draw </proc/sys/kernel/random/uuid
echo "host_name=$host_name"
echo "machine_id=$machine_id"
echo "draw=$draw"
echo "reseeded=$reseeded"
echo "vcpus=$(grep -c '^processor' /proc/cpuinfo)"
while read -r name value _; do
  if [ "$name" = MemTotal: ]; then echo "memory_mib=$((value / 1024))"; fi
done </proc/meminfo
for card in /sys/class/net/*; do
  if [ "${card##*/}" = lo ] || [ ! -e "$card/address" ]; then continue; fi
  read -r mac <"$card/address"
  echo "mac=$mac"
done
for key in /etc/ssh/ssh_host_*_key.pub; do
  if [ -s "$key" ]; then
    read -r kind value _ <"$key"
    echo "key=$kind $value"
  fi
done
exit 0

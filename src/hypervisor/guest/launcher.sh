# Runs one job in the guest. Sent as the argument of `sh -c` by launcher.rs, which strips these
# comments; all values arrive as arguments. For dash and for busybox's sh.
PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
export PATH
umask 077
# The agent's session may end before the job does. A caught signal (not an ignored one) is back at
# its default in the work.
trap : HUP INT TERM
job=$1/$2 block=$3 dev=$4 serial=$5 staged=$6 input_how=$7 input=$8 input_size=$9
shift 9
script_how=$1 script=$2 script_size=$3 names=$4
shift 4
mkdir -p "$job/work" || exit 70
# The once-only guard: an exclusive create of `end`, which stays empty until the job has ended.
set -C
if ! true > "$job/end"; then
    [ -z "$staged" ] || rm -rf "$staged"
    exit 0
fi
set +C
# The guard is given back where the job could not be prepared, so that a later start may succeed.
give_up() {
    rm -f "$job/end"
    [ -z "$staged" ] || rm -rf "$staged"
    exit 71
}
# $1 file, $2 how it comes, $3 text, $4 size
take() {
    case $2 in
        none) return 0 ;;
        text) printf %s "$3" > "$1" || give_up; return 0 ;;
        stdin) cat > "$1" ;;
        staged) mv "$staged/${1##*/}" "$1" ;;
    esac
    [ "$(wc -c < "$1")" -eq "$4" ] || give_up
}
take "$job/input" "$input_how" "$input" "$input_size"
take "$job/script" "$script_how" "$script" "$script_size"
[ -z "$staged" ] || rm -rf "$staged"
: > "$job/out"
: > "$job/err"
# The handoff disk may still be on its way in: up to five seconds.
disk=
if [ -n "$serial" ]; then
    tries=0
    while :; do
        for file in "$block"/*/serial; do
            seen=
            [ -r "$file" ] && { read -r seen < "$file" || :; }
            [ "$seen" = "$serial" ] || continue
            disk=${file%/serial}
            disk=$dev/${disk##*/}
        done
        [ -n "$disk" ] && [ -e "$disk" ] && break
        disk=
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || break
        sleep 0.05 || sleep 1
    done
fi
if [ -n "$serial" ] && [ -z "$disk" ]; then
    echo "the disk with serial $serial did not appear" > "$job/err"
    code=125
else
    (
        umask 022
        cd "$job/work" || exit 125
        while [ "$names" -gt 0 ]; do
            export "$1"
            shift
            names=$((names - 1))
        done
        export GREENROOM_INPUT="$job/input" GREENROOM_OUTPUT="$job/output"
        [ -z "$disk" ] || export GREENROOM_HANDOFF_DISK="$disk"
        # A session of its own, so that a script's `kill 0` reaches neither us nor the agent.
        command -v setsid > /dev/null && exec setsid "$@"
        exec "$@"
    ) < "$job/input" >> "$job/out" 2>> "$job/err"
    code=$?
fi
# What was written to the disk must have left the guest before anybody is told of the end.
if [ -n "$disk" ]; then
    tries=0
    while [ "$tries" -lt 16 ]; do
        mounted=
        while read -r device rest; do
            case $device in
                "$disk" | "$disk"[0-9]* | "$disk"p[0-9]*)
                    mounted=$device
                    break
                    ;;
            esac
        done < /proc/mounts
        [ -n "$mounted" ] || break
        umount "$mounted" || umount -l "$mounted"
        tries=$((tries + 1))
    done
    blockdev --flushbufs "$disk" || sync
fi
cd "$job" || exit 72
set -- $(wc -c out err output)
out=${1:-0} err=${3:-0} output=- body=left size=$((${1:-0} + ${3:-0}))
case $6 in output) output=$5 size=$((size + $5)) ;; esac
[ "$size" -gt 24576 ] || body=here
record() {
    echo "$code $out $err $output $body" || return
    [ "$body" = left ] || [ "$size" -eq 0 ] || cat out err output
    echo
    echo end
}
# A byte on the bell's port tells the host to look at once; without a port it looks in a while.
ring() {
    for port in "${block%/*}"/class/virtio-ports/*/name; do
        seen=
        [ -r "$port" ] && { read -r seen < "$port" || :; }
        [ "$seen" = dev.greenroom.bell ] || continue
        port=${port%/name}
        echo > "$dev/${port##*/}"
    done
    return 0
}
# Where the logs have filled the file system, what is no longer needed makes room for the news.
record >> end && ring && exit 0
rm -rf input script work
body=left
record > end
ring

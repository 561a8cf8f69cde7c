# shellcheck shell=bash
# How the lab talks: one line per step with the seconds it took, long output into a log file, colour only on a terminal.

if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  c_ok=$'\e[32m' c_bad=$'\e[31m' c_dim=$'\e[2m' c_off=$'\e[0m'
else
  c_ok='' c_bad='' c_dim='' c_off=''
fi

note() { printf '%s\n' "$*" >&2; }
hint() { printf '%s%s%s\n' "$c_dim" "$*" "$c_off" >&2; }
done_line() { printf '%s✓%s %s %s%s s%s\n' "$c_ok" "$c_off" "$1" "$c_dim" "$2" "$c_off" >&2; }
failed_line() { printf '%s✗%s %s %s%s s%s\n' "$c_bad" "$c_off" "$1" "$c_dim" "$2" "$c_off" >&2; }

# die MESSAGE [EXIT]: the user sees one sentence, and a next step where there is one.
die() {
  printf '%slab:%s %s\n' "$c_bad" "$c_off" "$1" >&2
  exit "${2:-1}"
}

# die_usage MESSAGE: the command line was wrong, which is exit code 2 everywhere in Greenroom.
die_usage() {
  printf '%slab:%s %s\n' "$c_bad" "$c_off" "$1" >&2
  hint "See: vagrant/lab ${2:-} --help"
  exit 2
}

now_ms() { local t=$EPOCHREALTIME; printf '%s' "$((${t%[.,]*} * 1000 + 10#${t#*[.,]} / 1000))"; }

# seconds_since MS: "3.4" for people.
seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

show_tail() {
  local file=$1 lines=${2:-25}
  [[ -s $file ]] || return 0
  printf '%s--- last lines of %s%s\n' "$c_dim" "$file" "$c_off" >&2
  tail -n "$lines" "$file" | sed 's/^/    /' >&2
}

# step LABEL COMMAND…: runs COMMAND with its output in <lab>/log/<label>.log. Never call it inside a condition: bash
# would then ignore failures inside COMMAND.
step() {
  local label=$1 log status began
  shift
  mkdir -p "$LAB/log"
  log=$LAB/log/$(tr -cs 'a-z0-9' '-' <<<"${label,,}" | sed 's/^-*//; s/-*$//').log
  began=$(now_ms)
  [[ -t 2 ]] && printf '%s…%s %s\r' "$c_dim" "$c_off" "$label" >&2
  set +e
  (set -e; "$@") >"$log" 2>&1 9>&-
  status=$?
  set -e
  if ((status == 0)); then
    done_line "$label" "$(seconds_since "$began")"
    return 0
  fi
  failed_line "$label" "$(seconds_since "$began")"
  show_tail "$log"
  die "\"$label\" failed with exit code $status; the whole output is in $log" "$status"
}

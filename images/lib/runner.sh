# shellcheck shell=bash
# The program that runs stages' jobs in a guest (runner/main.rs): one static file, made with rustc alone and kept by the digest
# of what it is made from. Without rustc the image goes without: its jobs then start through the guest agent, more slowly.
# Sourced after debian.sh and image.sh.

runner_sources() { find "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/runner" -name '*.rs' | sort; }

has_rustc() { command -v rustc >/dev/null && rustc --version >/dev/null 2>&1; }

# runner_inputs: a line for `inputs`.
runner_inputs() {
  if has_rustc; then printf 'runner %s\n' "$(runner_key)"; else printf 'runner none\n'; fi
}

# The names of the sources are in the key, their folder is not.
runner_key() {
  local file
  {
    rustc --version
    declare -f make_runner
    while read -r file; do printf '%s %s\n' "${file##*/}" "$(sha256sum <"$file")"; done < <(runner_sources)
  } | sha256sum | cut -c1-16
}

# make_runner FILE: panics carry no path of this machine.
make_runner() {
  local folder
  folder=$(dirname "$(runner_sources | head -n 1)")
  rustc --edition 2024 --crate-name greenroom_runner --remap-path-prefix "$folder=runner" -C opt-level=s -C panic=abort \
    -C codegen-units=1 -C strip=symbols -C relocation-model=static -C target-feature=+crt-static -o "$1" "$folder/main.rs"
}

# add_runner ROOT
add_runner() {
  local root=$1 kept
  if ! has_rustc; then
    say "no rustc here: the image goes without greenroom-runner, and its jobs start through the guest agent"
    return
  fi
  kept=$CACHE/runner-$(runner_key)
  if [[ ! -e $kept ]]; then
    make_runner "$kept.new$$"
    mv "$kept.new$$" "$kept"
  fi
  install -D -m 755 "$kept" "$root/usr/sbin/greenroom-runner"
}

# shellcheck shell=bash
# schemathesis reads the API's OpenAPI document and asks everything that it allows, and much that it does not
# (tests/api/schemathesis.rs). A Python program, installed with pinned versions into a folder of the cache that is named after
# the pins and the Python. Where it cannot be had (no package index), the test is left out and says so.

schemathesis_venv() {
  printf '%s/schemathesis-%s' "$CACHE" "$( (cat "$HERE/lib/schemathesis-requirements.txt"; /usr/bin/python3 --version) | sha256sum | cut -c1-12)"
}

# wants_schemathesis ARGS…: the tests of the API are among those that run. They are when none is named.
wants_schemathesis() {
  [[ -z ${GREENROOM_LAB_SKIP_SCHEMATHESIS:-} ]] || return 1
  [[ " $* " != *" --test "* || " $* " == *" --test api "* ]]
}

schemathesis_up() {
  local venv
  venv=$(schemathesis_venv)
  [[ -e $venv/complete ]] && return 0
  if [[ $(dpkg-query -W -f='${db:Status-Abbrev}' python3-venv 2>/dev/null) != ii* ]]; then
    step "packages for schemathesis" install_packages python3-venv
  fi
  step "schemathesis" schemathesis_install "$venv"
  [[ -e $venv/complete ]] || hint "schemathesis cannot be installed: the API is not tested with it; see vagrant/lab log schemathesis"
}

# Fails for no one: without a package index there is no program, and the rest is tested all the same.
schemathesis_install() {
  local venv=$1
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  if PIP_CACHE_DIR=$CACHE/pip "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 2 --timeout 20 \
    -r "$HERE/lib/schemathesis-requirements.txt"; then
    : >"$venv/complete"
  fi
}

# schemathesis_program: its path, or nothing.
schemathesis_program() {
  local venv
  venv=$(schemathesis_venv)
  [[ -e $venv/complete ]] && printf '%s/bin/schemathesis' "$venv"
  return 0
}

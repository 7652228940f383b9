#!/usr/bin/env bash
# Makes the environment in .venv from requirements/lock-py311.txt: `make env`.
#
# Does nothing when .venv is up to date. The stamp is written last, and every step before it can
# be repeated, so an interrupted run is continued by the next one.
#
#   scripts/env.sh --check       exit status 0: .venv is up to date, 1: it is not; changes nothing
#   PYTHON=/path/to/python3.11   use this interpreter instead of looking for one
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
venv=$root/.venv
lock=requirements/lock-py311.txt
tools=requirements/tools.txt
stamp=$venv/.shelfwise-stamp

# With either of these, modules would be compiled anew in each process, or imported from elsewhere.
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { printf 'env: %s\n' "$*" >&2; }
fail() { printf 'env: %s\n' "$@" >&2; exit 1; }

is_python311() {
  "$1" -c 'import sys; sys.exit(sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11) or sys.maxsize < 2**32)' >/dev/null 2>&1
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_python311 "$PYTHON" || fail "PYTHON=$PYTHON is not a 64-bit CPython 3.11"
    echo "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3.11 python3 python /usr/bin/python3.11 /usr/local/bin/python3.11 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-3.11*/bin/python; do
    if is_python311 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "no CPython 3.11 found (looked for python3.11 and python3 on PATH, pyenv's and uv's)." \
    "Get one, then run the same command again:" \
    "  Debian 12:     sudo apt install python3.11 python3.11-venv" \
    "  Ubuntu 22.04:  sudo apt install python3.11 python3.11-venv" \
    "  any Linux:     uv python install 3.11     (https://docs.astral.sh/uv)" \
    "                 pyenv install 3.11         (https://github.com/pyenv/pyenv)" \
    "or name one: make env PYTHON=/path/to/python3.11"
}

check_platform() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    fail "the lock is for Linux on x86_64, this is $(uname -s) on $(uname -m); use a container (docs/environment.md)"
  "$1" -c '
import os, sys
name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
sys.exit(tuple(map(int, version.split("."))) < (2, 28))' 2>/dev/null ||
    fail "the lock needs glibc >= 2.28 (Debian 10, RHEL 8, Ubuntu 20.04 or newer); musl will not do"
}

make_venv() {
  # What a link leads to belongs to another checkout: neither replaced nor installed into.
  [ ! -L "$venv" ] || fail "$venv is a link; remove it to get an environment of this checkout"
  # A virtual environment knows its own path and interpreter: a moved or broken one is made anew.
  if [ -e "$venv" ]; then
    if is_python311 "$venv/bin/python" && grep -qF "$venv" "$venv/bin/activate" 2>/dev/null; then
      return
    fi
    [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] ||
      fail "$venv exists and is not a virtual environment; move it away"
  fi
  local python
  python=$(find_python)
  check_platform "$python"
  # Only now that there is an interpreter to make the new one with.
  if [ -e "$venv" ]; then
    say "replacing $venv (moved, broken or another Python)"
    rm -rf "$venv"
  fi
  say "creating .venv with $("$python" -c 'import sys; print(f"CPython {sys.version.split()[0]}", sys.executable)')"
  # Without pip: Debian splits ensurepip off into python3.11-venv, and uv installs the rest.
  "$python" -m venv --without-pip "$venv" || fail "python -m venv failed; on Debian and Ubuntu: sudo apt install python3.11-venv"
}

make_uv() {
  local want
  want=$(sed -n 's/^uv==//p' "$tools")
  [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" = "$want" ] && return
  say "installing uv $want"
  if command -v uv >/dev/null && uv pip install --quiet --reinstall --python "$venv/bin/python" "uv==$want" 2>/dev/null; then
    return
  fi
  local base
  base=$("$venv/bin/python" -c 'import sys; print(sys._base_executable)')
  # In this order: the environment's own pip, one made by ensurepip, the base interpreter's pip.
  if "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null 2>&1; then
    "$venv/bin/python" -m pip install --quiet --force-reinstall --disable-pip-version-check "uv==$want" && return
  elif "$base" -m pip --version >/dev/null 2>&1; then
    "$base" -m pip --python "$venv/bin/python" install --quiet --force-reinstall --disable-pip-version-check "uv==$want" && return
  else
    fail "$base has neither ensurepip nor pip, and there is no uv on PATH." \
      "On Debian and Ubuntu: sudo apt install python3.11-venv; elsewhere: https://docs.astral.sh/uv" \
      "Then run the same command again."
  fi
  fail "uv $want could not be installed from the package index (see above); is the network or a mirror reachable?"
}

drop_half_installed() {
  # uv writes INSTALLER when all of a package is in place. Without it, the package's metadata may
  # be there and its modules not, and uv would take it for installed.
  local info
  for info in "$1"/*.dist-info; do
    if [ -d "$info" ] && [ ! -f "$info/INSTALLER" ]; then
      say "installing $(basename "$info" .dist-info) again (was interrupted)"
      rm -rf "$info"
    fi
  done
}

install_lock() {
  "$venv/bin/uv" pip install --python "$venv/bin/python" --no-deps --require-hashes \
    --build-constraints "$tools" -r "$lock"
}

make_packages() {
  local site=$1
  drop_half_installed "$site"
  say "installing the lock: $(grep -cE '^[a-z0-9].*==' "$lock") packages, 800 MB to download unless they are cached"
  # The lock is complete and holds overridden versions: installing it must not resolve again.
  # On a terminal uv shows its progress; in a log its list of 200 packages says nothing new.
  if [ -t 2 ]; then install_lock; else install_lock 2>&1 | { grep -v '^ + ' >&2 || true; }; fi
  say "installing shelfwise (editable)"
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --reinstall-package shelfwise -e .
  say "compiling bytecode"
  # Also what an interrupted run left uncompiled. Some packages ship templates that are not Python: not an error.
  "$venv/bin/python" -m compileall -qq -j 0 "$site" || true
}

key() {
  {
    sha256sum "$lock" "$tools" setup.py shelfwise_env.pth scripts/env.sh
    echo "$venv"
    readlink -f "$venv/bin/python" || true
  } | sha256sum | cut -d' ' -f1
}

up_to_date() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(key)" ] && "$venv/bin/python" -c '' 2>/dev/null
}

case "$*" in
  "") ;;
  --check) if up_to_date; then exit 0; else exit 1; fi ;;
  *) fail "unknown argument: $* (try --check, or none)" ;;
esac
up_to_date && exit 0
# Two `make`s at once take turns.
if command -v flock >/dev/null; then
  exec 9>"$root/.venv.lock"
  flock -n 9 || { say "waiting for another make env"; flock 9; }
  up_to_date && exit 0
fi
SECONDS=0
make_venv
make_uv
make_packages "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
"$venv/bin/python" -c 'import os, shelfwise_env; assert os.environ["TF_USE_LEGACY_KERAS"] == "1"' ||
  fail "the environment variable TF_USE_LEGACY_KERAS is not 1 in $venv/bin/python; unset it"
key >"$stamp.new"
mv "$stamp.new" "$stamp"
say "ready in $SECONDS s"

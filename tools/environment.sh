# shellcheck shell=bash
# Sourced by ./run, ./test and the scripts beside this file: makes .venv hold what a lock file says.
# Exit codes are kinfolk's own: 1 failed, 3 something needed is not there (the message says what).

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$checkout/.venv
stamp=$venv/installed-by-kinfolk # what the last complete install was made from; absent while one is under way

trap 'exit 130' INT # pip and apt-get catch it and would look as if they had failed

say() { printf 'kinfolk: %s\n' "$*" >&2; }

fail() { # STATUS MESSAGE
  say "$2"
  exit "$1"
}

# Run a command without its chatter: what it printed is shown, whole, only when it fails (and kept in $output).
quietly() {
  output=$("$@" 2>&1 </dev/null) || {
    printf '%s\n' "$output" >&2
    return 1
  }
}

apt_install() { # PACKAGE…, as root
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
  # Lists may be there and stale, so a first failure is no news: only what follows an update is told.
  if compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null && "${install[@]}" >/dev/null 2>&1 </dev/null; then return; fi
  quietly apt-get update && quietly "${install[@]}"
}

# Everything an install depends on; the folder too, since a venv cannot be moved.
recipe() { # LOCK
  printf '%s\n' "$checkout"
  cat "$checkout/pyproject.toml" "$checkout/$1"
}

is_installed() { # LOCK
  [ -x "$venv/bin/python" ] && [ -x "$venv/bin/kinfolk" ] && [ -f "$stamp" ] && [ "$(<"$stamp")" = "$(recipe "$1")" ]
}

# Set $python and $version: the first Python that is new enough and can make a venv, else the first new enough.
find_python() {
  local name found='' its_version is_new has_venv
  local probe='
import sys, importlib.util as look
print("%d.%d" % sys.version_info[:2], int(sys.version_info >= (3, 11)), int(all(map(look.find_spec, ("venv", "ensurepip")))))'
  python=''
  for name in python3.14 python3.13 python3.12 python3.11 python3; do
    read -r its_version is_new has_venv < <("$name" -c "$probe" 2>/dev/null) || continue
    found="$found${found:+, }$(command -v "$name") ($its_version)"
    [ "$is_new" = 1 ] || continue
    if [ "$has_venv" = 1 ]; then
      python=$name version=$its_version
      return
    fi
    [ -n "$python" ] || python=$name version=$its_version
  done
  [ -n "$python" ] || fail 3 "Python 3.11 or newer is needed; found: ${found:-none}"
  add_venv
}

add_venv() {
  local package=python$version-venv missing
  missing="$(command -v "$python") cannot make a virtual environment (it has no ensurepip)"
  command -v apt-get >/dev/null || fail 3 "$missing: install the venv module of Python $version with your system's package manager"
  [ "$(id -u)" = 0 ] || fail 3 "$missing; install what is missing and start again:
  sudo apt-get install $package"
  say "installing $package"
  apt_install "$package" || fail 3 "$missing, and apt-get could not install $package: its words are above"
}

# Make .venv hold the first lock file's packages and Kinfolk itself, unless it holds one of the lock files named.
provide() { # LOCK [LOCK THAT WILL DO AS WELL]…
  local lock
  for lock; do
    if is_installed "$lock"; then return; fi
  done
  lock=$1
  find_python
  { mkdir -p "$checkout/.cache" && exec 9>"$checkout/.cache/install.lock"; } 2>/dev/null ||
    fail 1 "cannot write in $checkout (read-only, full, or another user's): .venv is made there"
  # flock(1) is not everywhere; the lock belongs to the open file, so a Python that ends leaves it with this shell.
  "$python" -c 'if 1:
    import fcntl, sys
    try:
        fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("kinfolk: waiting for an install that is under way", file=sys.stderr)
        fcntl.flock(9, fcntl.LOCK_EX)'
  is_installed "$lock" || install "$lock"
  exec 9>&-
}

install() { # LOCK
  local lock=$1 made_from
  made_from=$(recipe "$lock")
  local pip=("$venv/bin/python" -m pip install --quiet --no-input --no-user --disable-pip-version-check)
  if [ -f "$stamp" ] && [ -x "$venv/bin/python" ]; then
    rm -f "$stamp" || fail 1 "cannot write in $venv"
  else
    # No stamp: nothing is there, or an install was cut short, and pip would take its half-written packages for whole.
    say "making .venv with $(command -v "$python") ($version)"
    quietly "$python" -m venv --clear "$venv" || fail 1 "could not make $venv: $(remedy)"
  fi
  say "installing $lock (the first time takes a minute)"
  quietly "${pip[@]}" --require-hashes -r "$checkout/$lock" || fail 1 "could not install $lock: $(remedy)"
  # Its build tools are in the lock: without isolation nothing unhashed is fetched. A folder itself can have no hash.
  quietly env PIP_REQUIRE_HASHES=0 "${pip[@]}" --no-index --no-deps --no-build-isolation -e "$checkout" || fail 1 "could not install kinfolk: $(remedy)"
  { printf '%s\n' "$made_from" >"$stamp.new" && mv -f "$stamp.new" "$stamp"; } || fail 1 "could not write $stamp: is the disk full?"
}

remedy() { # for what $output says
  case $output in
    *'No space left'*) echo 'the disk is full; free some and start again' ;;
    *'Read-only file system'* | *'Permission denied'*) echo 'a folder cannot be written; the message above names it' ;;
    *'DO NOT MATCH THE HASHES'*) echo 'the index (or a find-links folder) serves other files than the lock file names' ;;
    *'No matching distribution'* | *'connection'* | *'Connection'*)
      echo 'pip did not get it from its index; check the network, or name an index by PIP_INDEX_URL or pip.conf'
      ;;
    *) echo "pip's words are above; mended, start again" ;;
  esac
}

#!/bin/sh
# Makes the virtual environment of `make`: environment.sh FOLDER [PYTHON]
# Python 3.10 gets exactly the packages of requirements.lock, with the compiled Detectron2. Python 3.11 to 3.13 gets those
# of requirements-newer.lock and Detectron2's Python code. Without PYTHON it takes 3.10, else the newest, of those here.
set -eu
venv=$1
python=${2:-}

if [ ! -x "$venv/bin/python" ]; then
  if [ -z "$python" ]; then
    python=$(sh tools/find_python.sh 3.10 3.13 3.12 3.11) ||
      python=$(uv python install --quiet 3.10 2>/dev/null && uv python find 3.10) ||
      { echo "no Python 3.10 to 3.13 found: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
  fi
  fits=$("$python" -c 'import sys; print((3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || true)
  [ "$fits" = True ] ||
    { echo "PYTHON=$python: expected Python 3.10 to 3.13, it is another or does not run" >&2; exit 1; }
  "$python" -m venv "$venv"
fi

version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ -x "$venv/bin/uv" ] || rm -f "$venv/bin/uv"  # a broken link, say
uv=$(command -v uv || true)
# Where the environment is active, the uv of the path is its own.
if [ -n "$uv" ] && ! [ "$uv" -ef "$venv/bin/uv" ]; then ln -sf "$uv" "$venv/bin/uv"
elif [ ! -x "$venv/bin/uv" ]; then "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall uv; fi
export VIRTUAL_ENV="$venv"
install() { "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"; }

case $version in 3.10) lock=requirements.lock ;; *) lock=requirements-newer.lock ;; esac
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock"
if [ "$version" != 3.10 ]; then
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  install --require-hashes --python-version 3.10 --python-platform linux --target "$site" -r requirements-detectron2.txt
fi
install --no-build-isolation --editable .

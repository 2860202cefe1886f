#!/bin/sh
# Makes the virtual environment $2 with the Python $1 and the pinned dependencies in it. Run by `make venv`.
set -eu
python=$1 venv=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Roadstead needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Name another: make PYTHON=…" >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || { echo "Making the virtual environment $venv"; "$python" -m venv "$venv"; }
echo "Installing the pinned dependencies (first time: about half a minute)"
log=$venv/install.log
if ! { "$venv/bin/pip" install --disable-pip-version-check --require-hashes -r deploy/requirements/dev.lock &&
       "$venv/bin/pip" install --disable-pip-version-check --no-deps --no-build-isolation -e . &&
       "$venv/bin/python" -m compileall -q services contracts; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "The installation failed; all of its output is in $log" >&2
    exit 1
fi

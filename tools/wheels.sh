#!/bin/sh
# The wheels that the container image is built of, into deploy/wheels: the lock file's, hashes checked, for the Python
# of the base image, so that the build itself needs no network. Does nothing when they are there already.
#   tools/wheels.sh [PYTHON_VERSION]     # default: of the local base image (build/base.python), or 3.11
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
version=${1:-$(cat "$here/build/base.python" 2>/dev/null || echo 3.11)}
wheels=$here/deploy/wheels
lock=$here/deploy/requirements/runtime.lock
python=$here/.venv/bin/python
[ -x "$python" ] || python=python3

# The base image may come without pip (Debian's does), and pip's wheel runs as it is.
installer=$(mktemp)
trap 'rm -f "$installer"' EXIT
echo 'pip==25.3 --hash=sha256:9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd' >"$installer"

wanted="$version $(uname -m) $(cat "$lock" "$installer" | sha256sum)"
if [ "$(cat "$wheels/.made-for" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
echo "wheels: fetching for Python $version on $(uname -m)" >&2
rm -f "$wheels"/*.whl "$wheels/.made-for"
machine=$(uname -m)
# pip takes a wheel for one of these; 2_34 is older than the C library of Debian 12 (2.36).
platforms=""
for tag in manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_31 \
    manylinux_2_34; do
    platforms="$platforms --platform ${tag}_$machine"
done
# shellcheck disable=SC2086
PYTHONWARNINGS=ignore "$python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
    --require-hashes --python-version "$version" --implementation cp $platforms --dest "$wheels" \
    -r "$lock" -r "$installer" 2>"$wheels/.log" || { cat "$wheels/.log" >&2; exit 1; }
echo "$wanted" >"$wheels/.made-for"
echo "wheels: $(find "$wheels" -name '*.whl' | wc -l) in deploy/wheels" >&2

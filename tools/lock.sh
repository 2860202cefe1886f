#!/bin/sh
# Writes the lock files: exact versions with hashes, naming no index. Run by `make lock`.
set -eu
if ! command -v uv >/dev/null 2>&1; then
    echo "uv, which resolves the versions, goes into build/uv"
    "${PYTHON:-python3}" -m venv build/uv && build/uv/bin/pip install --quiet uv
    PATH=$PWD/build/uv/bin:$PATH
fi
lock() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate --output-file "$2" pyproject.toml $1
}
lock "" deploy/requirements/runtime.lock
lock "--extra dev --constraint deploy/requirements/runtime.lock" deploy/requirements/dev.lock
lock "--extra bench --constraint deploy/requirements/runtime.lock" deploy/requirements/bench.lock

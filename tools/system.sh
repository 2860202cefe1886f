#!/bin/sh
# What Roadstead needs of the system, and why. Installs what is missing where it may; says the one command where not.
set -eu
missing=""
need() { # program, package, why
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || { missing="$missing $2"; echo "  $2: $3"; }
}
list=$(
    need runc runc "starts containers" && need conmon conmon "keeps them, their exit codes and their logs" &&
    { command -v docker-init >/dev/null || command -v catatonit >/dev/null ||
      need tini tini "the init process of tasks that ask for one"; } &&
    need nft nftables "forwards host ports to tasks" && need haproxy haproxy "carries requests to App Runner services" && need skopeo skopeo "the client that pushes the demo's image" &&
    need busybox busybox-static "what the demo's image is made of" &&
    { "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null ||
      echo "  python3-venv: makes virtual environments"; }
)
[ -n "$list" ] || exit 0
echo "Roadstead needs of the system:"
echo "$list"
packages=$(echo "$list" | sed 's/^ *//; s/:.*//' | tr '\n' ' ')
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "They can't be installed from here. Type: sudo apt-get install --no-install-recommends $packages"
    exit 1
fi
echo "Installing them with apt-get"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get failed; all of its output is in $log" >&2
    exit 1
fi
rm -f "$log"

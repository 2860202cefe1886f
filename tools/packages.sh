#!/bin/sh
# What a base image of Debian's lacks to serve App Runner (haproxy) and to enter tasks' networks (libnftables1), into
# deploy/packages, so that the build itself needs no network. The base's own apt fetches it, in a container, for it alone
# knows what is missing. Nothing for a base that has both, or has been looked at before.
#   tools/packages.sh [BASE_IMAGE]     # default: BASE_IMAGE, or docker-compose.yml's
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
base=${1:-${BASE_IMAGE:-python:3.11-slim-bookworm}}
folder=$here/deploy/packages
wanted="haproxy libnftables1"

say() { printf 'packages: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

docker image inspect "$base" >/dev/null 2>&1 || docker pull --quiet "$base" >/dev/null || fail "there is no image $base"
stamp="$(docker image inspect --format '{{.Id}}' "$base") $wanted"
[ "$(cat "$folder/.made-for" 2>/dev/null)" = "$stamp" ] && exit 0

fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
# A folder for each system, so that the build takes none that was made for another. What the script says goes to stderr.
# shellcheck disable=SC2016,SC2086
docker run --rm --interactive --user 0 --entrypoint sh "$base" -s -- $wanted >"$fetched/packages.tar" <<'INSIDE' ||
set -eu
. /etc/os-release
missing=""
for package in "$@"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
mkdir -p /tmp/packages
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        echo "packages: this base has no apt-get to fetch$missing with; App Runner services need a haproxy in it" >&2
        missing=""
    fi
fi
if [ -n "$missing" ]; then
    echo "packages: fetching$missing" >&2
    folder=/tmp/packages/$ID-${VERSION_CODENAME:-}-$(dpkg --print-architecture)
    mkdir -p "$folder/partial"
    apt-get update -qq </dev/null >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --download-only \
        -o Dir::Cache::archives="$folder" $missing </dev/null >&2
    rm -rf "$folder/partial" "$folder/lock"
fi
tar -C /tmp/packages -cf - .
INSIDE
    fail "could not be fetched; take a base image that has them, or build without: App Runner services are not served then"
find "$folder" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
tar -C "$folder" --no-same-owner -xf "$fetched/packages.tar"
echo "$stamp" >"$folder/.made-for"
say "$(find "$folder" -name '*.deb' | wc -l) in deploy/packages"

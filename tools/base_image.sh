#!/bin/sh
# A base image with Python out of the distribution's packages, for where none can be pulled:
#   tools/base_image.sh [NAME]      # default roadstead-base:local; prints the name
# The tar (build/base.tar) is made once, in about a minute, and imported into each engine that does not have it; both
# anew when the packages below change.
# What goes in is what this machine's apt is set up to use; build/base.python has its Python's version (3.11).
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
name=${1:-roadstead-base:local}
tar=$here/build/base.tar
cache=${ROADSTEAD_CACHE:-/var/cache/roadstead}
# What runs the services, what enters tasks' networks (libnftables1), what carries App Runner's requests (haproxy).
packages=python3,ca-certificates,libnftables1,haproxy

say() { printf 'base-image: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

. /etc/os-release
suite=${VERSION_CODENAME:-}
[ -n "$suite" ] || fail "this is no Debian with a code name; build with a base of your own: BASE_IMAGE=…"

install_maker() {
    command -v mmdebstrap >/dev/null && return 0
    [ "$(id -u)" = 0 ] || fail "needs mmdebstrap: sudo apt-get install --no-install-recommends mmdebstrap"
    say "installing mmdebstrap from the distribution: it makes the base image"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends mmdebstrap \
        </dev/null >/dev/null || fail "could not install mmdebstrap"
}

# The archives that this machine's apt uses for its own suite, so that a mirror or a snapshot is used here too.
archives() {
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)' |
        awk -v suite="$suite" '$4 == "Packages" && $3 == "main" && index($2, suite) == 1 {print "deb", $1, $2, $3}' | sort -u
}

make_tar() {
    mkdir -p "$here/build" "$cache"
    kept=$cache/base-$suite-$(dpkg --print-architecture)-$(echo "$packages" | cksum | cut -d' ' -f1).tar
    if [ ! -s "$kept" ] || [ -n "$(find "$kept" -mtime +14)" ]; then
        install_maker
        [ -n "$(archives)" ] || apt-get update -qq
        say "making a $suite system with python3 (about a minute)"
        archives | timeout 400 mmdebstrap --mode=root --format=tar --variant=essential --include="$packages" --quiet \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' "$suite" "$kept.part" - ||
            fail "mmdebstrap failed"
        mv "$kept.part" "$kept"
    fi
    cp --reflink=auto "$kept" "$tar"
    echo "$packages" >"$here/build/base.packages"
}

[ -s "$tar" ] && [ "$(cat "$here/build/base.packages" 2>/dev/null)" = "$packages" ] || make_tar
tar -tf "$tar" | sed -n 's|^\./usr/bin/python\(3\.[0-9]*\)$|\1|p' | head -n 1 >"$here/build/base.python"
[ -s "$here/build/base.python" ] || fail "$tar has no Python"
has=$(docker image inspect --format '{{index .Config.Labels "roadstead.packages"}}' "$name" 2>/dev/null || true)
if [ "$has" != "$packages" ]; then
    docker import --change "LABEL roadstead.packages=$packages" --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV LANG=C.UTF-8' "$tar" "$name" >/dev/null
    say "imported $name (Python $(cat "$here/build/base.python"))"
fi
echo "$name"

#!/bin/sh
# A Docker engine for the tests: uses the one that runs, or installs Debian's and starts it for as long as it is needed.
#   tools/docker_engine.sh start    # does nothing when an engine answers
#   tools/docker_engine.sh stop     # stops only the engine that `start` started
#   tools/docker_engine.sh status
# State (pid, log) lies in build/docker/, images in /var/lib/roadstead-docker so that the next run finds its base image.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
state=${ROADSTEAD_ENGINE_STATE:-$here/build/docker}
data=${ROADSTEAD_ENGINE_DATA:-/var/lib/roadstead-docker}
pid_file=$state/dockerd.pid
log=$state/dockerd.log
socket=/var/run/docker.sock

say() { printf 'docker-engine: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

answers() { timeout 5 docker version --format '{{.Server.Version}}' 2>/dev/null; }

missing_packages() {
    command -v dockerd >/dev/null || printf 'docker.io '
    command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || printf 'docker-compose '
}

install_missing() {
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || fail "needs ${packages}and can install them only with apt-get; install them by hand"
    [ "$(id -u)" = 0 ] || fail "needs $packages: sudo apt-get install --no-install-recommends $packages"
    say "installing ${packages}from the distribution: the Docker suites run the platform's services as containers"
    mkdir -p "$state"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$state/apt.log" 2>&1 || true
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends $packages \
        >>"$state/apt.log" 2>&1 </dev/null || { tail -n 5 "$state/apt.log" >&2; fail "could not install $packages"; }
}

# dockerd sets the host's FORWARD policy to DROP when it is the one that turns forwarding on, and with it would cut off
# the bridges of the `oci` runtime. So forwarding is on before dockerd comes.
keep_forwarding_open() { [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward; }

start() {
    if version=$(answers); then
        install_missing
        say "an engine runs already (version $version)"
        return 0
    fi
    install_missing
    if version=$(answers); then say "an engine runs now (version $version)"; return 0; fi
    [ "$(id -u)" = 0 ] || fail "no engine answers and only root can start one: sudo dockerd"
    mkdir -p "$state" "$data"
    keep_forwarding_open
    rm -f "$pid_file"
    for driver in overlay2 vfs; do
        say "starting dockerd (storage driver $driver)"
        # A process group of its own, and no standard streams of ours: it must outlive this script, not our caller.
        setsid dockerd --host "unix://$socket" --data-root "$data" --exec-root /run/roadstead-docker \
            --pidfile /run/roadstead-docker.pid --storage-driver "$driver" --shutdown-timeout 10 \
            </dev/null >"$log" 2>&1 &
        echo $! >"$pid_file"
        wait_until_it_answers && return 0
        stop
    done
    tail -n 15 "$log" >&2
    fail "dockerd does not start here; its last words are above ($log)"
}

wait_until_it_answers() {
    tries=0
    while [ $tries -lt 120 ]; do
        if version=$(answers); then say "engine $version answers"; return 0; fi
        kill -0 "$(cat "$pid_file")" 2>/dev/null || return 1
        tries=$((tries + 1))
        sleep 0.25
    done
    return 1
}

stop() {
    [ -f "$pid_file" ] || { say "no engine of ours runs"; return 0; }
    pid=$(cat "$pid_file")
    rm -f "$pid_file"
    # The pid may be another process' by now: only a dockerd with our data directory is ours.
    if ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- "dockerd.*--data-root $data"; then
        say "our engine has ended already"
        return 0
    fi
    kill -TERM "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 120 ]; then say "dockerd hangs; killing it"; kill -KILL "$pid" || true; fi
        [ $tries -gt 140 ] && fail "dockerd ($pid) does not end"
        sleep 0.25
    done
    say "engine stopped"
}

status() {
    if version=$(answers); then say "engine $version answers"; else say "no engine answers"; return 1; fi
}

case "${1:-}" in
    start | stop | status) "$1" ;;
    *) sed -n 2,6p "$0" >&2; exit 2 ;;
esac

#!/bin/sh
# What the tests drive besides Python. On Debian as root it is installed; elsewhere its absence is told, and the tests
# that need it say so and are skipped. No service is started: the tests run their own, on free ports of the loopback.
set -eu

missing=""
need() { # need PACKAGE PROGRAM...: any one of the programs will do
    package=$1
    shift
    for program in "$@"; do
        if command -v "$program" >/dev/null 2>&1 || [ -x "$program" ]; then return 0; fi
    done
    missing="$missing $package"
}

need chromium chromium chromium-browser google-chrome
need prometheus promtool
need prometheus-alertmanager amtool
need redis-server redis-server
need procps pgrep
need openssl openssl
need curl curl
need g++ g++ clang++
postgres=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1 || true)
need postgresql postgres "${postgres:-/nonexistent}"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed:$missing. The tests that need them are skipped; install them with your package manager to run all." >&2
    exit 0
fi

echo "== installing for the tests:$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null

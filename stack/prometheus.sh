#!/bin/sh
# Put Prometheus and promtool into the cache when they are not installed: unpacked from Debian's package, so that no
# service is started and nothing of the machine changes. Prints where promtool is, or says on standard error why not.
set -eu

if command -v promtool >/dev/null 2>&1; then
    command -v promtool
    exit 0
fi
folder="${HUB_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/binh-yen}/prometheus"
if [ -x "$folder/usr/bin/promtool" ]; then
    echo "$folder/usr/bin/promtool"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "✗ promtool is not there: install Prometheus (Debian: apt-get install prometheus). Its tests are skipped." >&2
    exit 1
fi
echo "  … fetching Prometheus from Debian's packages" >&2
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
if [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq >&2 || true
    chmod 755 "$download"
fi
# The sandbox user of apt cannot write there; root may switch it off, everybody else has no such user.
if ! (cd "$download" && apt-get -qq -o APT::Sandbox::User=root download prometheus >&2); then
    echo "✗ promtool is not there, and apt-get could not fetch the package prometheus. Its tests are skipped." >&2
    exit 1
fi
mkdir -p "$folder"
dpkg-deb -x "$download"/prometheus_*.deb "$folder"
echo "$folder/usr/bin/promtool"

#!/bin/sh
# Install Chromium when no browser is there that the browser tests can drive. Needs root and apt-get for that.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "✗ The browser tests need Chromium, and it can be installed here only as root with apt-get." >&2
    echo "  Install the package \"chromium\" (Debian: apt-get install chromium), then run it again." >&2
    exit 1
fi
echo "  … installing Chromium with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends chromium fonts-dejavu-core >/dev/null

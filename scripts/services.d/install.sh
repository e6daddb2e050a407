#!/usr/bin/env bash
# install.sh PACKAGE…: installs Debian packages, as root, without letting them start servers of their own.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# One at a time: the file below is there for one run only.
exec 9>/var/lock/onrush-services-install
flock 9

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# install: with the lists as they are, and once more with new ones.
install() { apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"; }
install "$@" || { apt-get -o DPkg::Lock::Timeout=300 update -qq && install "$@"; }

# Nor do they start at the next boot.
if command -v systemctl >/dev/null; then
    for package in "$@"; do
        case "$package" in postgresql|redis-server) systemctl disable "$package" >/dev/null 2>&1 || true ;; esac
    done
fi

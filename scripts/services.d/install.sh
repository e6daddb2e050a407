#!/usr/bin/env bash
# install.sh PACKAGE…: installs Debian packages as root, and prevents them from starting servers.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# One run at a time, because the policy file below belongs to one run.
exec 9>/var/lock/onrush-services-install
flock 9

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# install PACKAGE…: first with the existing package lists, then with updated ones.
install() { apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"; }
install "$@" || { apt-get -o DPkg::Lock::Timeout=300 update -qq && install "$@"; }

# Also prevent a start at the next boot.
if command -v systemctl >/dev/null; then
    for package in "$@"; do
        case "$package" in postgresql|redis-server) systemctl disable "$package" >/dev/null 2>&1 || true ;; esac
    done
fi

#!/bin/sh
# Install Debian packages whose command is missing. Arguments: command:package. php-curl is no command but a module.
set -eu
missing=""
for pair in "$@"; do
    command=${pair%%:*}
    package=${pair#*:}
    if [ "$command" = php-curl ]; then
        php -m 2>/dev/null | grep -qx curl || missing="$missing $package"
    else
        command -v "$command" >/dev/null 2>&1 || missing="$missing $package"
    fi
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "The tests need the Debian packages$missing. Install them once as root: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null

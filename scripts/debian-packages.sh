#!/bin/sh
# Install Debian packages that are missing. Arguments: command:package, for a module of PHP php-module:package, and for
# one of Kamailio kamailio-module:package.
set -eu
missing=""
for pair in "$@"; do
    package=${pair#*:}
    module=${pair%%:*}
    module=${module#kamailio-}
    case ${pair%%:*} in
        php-curl) php -m 2>/dev/null | grep -qx curl || missing="$missing $package" ;;
        php-xml) php -m 2>/dev/null | grep -qx SimpleXML || missing="$missing $package" ;;
        kamailio-*) ls /usr/lib/*/kamailio/modules/"$module".so 2>/dev/null | grep -q . || missing="$missing $package" ;;
        # Not in the path, as several versions may be installed.
        postgres) ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing $package" ;;
        *) command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
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

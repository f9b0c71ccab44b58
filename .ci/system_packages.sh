#!/bin/sh
# What pip cannot bring on Debian and Ubuntu: venv, and the libraries Qt needs. Installed when root, otherwise named.
set -eu

PYTHON="${PYTHON:-python3}"
QT="libegl1 libgl1 libxkbcommon0 libdbus-1-3"
QT_DISPLAY="libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0
    libxcb-xinerama0 libxcb-shape0"

command -v "$PYTHON" > /dev/null || { echo "$PYTHON: not found; needed: Python 3.11 or newer" >&2; exit 1; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$("$PYTHON" --version) is too old; needed: Python 3.11 or newer" >&2
    exit 1
}
command -v dpkg-query > /dev/null || exit 0 # macOS and others: wheels bring all that is needed

wanted="$QT"
[ -z "${DISPLAY:-}" ] || wanted="$wanted $QT_DISPLAY"
missing=""
"$PYTHON" -c 'import ensurepip, venv' 2> /dev/null || missing="python3-venv"
for package in $wanted; do
    dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "missing system packages; please run: sudo apt-get install -y $missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get install -y -qq --no-install-recommends $missing > /dev/null

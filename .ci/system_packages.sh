#!/bin/sh
# What pip cannot bring to Debian and Ubuntu: venv, and the libraries Qt needs. Installed when root, otherwise named.
set -eu

PYTHON="${PYTHON:-python3}"
PATH="$PATH:/usr/sbin:/sbin"
QT="libEGL.so.1:libegl1 libGL.so.1:libgl1 libxkbcommon.so.0:libxkbcommon0 libdbus-1.so.3:libdbus-1-3
    libfontconfig.so.1:libfontconfig1 libfreetype.so.6:libfreetype6 libglib-2.0.so.0:libglib2.0-0"
QT_DISPLAY="libxcb-cursor.so.0:libxcb-cursor0 libxkbcommon-x11.so.0:libxkbcommon-x11-0 libxcb-icccm.so.4:libxcb-icccm4
    libxcb-image.so.0:libxcb-image0 libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-render-util.so.0:libxcb-render-util0
    libxcb-xinerama.so.0:libxcb-xinerama0 libxcb-shape.so.0:libxcb-shape0"

command -v "$PYTHON" > /dev/null || { echo "$PYTHON: not found; needed: Python 3.11 or newer" >&2; exit 1; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$("$PYTHON" --version) is too old; needed: Python 3.11 or newer" >&2
    exit 1
}
command -v ldconfig > /dev/null || exit 0 # macOS: the wheels bring all that is needed

wanted="$QT"
[ -z "${DISPLAY:-}" ] || wanted="$wanted $QT_DISPLAY"
missing=""
"$PYTHON" -c 'import ensurepip, venv' 2> /dev/null || missing="python3-venv"
known=$(ldconfig -p)
for pair in $wanted; do
    case "$known" in *"${pair%%:*} "*) ;; *) missing="$missing ${pair#*:}" ;; esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "missing system packages, by their Debian names: $missing" >&2
    echo "please run: sudo apt-get install -y $missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get install -y -qq --no-install-recommends $missing > /dev/null

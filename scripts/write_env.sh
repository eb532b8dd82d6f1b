#!/bin/sh
# Writes .env out of .env.example, with a random value behind every name that has none, readable by its owner alone.
# One that is there is left as it is.
# usage: scripts/write_env.sh
set -eu
cd "$(dirname "$0")/.."

password() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
key() { head -c 32 /dev/urandom | base64; }

fill_in() {
    while IFS= read -r line; do
        case $line in
            PENSTOCK_SECRETS_KEY=) line=$line$(key) ;;
            [A-Z]*=) line=$line$(password) ;;
        esac
        printf '%s\n' "$line"
    done
}

[ ! -e .env ] || exit 0
umask 077
fresh=$(mktemp .env.XXXXXX)
trap 'rm -f "$fresh"' EXIT
fill_in < .env.example > "$fresh"
# A link, and no move: it takes the place of nothing, also when two write at once.
if ln "$fresh" .env 2>/dev/null; then
    echo "Wrote .env with passwords and keys of its own. Keep it: the data in the volumes belongs to it."
elif [ ! -e .env ]; then
    echo "cannot write .env" >&2
    exit 1
fi

#!/bin/sh
# Renews constraints.txt: the newest versions that pyproject.toml allows, for every supported Python and platform.
# usage: scripts/constrain.sh
set -eu
cd "$(dirname "$0")/.."
{
    echo '# The versions that `make setup` installs. Made by scripts/constrain.sh (make constraints): do not edit.'
    .venv/bin/uv pip compile pyproject.toml --quiet --all-extras --group build --group dev --group bench --universal \
        --python-version 3.11 --upgrade --strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links
} > constraints.txt.new
mv constraints.txt.new constraints.txt

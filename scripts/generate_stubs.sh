#!/bin/sh
# Writes the committed stubs under sdk/penstock from proto/. One pinned generator makes them all: buf is used for
# lint, format and breaking changes only, because its descriptors differ bytewise from those of protoc.
# usage: scripts/generate_stubs.sh [TARGET]     (default: sdk)
set -eu
cd "$(dirname "$0")/.."
target=${1:-sdk}
python=${PYTHON:-.venv/bin/python}
PATH=$(cd "$(dirname "$python")" && pwd):$PATH
export PATH
mkdir -p "$target"
"$python" -m grpc_tools.protoc --proto_path=proto \
    --python_out="$target" --grpc_python_out="$target" \
    --mypy_out="$target" --mypy_grpc_out="only_async:$target" \
    $(cd proto && find penstock -name '*.proto' | LC_ALL=C sort)
for package in penstock/v1 penstock/agent penstock/agent/v1; do
    [ -f "$target/$package/__init__.py" ] || printf '' > "$target/$package/__init__.py"
done

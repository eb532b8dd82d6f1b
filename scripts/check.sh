#!/bin/sh
# Everything that is checked without running Penstock. All parts run, also after one failed.
# usage: scripts/check.sh [PART...]     (default: all; the parts are the functions check_... below)
set -u
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
export PATH
code="coordinator agent sdk tests examples benchmarks scripts deploy"

check_format() { ruff format --check --quiet $code || { echo "make format mends it"; return 1; }; }
check_lint() { ruff check --quiet $code; }
check_types() { mypy $code; }
check_layers() { lint-imports --no-logo; }
check_protos() { buf lint && buf format --diff --exit-code proto; }
check_breaking() { buf breaking --against proto/penstock.binpb; }
check_deploy() { check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml && hadolint deploy/docker/*.Dockerfile; }
check_forge() {
    check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml &&
        check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml &&
        pre-commit validate-config .pre-commit-config.yaml
}

check_stubs() {
    fresh=$(mktemp -d) || return
    scripts/generate_stubs.sh "$fresh" && compare_stubs "$fresh"
    outcome=$?
    rm -rf "$fresh"
    return $outcome
}

compare_stubs() {
    for package in penstock/v1 penstock/agent/v1; do
        diff -r -x __pycache__ "sdk/$package" "$1/$package" || { echo "make proto writes the stubs again"; return 1; }
    done
}

failed=
output=$(mktemp)
trap 'rm -f "$output"' EXIT
for part in ${*:-format lint types layers protos breaking stubs deploy forge}; do
    if "check_$part" > "$output" 2>&1; then
        printf 'check %-9s ok\n' "$part"
    else
        printf 'check %-9s FAILED\n' "$part"
        sed 's/^/    /' "$output"
        failed="$failed $part"
    fi
done
[ -z "$failed" ] || { echo "check: failed:$failed" >&2; exit 1; }

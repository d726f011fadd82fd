#!/usr/bin/env bash
# What keeps the tree in one style. `check` changes nothing and fails when any tool has a finding;
# `format` rewrites C files in place.
set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP"

failed=0
section()
{
    printf '==> %s\n' "$1"
    shift
    "$@" || failed=1
}

mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- '*.c' '*.h')
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- dev .ci/run '*.sh')

# Only what the build compiles has a compile command.
tidy()
{
    local files file
    files=()
    while read -r file; do
        if grep -qF "\"file\": \"$TOP/$file\"" build/test/compile_commands.json; then
            files+=("$file")
        fi
    done < <(git ls-files -- 'lib/*.c' 'services/*.c' 'agent/*.c' 'cli/*.c')
    printf '%s\0' "${files[@]}" | xargs -0 -n 8 -P "$(nproc)" clang-tidy-14 --quiet -p build/test 2>/dev/null
}

case ${1:-check} in
format)
    clang-format-14 -i "${sources[@]}"
    ;;
check)
    section clang-format clang-format-14 --dry-run -Werror "${sources[@]}"
    section shellcheck shellcheck -x "${scripts[@]}"
    section python env PYTHONPYCACHEPREFIX="$TOP/build/pycache" /usr/bin/python3 -m compileall -q scripts tests
    section clang-tidy tidy
    exit "$failed"
    ;;
*)
    printf 'usage: lint.sh check | format\n' >&2
    exit 2
    ;;
esac

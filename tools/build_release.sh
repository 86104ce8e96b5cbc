#!/usr/bin/env bash
# Builds the sdist of the last commit, and the wheel from that sdist. The same commit gives the same bytes.
#
# Usage: bash tools/build_release.sh [FOLDER]
#
#   FOLDER  where the two files go; default: dist in the checkout
#
# Needs git and, in the active environment, requirements/build.txt. Environment: PYTHON (default python),
# SOURCE_DATE_EPOCH (the time stamp of everything in the archives; default: the time of the commit).

set -euo pipefail
case ${1:-} in -*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;; esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
out=$(realpath -m "${1:-$root/dist}")
commit=$(git -C "$root" rev-parse --verify HEAD) || {
    echo "[release] ERROR: $root is no git checkout with a commit; a release is made of one." >&2
    exit 1
}
[ -z "$(git -C "$root" status --porcelain)" ] ||
    echo '[release] note: there are uncommitted changes, which the release does not have'
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/commit" "$work/sdist" "$out"
git -C "$root" archive "$commit" | tar -x -C "$work/commit"

# build KIND FOLDER: calls the build backend as pip does, prints the name of the file
build() {
    (cd "$2" && "$python" -c 'import sys; from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))' "$1" "$out" 2>&1) >"$work/log" || {
        cat "$work/log" >&2
        echo "[release] ERROR: the $1 could not be built, see above. Tools: pip install -r requirements/build.txt" >&2
        exit 1
    }
    tail -1 "$work/log"
}

sdist=$(build sdist "$work/commit")
tar -x -C "$work/sdist" --strip-components=1 -f "$out/$sdist"
wheel=$(build wheel "$work/sdist")
echo "[release] commit $commit"
cd "$out" && sha256sum "$sdist" "$wheel"

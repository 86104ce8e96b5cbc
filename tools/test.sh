#!/usr/bin/env bash
# Sets up the environment with the test tools, then runs linter, type checker and the test suite. May be interrupted and
# run again.
#
# Usage: bash tools/test.sh [--python PY] [--venv DIR] [--torch-index URL] [--cpu-only] [PYTEST ARGUMENTS]
#
# The first four options, and the environment variables, are those of tools/setup_env.sh: see bash tools/setup_env.sh
# --help. All others go to pytest, for instance: bash tools/test.sh -x tests/test_packaging.py

set -euo pipefail
banner='Tests of mvbench_plugins, on 2 CPU cores: set-up (about 2 minutes of installing; the first time 6 to 10 minutes
more to compile mmcv), then the tests (about 17 minutes).'
with_tests=1
other_options=1
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" "$@"

cd "$root"
"$py" -m ruff check .
"$py" -m mypy
# Two processes with one thread each: most tests cannot use two.
export OMP_NUM_THREADS=1
exec "$py" -m pytest -n 2 --dist loadfile "${rest[@]}"

"""Compare this suite with recorded numbers of the published implementations.

    python tests/parity/run.py CASE [CASE ...]

A CASE is the path of a recorded case with or without suffix. The config that corresponds to the case's official config
is built, the drawn official weights are converted by the plugin's rules and loaded strictly, and every output is
compared. Exits with 1 on any mismatch.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]

from cases import Case, load_case  # noqa: E402


def run_case(case: Case) -> tuple[str, bool]:
    """Run one case; returns the report and whether everything matched.

    Raises:
        ValueError: no adapter for the case's system.
    """
    try:
        adapter = importlib.import_module(f'adapters.{case.system}')
    except ModuleNotFoundError as error:
        if error.name != f'adapters.{case.system}':
            raise
        raise ValueError(f'{case.path}: no adapter for the system {case.meta["system"]!r}') from error
    # Recorded in float32 without reduced-precision products.
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    start = time.time()
    try:
        outputs, left_out = adapter.run(case)
    finally:
        torch.set_float32_matmul_precision(precision)
    result = case.compare(outputs, left_out)
    lines = [f'{case.path.name} ({case.meta["system"]}, {case.official_config}, {case.kind})', *result.rows]
    lines.append(
        f'{case.path.name}: {result.compared} outputs compared, {len(left_out)} left out, {len(result.failed)} failed, '
        f'{time.time() - start:.0f} s'
    )
    return '\n'.join(lines), not result.failed


def main() -> int:
    """Command line entry; the exit status says whether all cases match."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cases', nargs='+', metavar='CASE')
    ok = True
    for path in parser.parse_args().cases:
        report, passed = run_case(load_case(path))
        print(report, flush=True)
        ok &= passed
    print('all cases match' if ok else 'MISMATCH')
    return 0 if ok else 1


if __name__ == '__main__':
    sys.exit(main())

"""Numbers of the published detectors, at their recorded tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'link'


@pytest.mark.parametrize('name', ['det_decode', 'det_elkv3_infer', 'det_elkv3_train'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed and ' 0 left out' in report, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one input changed must show in the table."""
    case = load_case(CASES / 'det_decode')
    case.meta['inputs']['head.1.height']['mean'] += 0.1
    report, passed = run_case(case)
    failed = {row.split()[0] for row in report.splitlines() if 'FAILED' in row}
    assert not passed and 'plain.decode.1.boxes' in failed and 'plain.decode.0.boxes' not in failed

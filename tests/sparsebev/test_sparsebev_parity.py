"""Numbers of the published implementation, at their recorded tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'sparsebev'


@pytest.mark.parametrize('name', ['modules', 'op_msmv_sampling', 'inference_r50_704x256', 'train_r50_704x256'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed and ' 0 left out' in report, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one input changed must show in the table."""
    case = load_case(CASES / 'modules')
    case.meta['inputs']['match_cls_score']['mean'] += 0.1
    report, passed = run_case(case)
    failed = [row.split()[0] for row in report.splitlines() if 'FAILED' in row]
    assert not passed and 'match_cost' in failed and 'sample_points' not in failed

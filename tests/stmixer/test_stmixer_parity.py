"""Numbers of the published implementation, at their recorded tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'stmixer'


@pytest.mark.parametrize('name', ['modules', 'slowonly_r50_infer', 'slowonly_r50_train', 'vit_b_infer'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one weight changed must show in the table."""
    case = load_case(CASES / 'modules')
    case.meta['state_dict']['stm_head.decoder_stages.0.fc_action.bias']['mean'] += 1.0
    report, passed = run_case(case)
    assert not passed and 'action' in report and 'FAILED' in report

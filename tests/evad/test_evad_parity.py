"""Numbers of the published implementation, at their recorded tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'evad'


@pytest.mark.parametrize('name', ['modules', 'infer_vitb_ktp07', 'train_vitb_ktp07'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one weight changed must show in the table."""
    case = load_case(CASES / 'modules')
    recipe = next(r for key, r in case.meta['state_dict'].items() if key.endswith('action_logits.bias'))
    recipe['mean'] = recipe.get('mean', 0.0) + 1.0
    report, passed = run_case(case)
    assert not passed and 'decoder_action_logits' in report and 'FAILED' in report

"""Numbers of the published implementation, at their recorded tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'deqdet'


@pytest.mark.parametrize('name', ['modules', 'mask_heads', 'inference_r50_2x', 'train_r50_1x'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one weight changed must show in the table."""
    case = load_case(CASES / 'mask_heads')
    recipe = case.meta['state_dict']['dense.mask_embed.0.bias']
    recipe['mean'] += 1.0
    report, passed = run_case(case)
    assert not passed and 'dense.mask_logits' in report and 'FAILED' in report

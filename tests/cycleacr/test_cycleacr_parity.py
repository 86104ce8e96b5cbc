"""Numbers of the published implementation, at their recorded tolerance (that a wrong one fails: see STMixer's)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'cycleacr'


@pytest.mark.parametrize('name', ['modules', 'slowfast_r50_infer', 'slowfast_r50_train', 'vit_b_infer', 'vit_b_train'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed, report

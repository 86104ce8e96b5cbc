"""Geometry of the data pipeline against the recorded numbers of the official one."""

from __future__ import annotations

from pathlib import Path

from adapters.sparsebev_data import run_data
from cases import load_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'sparsebev'


def test_recorded_geometry():
    case = load_case(CASES / 'data_geometry')
    result = case.compare(run_data(case))
    assert result.compared == len(case.meta['outputs']) and not result.failed, '\n'.join(result.rows)


def test_a_wrong_calibration_is_noticed():
    case = load_case(CASES / 'data_geometry')
    case.meta['inputs']['lidar2ego_translation']['value'][0] += 0.01
    result = case.compare(run_data(case))
    assert 'lidar2img' in result.failed

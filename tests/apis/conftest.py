"""A toy nuScenes for the tests of the multi-view inferencer, and the same drive as folders with calibration files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture
def scope_3d() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        yield


@pytest.fixture(scope='session')
def toy_multiview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes 0092 and 0093 for validation: four key frames, two frames between them, 128 x 72 pixels; info files."""
    from mvbench_plugins.datasets.toy import write_nuscenes
    from mvbench_plugins.sparsebev.sweeps import write_infos

    root = tmp_path_factory.mktemp('multiview') / 'nuscenes'
    write_nuscenes(root, seed=3, num_train=1, num_val=2, size=(128, 72), key_frames=4, sweeps=2, azimuths=96)
    write_infos(root, 'v1.0-trainval', root, 'toy')
    return root


@pytest.fixture(scope='session')
def write_drive(toy_multiview: Path) -> Callable[..., Path]:
    """``write_drive(folder, every=1)`` writes the first scene for validation as a drive."""
    from multiview_world import ToyTables

    tables = ToyTables(toy_multiview)
    return tables.write_drive

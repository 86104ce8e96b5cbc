"""What several test files use: a toy nuScenes, also as folders with calibration files; action detectors and a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture
def scope_3d() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        yield


@pytest.fixture
def scope_det() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet'):
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


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.5 s at 30 fps, 160 x 96; key frames at 0, 30 and 60."""
    from fake_action_detector import write_video

    return write_video(tmp_path_factory.mktemp('videos') / 'box.mp4', 75)


@pytest.fixture(scope='module')
def inferencer():
    """An ``ActionDetInferencer`` whose model finds people itself."""
    from fake_action_detector import make_inferencer

    with pytest.warns(match='Checkpoint is not loaded'):
        return make_inferencer()


@pytest.fixture(scope='module')
def recaller():
    """An ``ActionDetInferencer`` whose model wants people, and remembers them."""
    from fake_person_models import recaller_config

    from mvbench_plugins.apis import ActionDetInferencer

    return ActionDetInferencer(recaller_config(), device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def detector_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and checkpoint of a person detector of mmdet."""
    from fake_person_models import save_person_detector

    return save_person_detector(tmp_path_factory.mktemp('detector'))

"""A toy nuScenes of three short scenes with its info files, and tools to doctor them."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nuscenes import NuScenes

import mvbench_plugins.sparsebev.data_preprocessor  # noqa: F401  registers
import mvbench_plugins.sparsebev.transforms  # noqa: F401
from mvbench_plugins.datasets.toy import write_nuscenes
from mvbench_plugins.sparsebev.dataset import MultiFrameNuScenesDataset

TOOL = Path(__file__).parents[2] / 'tools' / 'create_nuscenes_sweeps.py'
VERSION = 'v1.0-trainval'


@pytest.fixture(scope='session')
def toy_root(tmp_path_factory) -> Path:
    """Two training scenes and one for validation: three key frames, two frames between them, 160 x 90 pixels."""
    root = tmp_path_factory.mktemp('toy') / 'nuscenes'
    write_nuscenes(root, seed=6, num_train=2, num_val=1, size=(160, 90), key_frames=3, sweeps=2, azimuths=64)
    return root


@pytest.fixture(scope='session')
def nusc(toy_root) -> NuScenes:
    return NuScenes(version=VERSION, dataroot=str(toy_root), verbose=False)


@pytest.fixture(scope='session')
def run_tool() -> Callable[..., None]:
    """``run_tool(*arguments)`` runs the tool in this process."""

    def run(*arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
            runpy.run_path(str(TOOL), run_name='__main__')

    return run


@pytest.fixture(scope='session')
def info_dir(toy_root, run_tool, tmp_path_factory) -> Path:
    """Folder of the info files of the toy set."""
    folder = tmp_path_factory.mktemp('infos')
    run_tool('--root-path', toy_root, '--out-dir', folder)
    return folder


@pytest.fixture
def make_dataset(toy_root, info_dir) -> Callable[..., MultiFrameNuScenesDataset]:
    """``make_dataset(split, **options)``, for tests without options."""

    def make(split: str, **options) -> MultiFrameNuScenesDataset:
        options = {'test_mode': True, 'ann_file': str(info_dir / f'nuscenes_multiview_infos_{split}.pkl'), **options}
        return MultiFrameNuScenesDataset(data_root=str(toy_root), **options)

    return make


@pytest.fixture
def doctor(toy_root, tmp_path) -> Callable[..., Path]:
    """``doctor(table=edit, ...)`` gives a copy of the toy set in which ``edit`` has changed the records of tables."""

    def change(**edits: Callable[[list[dict]], None]) -> Path:
        root = tmp_path / 'doctored'
        (root / VERSION).mkdir(parents=True)
        for part in ('samples', 'sweeps', 'maps'):
            (root / part).symlink_to(toy_root / part)
        for path in (toy_root / VERSION).iterdir():
            records = json.loads(path.read_text())
            if path.stem in edits:
                edits[path.stem](records)
            (root / VERSION / path.name).write_text(json.dumps(records))
        return root

    return change

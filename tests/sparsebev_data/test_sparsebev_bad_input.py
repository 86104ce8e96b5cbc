"""The list of bad input of SparseBEV, through the data set and the test pipeline of its toy config.

Tables of nuScenes that are damaged, and other info files, have tests of their own beside this one.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
from mmdet3d.registry import DATASETS
from mmengine.config import Config

from mvbench_plugins.sparsebev.dataset import MultiFrameNuScenesDataset
from mvbench_plugins.sparsebev.frames import CAMERAS

SAMPLE = 1  # of the validation scene, with a past
Edit = Callable[[list[dict]], object]


@pytest.fixture
def root(toy_root, tmp_path) -> Path:
    """The toy set with pictures of its own of the rear camera."""
    root = tmp_path / 'nuscenes'
    shutil.copytree(toy_root / 'samples' / 'CAM_BACK', root / 'samples' / 'CAM_BACK')
    for path in (toy_root / 'samples').iterdir():
        if path.name != 'CAM_BACK':
            (root / 'samples' / path.name).symlink_to(path)
    (root / 'sweeps').symlink_to(toy_root / 'sweeps')
    return root


@pytest.fixture
def build(config_dir, info_dir, root, tmp_path) -> Callable[..., MultiFrameNuScenesDataset]:
    """``build(edit)`` makes the validation set of the toy config after ``edit(data_list)`` on its info file."""

    def make(edit: Edit | None = None) -> MultiFrameNuScenesDataset:
        content = copy.deepcopy(mmengine.load(info_dir / 'nuscenes_multiview_infos_val.pkl'))
        if edit:
            edit(content['data_list'])
        mmengine.dump(content, tmp_path / 'edited.pkl')
        cfg = Config.fromfile(config_dir / '_base_' / 'datasets' / 'toy_nuscenes.py').val_dataloader.dataset
        cfg.update(data_root=str(root), ann_file=str(tmp_path / 'edited.pkl'))
        return DATASETS.build(cfg)

    return make


def _narrower(path: Path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path))[:, :-1])


BAD_PICTURES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    'missing camera file': (Path.unlink, FileNotFoundError, r'CAM_BACK.*image not found.*create_nuscenes_sweeps'),
    'wrong image size': (_narrower, ValueError, r'height and width \(90, 159\), expected \(90, 160\)'),
    'no picture': (lambda path: path.write_bytes(b'not a picture'), ValueError, r'CAM_BACK.*not an image'),
}


@pytest.mark.parametrize('damage, kind, message', BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures_are_named(build, damage, kind, message):
    dataset = build()
    assert len(dataset[SAMPLE]['inputs']['img']) == 2 * len(CAMERAS)
    info = dataset.get_data_info(SAMPLE)
    path = Path(info['key_frame'].img_paths[CAMERAS.index('CAM_BACK')])
    damage(path)
    with pytest.raises(kind, match=f'{path.name}.*{message}') as error:
        dataset[SAMPLE]
    assert 'CAM_BACK' in str(error.value)


def _set(value: object, *place: object) -> Edit:
    def edit(data_list: list[dict]) -> None:
        entry = data_list[SAMPLE]
        for key in place[:-1]:
            entry = entry[key]
        entry[place[-1]] = value

    return edit


_NO_POSE = np.zeros((4, 4)).tolist()
_NOT_REGULAR = [[100.0, 0.0, 80.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
#: What is changed in the info file, and the place and the problem that the message tells.
BAD_INFOS: dict[str, tuple[Edit, str]] = {
    'sweeps that go backwards in time': (
        lambda data_list: data_list[SAMPLE]['camera_sweeps'].reverse(),
        r'camera_sweeps\[1\]\.CAM_FRONT: timestamp goes backwards',
    ),
    'samples that go backwards in time': (
        lambda data_list: data_list.insert(0, data_list.pop(SAMPLE)),
        'timestamp goes backwards.*in one scene',
    ),
    'singular intrinsics': (
        _set(_NOT_REGULAR, 'images', 'CAM_BACK', 'cam2img'),
        r'images\.CAM_BACK\.cam2img: .*singular or no camera matrix',
    ),
    'singular pose of a camera': (
        _set(_NO_POSE, 'camera_sweeps', 1, 'CAM_FRONT_LEFT', 'cam2global'),
        r'camera_sweeps\[1\]\.CAM_FRONT_LEFT\.cam2global: .*singular, a reflection or no pose',
    ),
    'singular pose of the car': (_set(_NO_POSE, 'ego2global'), 'ego2global: .*no pose'),
    'singular pose of the LiDAR': (_set(_NO_POSE, 'lidar_points', 'lidar2ego'), r'lidar2ego: .*no pose'),
    'a camera that is missing': (
        lambda data_list: data_list[SAMPLE]['images'].pop('CAM_BACK_LEFT'),
        r'images\.CAM_BACK_LEFT: found no .*img_path',
    ),
}


@pytest.mark.parametrize('edit, message', BAD_INFOS.values(), ids=BAD_INFOS)
def test_bad_info_files_are_refused_when_they_are_read(build, edit, message):
    with pytest.raises(ValueError, match=rf'edited\.pkl: sample [0-9a-f]{{32}}: .*{message}'):
        build(edit)


def test_a_sample_without_history_repeats_its_key_frame(build):
    """As documented: the first sample of a scene has nothing before it."""
    dataset = build()
    first = dataset[0]
    images, names = first['inputs']['img'], first['data_samples'].img_path
    assert dataset.get_data_info(0)['past'] == []
    assert all((one == other).all() for one, other in zip(images[: len(CAMERAS)], images[len(CAMERAS) :], strict=True))
    assert list(names[: len(CAMERAS)]) == list(names[len(CAMERAS) :])

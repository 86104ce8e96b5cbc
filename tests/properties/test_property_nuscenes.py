"""nuScenes tables, official sweep files and our info files: intact ones agree, damaged ones are refused by name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import mmengine
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings
from mmengine.registry import DefaultScope

from mvbench_plugins.datasets.toy import write_nuscenes
from mvbench_plugins.sparsebev.dataset import MultiFrameNuScenesDataset
from mvbench_plugins.sparsebev.frames import CAMERAS, are_intrinsics, are_poses
from mvbench_plugins.sparsebev.nuscenes_tables import NuScenesTables
from mvbench_plugins.sparsebev.official_sweeps import convert_infos
from mvbench_plugins.sparsebev.sweeps import key_interval, split_infos, write_infos

VERSION = 'v1.0-trainval'
TABLES = (
    *('scene', 'sample', 'sensor', 'calibrated_sensor', 'sample_data', 'ego_pose', 'category', 'instance'),
    'sample_annotation',
)
INFOS = 'nuscenes_multiview_infos_val.pkl'


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """One scene each for training and validation: two key frames, one camera set between them."""
    root = tmp_path_factory.mktemp('nuscenes')
    write_nuscenes(root, num_train=1, num_val=1, size=(64, 36), key_frames=2, sweeps=1, azimuths=16)
    return root


@pytest.fixture(scope='module')
def tables(root) -> dict[str, list[dict]]:
    return {name: json.loads((root / VERSION / f'{name}.json').read_text()) for name in TABLES}


@pytest.fixture(scope='module')
def infos(root, tmp_path_factory) -> dict:
    """Content of the info file of the validation scene."""
    out = tmp_path_factory.mktemp('infos')
    write_infos(root, VERSION, out, 'nuscenes_multiview')
    return mmengine.load(out / INFOS)


@pytest.fixture(scope='module')
def official(infos) -> dict:
    """The same as the official code writes it."""

    def image(entry: dict) -> dict:
        pose = np.array(entry['cam2global'])
        return dict(
            data_path=f'data/nuscenes/{entry["img_path"]}',
            timestamp=int(entry['timestamp'] * 1e6),
            cam_intrinsic=np.array(entry['cam2img']),
            sensor2global_rotation=pose[:3, :3].T,
            sensor2global_translation=pose[:3, 3],
        )

    listed = []
    for info in infos['data_list']:
        cameras = {
            camera: image(entry | dict(img_path=f'samples/{camera}/{entry["img_path"]}'))
            for camera, entry in info['images'].items()
        }
        boxes = info['instances']
        listed.append(
            dict(
                token=info['token'],
                timestamp=int(info['timestamp'] * 1e6),
                lidar_path=info['lidar_points']['lidar_path'],
                lidar2ego_rotation=[1.0, 0.0, 0.0, 0.0],
                lidar2ego_translation=[0.9, 0.0, 1.8],
                ego2global_rotation=[1.0, 0.0, 0.0, 0.0],
                ego2global_translation=[10.0, 20.0, 0.0],
                cams=cameras,
                sweeps=[{camera: image(entry) for camera, entry in each.items()} for each in info['camera_sweeps']],
                gt_boxes=np.array([box['bbox_3d'] for box in boxes]).reshape(-1, 7),
                gt_names=np.array(['car' for _ in boxes]),
                gt_velocity=np.array([box['velocity'] for box in boxes]).reshape(-1, 2),
                num_lidar_pts=np.array([box['num_lidar_pts'] for box in boxes]),
                valid_flag=np.array([True for _ in boxes]),
            )
        )
    return dict(infos=listed, metadata=dict(version=VERSION))


def _doctor(root: Path, folder: Path, name: str, content: bytes) -> Path:
    """A data set of which one table is another."""
    (folder / VERSION).mkdir(parents=True, exist_ok=True)
    for path in (root / VERSION).iterdir():
        link = folder / VERSION / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    changed = folder / VERSION / f'{name}.json'
    changed.unlink()
    changed.write_bytes(content)
    return folder


def _read(root: Path) -> list[dict]:
    tables = NuScenesTables(root, VERSION)
    return split_infos(tables, 'val', key_interval(tables) - 1)


def _check(infos: list[dict]) -> None:
    for info in infos:
        poses = [info['ego2global'], info['lidar_points']['lidar2ego']]
        for images in (info['images'], *info['camera_sweeps']):
            assert set(images) == set(CAMERAS)
            poses += [entry['cam2global'] for entry in images.values()]
            assert are_intrinsics(np.array([entry['cam2img'] for entry in images.values()])).all()
            assert all(
                f'{camera}/' in entry['img_path'] or images is info['images'] for camera, entry in images.items()
            )
        assert are_poses(np.array(poses)).all()
        for box in info['instances']:
            assert np.isfinite(box['bbox_3d']).all() and min(box['bbox_3d'][3:6]) > 0
            assert not np.isinf(box['velocity']).any()
    times = [info['timestamp'] for info in infos]
    assert times == sorted(times)


@pytest.mark.parametrize('name', TABLES)
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_table_is_read_or_refused(root, tables, tmp_path, name, data):
    content = data.draw(damaged_tree(tables[name]))
    folder = _doctor(root, tmp_path / 'doctored', name, json.dumps(content).encode())
    found = answer(lambda: _read(folder), *(folder / VERSION / f'{table}.json' for table in TABLES), folder)
    if found is not None:
        _check(found)


@given(st.data())
def test_damaged_bytes_of_a_table_are_read_or_refused(root, tables, tmp_path, data):
    name = data.draw(st.sampled_from(TABLES))
    valid = (root / VERSION / f'{name}.json').read_bytes()
    folder = _doctor(root, tmp_path / 'doctored', name, data.draw(damaged_bytes(valid)))
    found = answer(lambda: _read(folder), folder)
    if found is not None:
        _check(found)


@pytest.mark.parametrize('text', ['[' * 10**5, '[' + '9' * 10**5 + ']', '[NaN]', '[[]]'])
def test_text_that_json_chokes_on_is_refused(root, tmp_path, text):
    folder = _doctor(root, tmp_path / 'doctored', 'sample_data', text.encode())
    assert answer(lambda: _read(folder), folder) is None


def test_predecessors_that_go_round_in_a_circle_are_refused(root, tables, tmp_path):
    records = json.loads(json.dumps(tables['sample_data']))
    sweeps = [record for record in records if record['filename'].startswith('sweeps/CAM_FRONT/')]
    for record in sweeps:
        record['prev'] = record['token']
    folder = _doctor(root, tmp_path / 'doctored', 'sample_data', json.dumps(records).encode())
    assert answer(lambda: _read(folder), folder) is None


def _written(path: Path, content: Any) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def test_official_files_come_back(root, official, tmp_path):
    path = _written(tmp_path / 'nuscenes_infos_val_sweep.pkl', official)
    (written,) = convert_infos([path], root, tmp_path, 'o', overwrite=True)
    for info, wanted in zip(mmengine.load(written)['data_list'], official['infos'], strict=True):
        assert info['timestamp'] == wanted['timestamp'] / 1e6
        for camera in CAMERAS:
            pose = np.array(info['images'][camera]['cam2global'])
            assert np.array_equal(pose[:3, :3].T, wanted['cams'][camera]['sensor2global_rotation'])
        assert len(info['camera_sweeps']) == len(wanted['sweeps'])
        assert np.array_equal([box['bbox_3d'] for box in info['instances']], wanted['gt_boxes'])


JUNK = (None, 'x', -1, 10**400, [], {}, [[1], [2, 3]], np.zeros(3), np.full((3, 3), np.nan), 'a/b\0')


@settings(max_examples=120)
@given(data=st.data())
def test_damaged_official_files_are_read_or_refused(root, official, tmp_path, data):
    damage = st.one_of(damaged_tree(official, JUNK), damaged_bytes(pickle.dumps(official)))
    path = _written(tmp_path / 'nuscenes_infos_val_sweep.pkl', data.draw(damage))
    found = answer(lambda: convert_infos([path], root, tmp_path, 'o', overwrite=True), path, root)
    if found:
        _dataset(tmp_path / 'o_infos_val.pkl', root, path)


def _dataset(path: Path, root: Path, *sources: Path) -> MultiFrameNuScenesDataset | None:
    read: Callable[[], MultiFrameNuScenesDataset] = lambda: MultiFrameNuScenesDataset(  # noqa: E731
        data_root=str(root), ann_file=str(path), test_mode=True
    )
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        dataset = answer(read, path, *sources)
    for i in range(len(dataset) if dataset is not None else 0):
        item = dataset.get_data_info(i)
        assert are_poses(item['lidar2global']) and are_intrinsics(item['key_frame'].cam2img).all()
    return dataset


def test_info_files_come_back(root, infos, tmp_path):
    dataset = _dataset(_written(tmp_path / INFOS, infos), root)
    assert [dataset.get_data_info(i)['token'] for i in range(len(dataset))] == [i['token'] for i in infos['data_list']]


@settings(max_examples=120)
@given(data=st.data())
def test_damaged_info_files_are_read_or_refused(root, infos, tmp_path, data):
    damage = st.one_of(damaged_tree(infos, JUNK), damaged_bytes(pickle.dumps(infos)))
    _dataset(_written(tmp_path / INFOS, data.draw(damage)), root)

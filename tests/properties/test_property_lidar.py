"""Points, labels and info files of LinK's segmentation: labels map as they should, damage is refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings
from mmdet3d.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mvbench_plugins.link import CheckLabelFile, CheckPointFile, NuScenesLidarSegDataset

KITTI, NUSCENES = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg', 'linkunet_cosx-2x3_4xb16-80e_nus-seg'


@pytest.fixture(scope='module')
def configs(config_dir) -> dict[str, Config]:
    return {name: Config.fromfile(config_dir / 'link' / f'{name}.py') for name in (KITTI, NUSCENES)}


@pytest.fixture(scope='module')
def known(configs) -> dict[int, int]:
    """Class by id of SemanticKITTI."""
    return configs[KITTI].labels_map


def _loaded(config: Config, path: Path, mapping: np.ndarray) -> np.ndarray:
    """Classes as the config's own steps load them."""
    steps = config.train_dataloader.dataset.pipeline
    first = [step.type for step in steps].index('CheckLabelFile')
    results = dict(pts_semantic_mask_path=str(path), seg_label_mapping=mapping)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        for step in steps[first : first + 3]:
            results = TRANSFORMS.build(step)(results)
    return results['pts_semantic_mask']


@given(data=st.data())
def test_labels_of_semantic_kitti_are_mapped_or_refused(configs, known, tmp_path, data):
    ids = data.draw(st.lists(st.one_of(st.sampled_from(sorted(known)), st.integers(0, 2**16 - 1)), max_size=8))
    instances = data.draw(st.lists(st.integers(0, 2**16 - 1), min_size=len(ids), max_size=len(ids)))
    path = tmp_path / '000000.label'
    (np.array(ids, np.uint32) | np.array(instances, np.uint32) << 16).tofile(path)
    mapping = np.zeros(260, np.int64)  # as the stock data set makes it
    mapping[list(known)] = list(known.values())
    classes = answer(lambda: _loaded(configs[KITTI], path, mapping), path)
    assert (classes is None) == (not known.keys() >= {*ids})
    assert classes is None or classes.tolist() == [known[number] for number in ids]


@given(st.lists(st.integers(0, 255), max_size=8))
def test_labels_of_nuscenes_are_mapped_or_refused(configs, tmp_path, ids):
    path = tmp_path / 'lidarseg.bin'
    np.array(ids, np.uint8).tofile(path)
    mapping = np.arange(32)[::-1].copy()
    classes = answer(lambda: _loaded(configs[NUSCENES], path, mapping), path)
    assert (classes is None) == (max(ids, default=0) > 31)
    assert classes is None or classes.tolist() == [31 - number for number in ids]


def test_an_unknown_label_is_told_with_file_id_and_remedy(known, tmp_path):
    path = tmp_path / '000007.label'
    np.array([10, 12 | 5 << 16, 40], np.uint32).tofile(path)
    with pytest.raises(ValueError, match=r'000007\.label: found the ids \[12\], expected .*Map your classes'):
        CheckLabelFile(known, 'uint32')(dict(pts_semantic_mask_path=str(path)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r'000007\.label: found 11 bytes, expected a multiple of 4'):
        CheckLabelFile(known, 'uint32')(dict(pts_semantic_mask_path=str(path)))
    with pytest.raises(FileNotFoundError, match=r'000008\.label: no such file'):
        CheckLabelFile(known, 'uint32')(dict(pts_semantic_mask_path=str(tmp_path / '000008.label')))
    assert CheckLabelFile(known, 'uint32')(dict(points=3)) == dict(points=3)


@given(st.binary(max_size=400), st.integers(3, 6))
def test_any_bytes_are_points_of_the_size_or_refused(tmp_path, content, size):
    path = tmp_path / '000000.bin'
    path.write_bytes(content)
    results = dict(lidar_points=dict(lidar_path=str(path)))
    passed = answer(lambda: CheckPointFile(size)(results), path)
    assert (passed is None) == (len(content) % (4 * size) != 0)


INFOS = dict(
    metainfo=dict(version='v1.0-trainval'),
    data_list=[
        dict(
            sample_idx=0,
            token='a',
            lidar_points=dict(lidar_path='a.pcd.bin', num_pts_feats=5),
            pts_semantic_mask_path='a_lidarseg.bin',
        )
    ],
)


@settings(max_examples=150)
@given(st.one_of(damaged_tree(INFOS).map(pickle.dumps), damaged_bytes(pickle.dumps(INFOS))))
def test_damaged_info_files_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'nuscenes_infos_train.pkl'
    path.write_bytes(content)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        dataset = answer(
            lambda: NuScenesLidarSegDataset(
                metainfo=dict(classes=NuScenesLidarSegDataset.METAINFO['classes']),
                data_root='',
                ann_file=str(path),
                data_prefix=dict(pts='', pts_semantic_mask=''),
                serialize_data=False,
            ),
            path,
        )
    for info in dataset.data_list if dataset is not None else ():
        assert isinstance(info['lidar_points']['lidar_path'], str)

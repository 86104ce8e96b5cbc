"""Loading, augmentation and voxels of the detectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.registry import MODELS, TRANSFORMS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes, LiDARPoints
from mmdet3d.utils import register_all_modules

import mvbench_plugins.link.det_preprocessor
import mvbench_plugins.link.det_transforms  # noqa: F401  registers

RANGE = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()


def sweep_results(folder, count: int) -> dict:
    """A key frame of two points, and sweeps of one point whose x is their number; the nearest is number 1."""
    sweeps = []
    for number in range(1, count + 1):
        path = folder / f'{number}.bin'
        np.array([[number, 5.0, 0.0, 7.0, 3.0], [0.5, -0.5, 0.0, 7.0, 3.0]], np.float32).tofile(path)  # one is close
        sweeps.append(
            dict(timestamp=10.0 - number, lidar_points=dict(lidar_path=str(path), lidar2sensor=np.eye(4).tolist()))
        )
    key = torch.tensor([[-1.0, 5.0, 0.0, 7.0, 31.0], [0.5, 0.5, 0.0, 7.0, 31.0]])
    return dict(points=LiDARPoints(key, points_dim=5), timestamp=10.0, lidar_sweeps=sweeps)


def load(results: dict, **kwargs) -> torch.Tensor:
    cfg = dict(type='LoadNearestSweeps', sweeps_num=3, load_dim=5, use_dim=5, pad_empty_sweeps=True, remove_close=True)
    return TRANSFORMS.build({**cfg, **kwargs})(results)['points'].tensor


def test_the_nearest_sweeps_with_their_time_lags(tmp_path):
    points = load(sweep_results(tmp_path, 5), test_mode=True)
    assert points[:, 0].tolist() == [-1.0, 0.5, 1.0, 2.0, 3.0]  # the key frame keeps its close point
    assert points[:, 4].tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_the_last_sweep_repeats_where_there_are_fewer(tmp_path):
    assert load(sweep_results(tmp_path, 2), test_mode=True)[2:, 0].tolist() == [1.0, 2.0, 2.0]


def test_the_key_frame_repeats_without_close_points_where_there_are_no_sweeps(tmp_path):
    points = load(sweep_results(tmp_path, 0), test_mode=True)
    assert points[:, 0].tolist() == [-1.0, 0.5, -1.0, -1.0, -1.0] and not points[:, 4].any()


def test_training_draws_their_order_but_not_their_choice(tmp_path):
    np.random.seed(0)
    drawn = [tuple(load(sweep_results(tmp_path, 5))[2:, 0].tolist()) for _ in range(20)]
    assert {tuple(sorted(order)) for order in drawn} == {(1.0, 2.0, 3.0)} and len(set(drawn)) > 1


def test_a_cut_off_file_is_named(tmp_path):
    path = tmp_path / 'cut.bin'
    path.write_bytes(bytes(4 * 23))
    check = TRANSFORMS.build(dict(type='CheckPointFile', load_dim=5))
    with pytest.raises(ValueError, match=r'cut\.bin: found 92 bytes, expected a multiple of 20'):
        check(dict(lidar_points=dict(lidar_path=str(path))))
    with pytest.raises(ValueError, match=r'cut\.bin'):
        check(dict(points=str(path)))  # as an inferencer is given it
    with pytest.raises(FileNotFoundError, match='missing.bin'):
        check(dict(lidar_points=dict(lidar_path=str(tmp_path / 'missing.bin'))))
    path.write_bytes(bytes(4 * 20))
    assert check(dict(points=np.zeros((2, 5)))) and check(dict(lidar_points=dict(lidar_path=str(path))))


def boxes_at(*x: float) -> LiDARInstance3DBoxes:
    boxes = [[value, 0.0, 0.0, 4.0, 2.0, 1.0, 0.0, 0.0, 0.0] for value in x]
    return LiDARInstance3DBoxes(torch.tensor(boxes).view(-1, 9), box_dim=9)


@pytest.mark.parametrize(('x', 'kept'), [((0.0, 9.5, 10.5, -9.9), [0, 1, 3]), ((), []), ((20.0,), [])])
def test_a_box_stays_while_a_corner_is_in_range(x, kept):
    keep = TRANSFORMS.build(dict(type='ObjectCornerRangeFilter', point_cloud_range=RANGE))
    out = keep(dict(gt_bboxes_3d=boxes_at(*x), gt_labels_3d=np.arange(len(x))))
    assert out['gt_labels_3d'].tolist() == kept and len(out['gt_bboxes_3d']) == len(kept)


def test_pasted_objects_leave_the_scene_alone(monkeypatch):
    transform_type = TRANSFORMS.get('ObjectSampleIntoScene')
    paste = transform_type.__new__(transform_type)  # without a database on disk

    class Sampler:
        def sample_all(self, *args, **kwargs) -> dict:
            pasted = LiDARPoints(torch.tensor([[0.1, 0.0, 0.5, 0.0, 0.0]]), points_dim=5)
            return dict(gt_bboxes_3d=boxes_at(0.0).numpy(), points=pasted, gt_labels_3d=np.array([2]))

    paste.__dict__.update(disabled=False, use_ground_plane=False, sample_2d=False, db_sampler=Sampler())
    scene = torch.tensor(
        [[0.5, 0.5, 0.5, 0.0, 0.0], [5.0, 5.0, 0.0, 0.0, 0.0]]
    )  # the first is inside of the pasted box
    out = paste(dict(gt_bboxes_3d=boxes_at(6.0), gt_labels_3d=np.array([0]), points=LiDARPoints(scene, points_dim=5)))
    assert out['points'].tensor[:, 0].tolist() == pytest.approx([0.1, 0.5, 5.0])
    assert out['gt_labels_3d'].tolist() == [0, 2]


@pytest.fixture
def preprocessor():
    layer = dict(max_num_points=2, voxel_size=[1.0, 1.0, 1.0], max_voxels=(2, 3), point_cloud_range=RANGE)
    return MODELS.build(dict(type='VoxelDetDataPreprocessor', voxel_layer=layer)).eval()


def run(preprocessor, *clouds: torch.Tensor) -> dict:
    samples = [Det3DDataSample(metainfo=dict(lidar_path=f'sweep_{i}.bin')) for i in range(len(clouds))]
    return preprocessor(dict(inputs=dict(points=list(clouds)), data_samples=samples))['inputs']['voxels']


def cloud(*xyz: tuple[float, float, float]) -> torch.Tensor:
    points = torch.zeros(len(xyz), 5)
    points[:, :3] = torch.tensor(xyz).view(-1, 3)
    points[:, 3] = torch.arange(len(xyz))
    return points


def test_voxels_come_in_the_order_of_their_first_points(preprocessor):
    points = cloud((7.5, 0.5, 0.5), (0.2, 0.2, 0.2), (7.9, 0.1, 0.1), (7.4, 0.4, 0.4), (8.0, 0.0, 0.0), (0, 0, -5))
    voxels = run(preprocessor, points)
    assert voxels['coors'].tolist() == [[0, 5, 8, 15], [0, 5, 8, 8], [0, 0, 8, 8]]  # (b, z, y, x)
    assert voxels['num_points'].tolist() == [2, 1, 1]  # at most two each, the first ones; none at x = 8
    assert voxels['voxels'][0, :, 3].tolist() == [0.0, 2.0]
    preprocessor.train()
    assert len(run(preprocessor, points)['coors']) == 2


def test_samples_without_points_and_points_outside_pass(preprocessor):
    voxels = run(preprocessor, cloud((1, 1, 1)), cloud(), cloud((100, 0, 0)))
    assert voxels['coors'].tolist() == [[0, 6, 9, 9]]
    assert run(preprocessor, cloud())['voxels'].shape == (0, 2, 5)


def test_damaged_point_clouds_are_named(preprocessor):
    damaged = cloud((1, 1, 1), (1, float('nan'), 1), (1, 1, float('inf')))
    with pytest.raises(ValueError, match=r'sweep_1\.bin: 2 of 3 points .* the first is point 1'):
        run(preprocessor, cloud((1, 1, 1)), damaged)
    with pytest.raises(ValueError, match=r'sweep_0\.bin: found points of shape \[1, 4\], expected \[N, 5\]'):
        run(preprocessor, cloud((1, 1, 1))[:, :4])

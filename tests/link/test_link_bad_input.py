"""Point clouds that hold nothing, nothing in range, or something else than points: through mmdet3d's inferencers."""

from __future__ import annotations

import numpy as np
import pytest
from link_inferencers import det_inferencer, seg_inferencer, sweep
from mmdet3d.apis.inferencers.base_3d_inferencer import Base3DInferencer

from mvbench_plugins.link.point_checks import check_point_size

KITTI = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg'
SIZES = dict(detect=5, segment=4)


@pytest.fixture(scope='module')
def inferencers(config_dir, own_scope, tmp_path_factory) -> dict[str, Base3DInferencer]:
    return dict(
        detect=det_inferencer(config_dir, tmp_path_factory.mktemp('detect')),
        segment=seg_inferencer(config_dir, tmp_path_factory.mktemp('segment'), KITTI),
    )


def cloud(task: str, count: int, seed: int = 0) -> np.ndarray:
    points = sweep(count, seed)
    return points if task == 'detect' else points[:, :4] * np.float32([1, 1, 1, 1 / 255])


def answers(inferencer: Base3DInferencer, *clouds: np.ndarray) -> list[dict]:
    inputs = [dict(points=points) for points in clouds]
    return inferencer(inputs, batch_size=len(inputs), no_save_vis=True)['predictions']


@pytest.mark.parametrize('task', SIZES)
def test_an_empty_sample_leaves_the_others_of_its_batch_alone(task, inferencers):
    inferencer, one, other = inferencers[task], cloud(task, 300), cloud(task, 200, seed=1)
    together = answers(inferencer, one, cloud(task, 0), other)
    key = 'bboxes_3d' if task == 'detect' else 'pts_semantic_mask'
    for found, alone in zip(together, [one, cloud(task, 0), other], strict=True):
        (expected,) = answers(inferencer, alone)
        assert np.shape(found[key]) == np.shape(expected[key])
        if task == 'detect':  # by place: with random weights many boxes have nearly the same score
            found[key], expected[key] = (
                sorted(boxes, key=lambda box: np.round(box[:2], 1).tolist()) for boxes in (found[key], expected[key])
            )
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-3, atol=1e-3)
    assert task == 'detect' or together[1][key] == []


def test_points_out_of_range_are_as_good_as_none(inferencers):
    far, nothing = cloud('detect', 100) + np.float32([1000, 0, 0, 0, 0]), cloud('detect', 0)
    found, expected = answers(inferencers['detect'], far, nothing)
    assert found == expected


def test_segmentation_has_no_range(inferencers):
    """Voxels are counted from the least: the same points far away have answers, too."""
    (found,) = answers(inferencers['segment'], cloud('segment', 100) + np.float32([1000, 0, 0, 0]))
    assert len(found['pts_semantic_mask']) == 100


@pytest.mark.parametrize('task', SIZES)
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_no_numbers_are_located(task, value, inferencers, tmp_path):
    points = cloud(task, 50)
    points[3, 0] = value
    with pytest.raises(ValueError, match=r'point cloud.*: 1 of 50 points .* the first is point 3'):
        answers(inferencers[task], points)
    points.tofile(tmp_path / 'damaged.bin')
    with pytest.raises(ValueError, match=r'damaged\.bin: 1 of 50 points'):
        inferencers[task](dict(points=str(tmp_path / 'damaged.bin')))


@pytest.mark.parametrize('task', SIZES)
@pytest.mark.parametrize('shape', [(50, 3), (50, 7), (50,), (2, 50, 4)])
def test_arrays_of_another_shape_are_refused(task, shape, inferencers):
    expected = rf'found an array of shape \[{", ".join(map(str, shape))}\], expected \[N, {SIZES[task]}\]'
    with pytest.raises(ValueError, match=expected):
        answers(inferencers[task], np.zeros(shape, np.float32))


@pytest.mark.parametrize('task', SIZES)
def test_files_of_points_of_another_size_are_refused(task, inferencers, tmp_path):
    """Though their sizes in bytes fit: sweeps of nuScenes hold a multiple of 32 points."""
    path, size = tmp_path / 'other.bin', SIZES[task]
    other = 9 - size
    cloud('detect' if other == 5 else 'segment', 640).tofile(path)
    assert path.stat().st_size % (4 * size) == 0
    with pytest.raises(ValueError, match=rf'other\.bin: found points of {other} values .* expected {size}'):
        inferencers[task](dict(points=str(path)))


def test_the_size_of_points_is_told_from_their_values_only_where_these_differ():
    right = cloud('segment', 640)
    check_point_size(right.ravel(), 4, 'right.bin')
    check_point_size(np.random.default_rng(0).random(3200, np.float32), 4, 'even.bin')
    check_point_size(np.zeros(3200, np.float32), 4, 'zeros.bin')
    check_point_size(np.full(3200, np.nan, np.float32), 5, 'nan.bin')
    check_point_size(right[:100].ravel(), 5, 'few.bin')
    with pytest.raises(ValueError, match='right.bin: found points of 4 values'):
        check_point_size(right.ravel(), 5, 'right.bin')

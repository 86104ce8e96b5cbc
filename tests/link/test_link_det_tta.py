"""Mirrored and rotated views say the same as the view itself."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet3d.registry import TRANSFORMS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes, LiDARPoints
from mmdet3d.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from small_center_head import build_head, instances, perfect_maps
from torch import nn

from mvbench_plugins.link.det_flips import Mirroring
from mvbench_plugins.link.det_tta import LinKCenterPointTTA

BOX = [2.3, -1.6, 0.5, 4.0, 2.0, 1.5, 0.3, 1.0, -2.0]
SMALL = [-4.2, 3.7, -0.5, 0.5, 0.6, 1.0, -2.0, -0.5, 0.25]
META = dict(box_type_3d=LiDARInstance3DBoxes)
THRESHOLDS = (0.1, 0.1, 0.1)


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()
    init_default_scope('mmdet3d')


@pytest.fixture
def head():
    return build_head()


def moved(objects: InstanceData, angle: float, mirroring: Mirroring) -> InstanceData:
    """The objects as mmdet3d's own augmentation moves them."""
    boxes = objects.bboxes_3d.clone()
    boxes.rotate(angle)
    if mirroring.y:
        boxes.flip('horizontal')
    if mirroring.x:
        boxes.flip('vertical')
    return InstanceData(bboxes_3d=boxes, labels_3d=objects.labels_3d)


def as_table(result: InstanceData) -> torch.Tensor:
    boxes = torch.cat([result.bboxes_3d.gravity_center, result.bboxes_3d.tensor[:, 3:]], dim=1)
    boxes[:, 6] = torch.atan2(boxes[:, 6].sin(), boxes[:, 6].cos())
    return boxes


@pytest.mark.parametrize('angle', [0.0, 0.4])
@pytest.mark.parametrize('views', [[(0, 0)], [(1, 0)], [(0, 1)], [(1, 1)], [(0, 0), (1, 0), (0, 1), (1, 1)]])
def test_views_are_turned_back(head, views, angle):
    objects = instances([BOX, SMALL], [0, 2])
    mirrorings = [Mirroring(bool(y), bool(x)) for y, x in views]
    maps = [perfect_maps(head, moved(objects, angle, mirroring)) for mirroring in mirrorings]
    (result,) = LinKCenterPointTTA.detect(head, list(zip(maps, mirrorings, strict=True)), [META], angle)
    assert result.labels_3d.tolist() == [0, 2]
    torch.testing.assert_close(as_table(result), torch.tensor([BOX, SMALL]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result.scores_3d, torch.tensor(3.0).sigmoid().expand(2))


def test_a_view_that_sees_nothing_lowers_the_score(head):
    seen, nothing = (perfect_maps(head, o) for o in (instances([BOX], [0]), instances([], [])))
    same = Mirroring(False, False)
    (result,) = LinKCenterPointTTA.detect(head, [(seen, same), (nothing, same)], [META], 0.0)
    expected = (torch.tensor(3.0).sigmoid() + torch.tensor(-8.0).sigmoid()) / 2
    torch.testing.assert_close(result.scores_3d, expected[None])


class PointsHead(nn.Module):
    """Sees an object of size 1 at each point."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.predict_by_feat = head.predict_by_feat

    def forward(self, points: list[torch.Tensor]) -> list[list[dict[str, torch.Tensor]]]:
        (cloud,) = points
        boxes = [[*point[:3].tolist(), 1.0, 1.0, 1.0, 0.0, 0.0, 0.0] for point in cloud]
        return perfect_maps(self.head, instances(boxes, [1] * len(boxes)))


class PointsAreObjects(nn.Module):
    """Stands in for a detector."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.pts_bbox_head = PointsHead(head)

    def test_step(self, data):
        raise AssertionError('the maps are needed, not the detections of a view')

    def data_preprocessor(self, data: dict, training: bool) -> dict:
        assert not training
        return data

    def extract_feat(self, inputs: dict, metas: list[dict]) -> tuple[None, list]:
        return None, inputs['points']

    def add_pred_to_datasample(self, samples: list[Det3DDataSample], results: list[InstanceData]):
        for sample, result in zip(samples, results, strict=True):
            sample.pred_instances_3d = result
        return samples


@pytest.mark.parametrize(
    ('name', 'num_views'),
    [
        ('link_det_voxel0075-flip-tta_4xb2-cyclic-20e_nus-3d.py', 4),
        ('link_det_voxel0075-flip-rot-tta_4xb2-cyclic-20e_nus-3d.py', 28),
    ],
)
def test_the_views_of_the_configs_agree(head, config_dir, name, num_views):
    cfg = Config.fromfile(config_dir / 'link' / name)
    augment = TRANSFORMS.build(cfg.test_dataloader.dataset.pipeline[-1])
    points = torch.tensor([[2.4, -1.6, 0.5, 9.0, 0.0], [-4.3, 3.7, -0.5, 9.0, 0.0]])
    item = dict(points=LiDARPoints(points.clone(), points_dim=5), **META)
    data = pseudo_collate([augment(item)])
    assert len(data['inputs']) == num_views
    (sample,) = LinKCenterPointTTA(PointsAreObjects(head), THRESHOLDS).test_step(data)
    found = sample.pred_instances_3d
    assert found.labels_3d.tolist() == [1, 1]
    centres = found.bboxes_3d.gravity_center
    centres = centres[centres[:, 0].argsort(descending=True)]
    torch.testing.assert_close(centres, points[:, :3], atol=1e-4, rtol=1e-4)


def test_rotations_are_united_within_a_class(head):
    tta = LinKCenterPointTTA(PointsAreObjects(head), THRESHOLDS, max_per_sample=3)

    def result(boxes: list[list[float]], labels: list[int], scores: list[float]) -> InstanceData:
        return InstanceData(scores_3d=torch.tensor(scores), **dict(instances(boxes, labels).items()))

    near = [BOX[0] + 0.2, *BOX[1:]]
    far = [BOX[0] + 6, *BOX[1:]]
    (merged,) = tta.merge_preds(
        [(result([BOX, SMALL], [0, 1], [0.6, 0.2]), result([near, far, BOX], [0, 0, 2], [0.9, 0.3, 0.5]))]
    )
    assert merged.scores_3d.tolist() == pytest.approx([0.9, 0.5, 0.3])  # three at most
    assert merged.labels_3d.tolist() == [0, 2, 0]
    assert math.isclose(float(merged.bboxes_3d.tensor[0, 0]), near[0], rel_tol=1e-6)

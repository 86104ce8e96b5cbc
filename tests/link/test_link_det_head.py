"""Targets, losses and decoding of the detectors' head."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.utils import register_all_modules
from mmengine.structures import InstanceData
from small_center_head import build_head, instances, perfect_maps, quiet_maps

from mvbench_plugins.link.det_losses import SlotFocalLoss


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()


@pytest.fixture
def head():
    return build_head()


BOX = [2.3, -1.6, 0.5, 4.0, 2.0, 1.5, 0.3, 1.0, -2.0]


def test_decoding_the_targets_gives_the_boxes(head):
    maps = perfect_maps(head, instances([BOX], [2]))
    (result,) = head.predict_by_feat(maps, [dict(box_type_3d=LiDARInstance3DBoxes)])
    assert result.labels_3d.tolist() == [2]
    found = torch.cat([result.bboxes_3d.gravity_center, result.bboxes_3d.tensor[:, 3:]], dim=1)
    torch.testing.assert_close(found, torch.tensor([BOX]))


def test_a_cell_gives_one_box_and_classes_of_a_task_suppress_each_other(head):
    maps = [quiet_maps(1), quiet_maps(2)]
    maps[1]['heatmap'][0, :, 4, 4] = torch.tensor([2.0, 1.0])
    maps[1]['heatmap'][0, 1, 4, 5] = 0.5
    maps[1]['dim'] += math.log(4.0)
    maps[1]['rot'][:, 1] = 1.0
    (result,) = head.predict_by_feat([[m] for m in maps], [dict(box_type_3d=LiDARInstance3DBoxes)])
    assert result.labels_3d.tolist() == [1]
    maps[1]['dim'] -= math.log(8.0)  # now they do not touch
    (result,) = head.predict_by_feat([[m] for m in maps], [dict(box_type_3d=LiDARInstance3DBoxes)])
    assert result.labels_3d.tolist() == [1, 2]


def test_unknown_velocities_are_learned_as_zero_and_the_annotation_is_left_alone(head):
    unknown = instances([[*BOX[:7], math.nan, math.nan]], [0])
    _, boxes, _, filled = head.get_targets([unknown])
    assert boxes[0][0, 0, 8:].tolist() == [0.0, 0.0] and filled[0].sum() == 1
    assert unknown.bboxes_3d.tensor[0, 7:].isnan().all()


def test_boxes_without_velocity_are_refused(head):
    boxes = LiDARInstance3DBoxes(torch.zeros(1, 7))
    with pytest.raises(ValueError, match='found 7 columns, expected 9'):
        head.get_targets([InstanceData(bboxes_3d=boxes, labels_3d=torch.zeros(1, dtype=torch.long))])


def test_two_objects_in_a_cell_count_twice(head):
    """The peaks of the heat map are the same, the loss is not."""
    torch.manual_seed(0)
    maps = [quiet_maps(1), quiet_maps(2)]
    once = head.loss_by_feat([[m] for m in maps], [instances([BOX], [1])])
    twice = head.loss_by_feat([[m] for m in maps], [instances([BOX, BOX], [1, 1])])
    p = torch.tensor(-8.0).sigmoid()
    missed = -p.log() * (1 - p) ** 2
    # The background's part is shared by twice as many objects.
    background = once['task1.loss_heatmap'] - missed
    torch.testing.assert_close(twice['task1.loss_heatmap'], missed + background / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(once['task1.loss_bbox'], twice['task1.loss_bbox'], atol=1e-3, rtol=1e-3)


def test_focal_loss_by_hand():
    logits = torch.tensor([[[[0.0, 1.0], [-1.0, 0.5]]]])
    heatmap = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    p = logits.sigmoid().flatten()
    expected = -(p[0].log() * (1 - p[0]) ** 2)
    for i, t in ((1, 0.5), (2, 0.0), (3, 0.0)):
        expected = expected - (1 - p[i]).log() * p[i] ** 2 * (1 - t) ** 4
    cells, classes = torch.tensor([[0, 0]]), torch.tensor([[0, 0]])
    got = SlotFocalLoss()(logits, heatmap, cells, classes, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(got, expected)


def test_samples_without_objects_have_finite_losses(head):
    maps = [{name: m.requires_grad_() for name, m in quiet_maps(n).items()} for n in (1, 2)]
    losses = head.loss_by_feat([[m] for m in maps], [instances([], [])])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses['task0.loss_bbox'] == 0 and losses['task0.loss_heatmap'] > 0


def test_initial_scores_are_low(head):
    torch.manual_seed(0)
    head.init_weights()
    maps = head([torch.zeros(1, 8, 16, 16)])
    for (task,) in maps:
        torch.testing.assert_close(task['heatmap'].sigmoid().mean(), torch.tensor(0.1), atol=0.05, rtol=0.0)

"""Official names and boxes, and the whole detector on small point clouds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import load_case
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmdet3d.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from mvbench_plugins.common.checkpoint import strict_mismatches
from mvbench_plugins.link.det_checkpoint import convert_detection, is_official_detection, turn_maps

CASE = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'link' / 'det_elkv3_train'
RANGE = [-9.6, -9.6, -5.0, 9.6, 9.6, 3.0]


def small_detector(config_dir: Path):
    """The released network in full width, on a small range."""
    register_all_modules()
    cfg = Config.fromfile(config_dir / 'link' / 'link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py')
    cfg.model.data_preprocessor.voxel_layer.point_cloud_range = RANGE
    cfg.model.pts_middle_encoder.sparse_shape = [41, 256, 256]
    cfg.model.pts_bbox_head.bbox_coder.pc_range = RANGE[:2]
    cfg.model.train_cfg.pts.update(point_cloud_range=RANGE, grid_size=[256, 256, 40])
    cfg.model.test_cfg.pts.pre_max_size = 100
    return MODELS.build(cfg.model)


def batch(*clouds: torch.Tensor) -> dict:
    samples = []
    for _ in clouds:
        sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
        boxes = LiDARInstance3DBoxes(torch.tensor([[2.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0]]), box_dim=9)
        sample.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor([0]))
        samples.append(sample)
    return dict(inputs=dict(points=list(clouds)), data_samples=samples)


def points(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 5, generator=generator) * torch.tensor([12.0, 12.0, 3.0, 255.0, 0.5]) - 2


def test_official_files_load_strictly_and_convert_once(config_dir):
    official = load_case(CASE).state_dict()
    assert is_official_detection(official)
    converted, dropped = convert_detection(official)
    model = small_detector(config_dir)
    assert not strict_mismatches(model, converted) and not dropped
    again, _ = convert_detection(converted)
    assert not is_official_detection(converted) and all(again[key] is value for key, value in converted.items())
    wrapped, _ = convert_detection({f'module.{key}': value for key, value in official.items()})
    assert wrapped.keys() == converted.keys()
    # Directly, under the official names, as mmengine loads them.
    model.load_state_dict(official, strict=True)
    for key in ('pts_bbox_head.task_heads.3.dim.1.weight', 'pts_middle_encoder.levels.2.down.0.weight'):
        assert torch.equal(model.state_dict()[key], converted[key])


def test_files_of_another_model_are_refused(config_dir):
    with pytest.raises(ValueError, match='weights of another model'):
        small_detector(config_dir).load_state_dict({'backbone.conv1.weight': torch.zeros(1)}, strict=False)


def test_boxes_are_turned_once_and_back():
    sizes = torch.tensor([1.0, 2.0, 3.0])  # w, l, h
    assert turn_maps('dim', sizes).tolist() == [2.0, 1.0, 3.0]
    angle = torch.tensor(0.7)
    yaw = -angle - torch.pi / 2
    ours = turn_maps('rot', torch.stack([angle.sin(), angle.cos()]))
    torch.testing.assert_close(ours, torch.stack([yaw.sin(), yaw.cos()]))
    assert torch.equal(turn_maps('rot', turn_maps('rot', sizes[:2])), sizes[:2])
    assert turn_maps('vel', sizes) is sizes


def test_the_detector_trains_and_predicts_with_an_empty_sample(config_dir):
    torch.manual_seed(0)
    model = small_detector(config_dir)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(batch(points(300), torch.zeros(0, 5)), True)
    losses = model(**data, mode='loss')
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total) and len(losses) == 12
    assert model.pts_middle_encoder.levels['1'].link.pre_mix[0].weight.grad.any()
    model.eval()
    with torch.no_grad():
        nothing = torch.zeros(0, 5)
        for clouds in ((points(300), nothing), (nothing,), (points(50) + 100,)):
            data = model.data_preprocessor(batch(*clouds), False)
            samples = model(**data, mode='predict')
            assert len(samples) == len(clouds)
            assert all(len(s.pred_instances_3d.scores_3d) == len(s.pred_instances_3d.bboxes_3d) for s in samples)

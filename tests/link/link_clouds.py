"""Small point clouds and models for the segmentation tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, PointData
from mmengine.config import Config
from torch import Tensor, nn

NUM_CLASSES = 19


def make_cloud(count: int, seed: int = 0) -> Tensor:
    """``[count, 4]``: points on a few surfaces within some metres, and intensities."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 4, generator=generator) * torch.tensor([4.0, 3.0, 0.3, 1.0])
    points[: count // 3, 0] = 1.0
    return points - torch.tensor([2.0, 1.5, 1.0, 0.0])


def make_batch(clouds: Sequence[Tensor], labels: Sequence[Tensor] | None = None) -> dict:
    """A batch as the data loader gives it."""
    samples = []
    for i, _ in enumerate(clouds):
        sample = Det3DDataSample(metainfo=dict(lidar_path=f'scan_{i}.bin'))
        sample.gt_pts_seg = PointData() if labels is None else PointData(pts_semantic_mask=labels[i])
        samples.append(sample)
    return dict(inputs=dict(points=list(clouds)), data_samples=samples)


def make_labels(clouds: Sequence[Tensor]) -> list[Tensor]:
    """Some of the classes by place, and unlabelled points."""
    return [
        torch.where(cloud[:, 3] < 0.1, NUM_CLASSES, (cloud[:, 0] + 2).long().clamp(0, NUM_CLASSES - 1))
        for cloud in clouds
    ]


def small_model(config_dir: Path, name: str, channels: int = 8) -> nn.Module:
    """The model of a config, narrower."""
    cfg = Config.fromfile(config_dir / 'link' / f'{name}.py').model
    cfg.backbone.channels = channels
    cfg.decode_head.channels = channels * (5 if cfg.backbone.type == 'LinKEncoder' else 1)
    torch.manual_seed(0)
    return MODELS.build(cfg)

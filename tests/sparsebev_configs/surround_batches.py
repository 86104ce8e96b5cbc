"""A random sample of six cameras, as the data loader hands it over."""

from __future__ import annotations

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData


def make_sample(frames: int, size: tuple[int, int]) -> dict:
    """A sample with a camera to each side and two boxes, as the data loader hands it over."""
    generator = torch.Generator().manual_seed(0)
    focal, (height, width) = 150.0, size
    intrinsics = np.array([[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    lidar2img = []
    for turn in np.deg2rad([0, -55, 55, 180, 110, -110]):
        right, forward = (np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))
        lidar2img.append(intrinsics @ np.array([[*right, 0, 0], [0, 0, -1, 0], [*forward, 0, 0], [0, 0, 0, 1.0]]))
    sample = Det3DDataSample(
        metainfo=dict(
            lidar2img=np.stack(lidar2img * frames),
            img_timestamp=1.6e9 - 0.5 * np.repeat(np.arange(frames, dtype=np.float64), 6),
            img_path=[f'{frame}_{camera}.jpg' for frame in range(frames) for camera in range(6)],
            img_shape=size,
            ori_shape=size,
            token='a',
            sample_idx=0,
            scene_token='s',
            box_type_3d=LiDARInstance3DBoxes,
        )
    )
    boxes = torch.tensor([[5.0, 12.0, -1.0, 4.5, 1.9, 1.6, 0.3, 2.0, 1.0], [-9.0, 3.0, -1.0, 0.7, 0.7, 1.8, 0, 0, 0]])
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=torch.tensor([0, 8])
    )
    images = torch.randint(0, 256, (frames * 6, 3, *size), generator=generator, dtype=torch.uint8)
    return dict(inputs=dict(img=[images]), data_samples=[sample])

"""Random batches as a data loader hands them over, of a rig whose six cameras see all around."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor, nn

NUM_CLASSES = 4
SIZE = (48, 96)  # height and width of images
YAWS = (0, -60, 60, 180, 120, -120)  # of the cameras, degrees to the left of the front


def rig(size: tuple[int, int] = SIZE, speed: float = 0.0) -> np.ndarray:
    """Projections ``[6, 4, 4]`` of cameras 1.5 m above the LiDAR's ground, with a view of 70 degrees each.

    Args:
        size: of the images.
        speed: metres that the vehicle was behind its present place.
    """
    height, width = size
    focal = width / 2 / np.tan(np.deg2rad(35))
    intrinsics = np.array([[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    matrices = []
    for yaw in np.deg2rad(YAWS):
        ahead = np.array([-np.sin(yaw), np.cos(yaw), 0])  # y is forward, x is right
        right = np.array([np.cos(yaw), np.sin(yaw), 0])
        pose = np.eye(4)
        pose[:3, :3] = [right, [0, 0, -1], ahead]
        pose[:3, 3] = -pose[:3, :3] @ [0.1, -speed, 0.2]
        matrices.append(intrinsics @ pose)
    return np.stack(matrices)


def make_sample(
    num_boxes: int, num_frames: int = 2, number: int = 0, size: tuple[int, int] = SIZE, scene: str = 'scene'
) -> tuple[Tensor, Det3DDataSample]:
    """Images ``[T * 6, 3, H, W]`` and the data sample of a key frame, half a second after the one before.

    The images of a frame depend on nothing but its number, so that samples share their frames.
    """
    frames = [max(0, number - age) for age in range(num_frames)]
    images = []
    for frame in frames:
        generator = torch.Generator().manual_seed(100 + frame)
        images.append(torch.randint(0, 256, (6, 3, *size), dtype=torch.uint8, generator=generator))
    times = [1533151700.0 + 0.5 * frame + 0.008 * camera for frame in frames for camera in range(6)]
    generator = torch.Generator().manual_seed(number)
    boxes = torch.rand(num_boxes, 9, generator=generator) * torch.tensor([60, 60, 2, 4, 2, 2, 6, 4, 4.0])
    boxes += torch.tensor([-30, -30, -2, 0.5, 0.5, 0.5, -3, -2, -2])
    sample = Det3DDataSample(
        metainfo=dict(
            token=f'{scene}-{number}',
            sample_idx=number,
            scene_token=scene,
            img_path=[f'{scene}/{frame}-{camera}.jpg' for frame in frames for camera in range(6)],
            img_timestamp=np.array(times),
            lidar2img=np.concatenate([rig(size, speed=2.0 * (number - frame)) for frame in frames]),
            img_shape=size,
            box_type_3d=LiDARInstance3DBoxes,
        )
    )
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
        labels_3d=torch.randint(NUM_CLASSES, (num_boxes,), generator=generator),
    )
    return torch.cat(images), sample


def make_batch(boxes: Sequence[int], num_frames: int = 2, size: tuple[int, int] = SIZE) -> dict:
    """A batch of samples with so many boxes, in the middle of a scene."""
    pairs = [make_sample(count, num_frames, 20 + i, size) for i, count in enumerate(boxes)]
    return dict(inputs=dict(img=[images for images, _ in pairs]), data_samples=[sample for _, sample in pairs])


def losses_of(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """Losses of a batch, which stays as it is."""
    return model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')


def predict(model: nn.Module, batch: dict) -> list[InstanceData]:
    """Detections for a batch, which stays as it is; the mode of the model stays, too."""
    return [sample.pred_instances_3d for sample in model.test_step(copy.deepcopy(batch))]

"""What the decoder needs to know about the images of a batch: where they look, and when they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from .frames import CAMERAS

_SINGULAR = 1e-6  # determinants of real projections are products of two focal lengths in pixels


class FrameGeometry(NamedTuple):
    """Geometry of B samples with T frames of N cameras.

    Attributes:
        lidar2img: projections ``[B, T, N, 4, 4]``, from the LiDAR at the time of the key frame.
        age: seconds ``[B, T]`` from each frame to the key frame: 0, then positive for the past, negative for the
            future; the mean over the cameras.
        image_size: height and width in pixels that projected points are divided by, padding included.
    """

    lidar2img: Tensor
    age: Tensor
    image_size: tuple[int, int]


def collect_frame_geometry(
    data_samples: Sequence[Det3DDataSample], num_frames: int, device: torch.device
) -> FrameGeometry:
    """Read the geometry from the meta information of a batch.

    Args:
        data_samples: with ``lidar2img`` ``[T * N, 4, 4]``, ``img_timestamp`` ``[T * N]`` in seconds, frame by frame,
            and ``pad_shape``.
        num_frames: T.
        device: of the results.

    Raises:
        ValueError: a field is missing, has the wrong length, or holds numbers that cannot be.
    """
    projections, ages = [], []
    for sample in data_samples:
        lidar2img, timestamps = _checked(sample, num_frames)
        projections.append(lidar2img.reshape(num_frames, len(CAMERAS), 4, 4))
        # In float64: single precision cannot tell seconds since 1970 apart.
        timestamps = timestamps.reshape(num_frames, len(CAMERAS))
        ages.append((timestamps[0] - timestamps).mean(1))
    return FrameGeometry(
        torch.from_numpy(np.stack(projections)).to(device, torch.float32),
        torch.from_numpy(np.stack(ages)).to(device, torch.float32),
        tuple(data_samples[0].pad_shape[:2]),
    )


def _checked(sample: Det3DDataSample, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Projections and timestamps of a sample, float64."""
    place = f'sample {sample.get("token", sample.get("sample_idx", "without a token"))}'
    for name in ('lidar2img', 'img_timestamp', 'pad_shape'):
        if name not in sample:
            raise ValueError(
                f'{place}: metainfo has no {name}; name lidar2img and img_timestamp in meta_keys of Pack3DDetInputs, '
                'and use SparseBEVDataPreprocessor, which adds pad_shape'
            )
    lidar2img = np.asarray(sample.lidar2img, np.float64)
    timestamps = np.asarray(sample.img_timestamp, np.float64)
    images = num_frames * len(CAMERAS)
    expected = f'expected {num_frames} frames of {len(CAMERAS)} cameras'
    remedy = 'num_frames of LoadMultiFrameImages (data) and of pts_bbox_head (model) must agree'
    if lidar2img.shape != (images, 4, 4):
        raise ValueError(f'{place}: lidar2img has shape {lidar2img.shape}, {expected}: [{images}, 4, 4]; {remedy}')
    if timestamps.shape != (images,):
        raise ValueError(f'{place}: img_timestamp has shape {timestamps.shape}, {expected}: [{images}]; {remedy}')
    with np.errstate(invalid='ignore'):
        wrong = ~np.isfinite(lidar2img).all((1, 2)) | ~(np.abs(np.linalg.det(lidar2img)) > _SINGULAR)
    if wrong.any():
        image = int(wrong.argmax())
        raise ValueError(
            f'{place}: lidar2img[{image}] ({_name(image)}) is {lidar2img[image].tolist()}, which is singular or not '
            'finite; expected intrinsics times extrinsics; correct the calibration of that camera'
        )
    if not np.isfinite(timestamps).all():
        image = int((~np.isfinite(timestamps)).argmax())
        raise ValueError(
            f'{place}: img_timestamp[{image}] ({_name(image)}) is {timestamps[image]}, expected seconds; correct the '
            'info file'
        )
    return lidar2img, timestamps


def _name(image: int) -> str:
    return f'frame {image // len(CAMERAS)}, {CAMERAS[image % len(CAMERAS)]}'

"""Adaptive space-time sampling (section 3.2 of the paper): the same points on every frame of a 4D feature space.

A point has a place and a scale, but no time. So the frames of a clip can ride along as channels: one table row holds a
position of the pyramid at all times, and places, bilinear weights and level weights are computed once per point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mvbench_plugins.common.precision import at_least_float32
from mvbench_plugins.common.xyzr import xyzr_sizes
from mvbench_plugins.ops.pyramid_sampling import FlatPyramid, sample_pyramid

#: A level of stride s is read best at the scale z = log2(s) + 1: stride 4 at z = 3, as in released weights.
_SCALE_OF_STRIDE_1 = 1.0


def flatten_clip_pyramid(feats: Sequence[Tensor], strides: Sequence[int], num_groups: int) -> FlatPyramid:
    """Feature space ``[B, C, T, H_l, W_l]`` as a table ``[B, sum(H_l * W_l), G, T * C / G]``.

    Group g holds the g-th contiguous block of channels. The table is float32 at least, whatever autocast says: sampling
    positions of half precision would be off by whole pixels.
    """
    shapes = tuple((feat.shape[-2], feat.shape[-1]) for feat in feats)
    sizes = [h * w for h, w in shapes]
    batch, channels, num_frames = feats[0].shape[:3]
    table = at_least_float32(feats[0].new_empty(0)).new_empty(
        batch, sum(sizes), num_groups, num_frames, channels // num_groups
    )
    start = 0
    for feat, size in zip(feats, sizes, strict=True):  # each level goes to its place in one copy
        table[:, start : start + size] = feat.flatten(3).unflatten(1, (num_groups, -1)).permute(0, 4, 1, 3, 2)
        start += size
    return FlatPyramid.of(table.flatten(3), shapes, strides)


def sampling_points(position: Tensor, offsets: Tensor) -> Tensor:
    """Place offsets relative to boxes.

    Args:
        position: boxes as xyzr ``[B, N, 4]``.
        offsets: ``[B, N, G, P, 3]`` in units of width, height and octaves.

    Returns:
        ``[B, N, G, P, 3]``: x and y in pixels of the padded clip, z in octaves.
    """
    anchor = position[:, :, None, None]
    xy = anchor[..., :2] + offsets[..., :2] * xyzr_sizes(anchor)
    return torch.cat([xy, anchor[..., 2:3] + offsets[..., 2:]], dim=-1)


def level_weights(points: Tensor, pyramid: FlatPyramid) -> Tensor:
    """How much of each level the points ``[..., 3]`` see, ``[..., L]``: softmax of the squared distance in octaves."""
    scales = pyramid.log_strides(points.dtype) + _SCALE_OF_STRIDE_1
    return (-((points[..., 2:] - scales) ** 2) / 2).softmax(-1)


def sample_clip(pyramid: FlatPyramid, points: Tensor, num_frames: int) -> Tensor:
    """Features at the points, on every frame.

    Args:
        pyramid: from :func:`flatten_clip_pyramid`.
        points: ``[B, N, G, P, 3]``.
        num_frames: T.

    Returns:
        ``[B, N, G, T, P, C / G]``.
    """
    sampled = sample_pyramid(pyramid, points[..., :2], level_weights(points, pyramid))
    return sampled.unflatten(-1, (num_frames, -1)).transpose(3, 4)

"""Sampling points from a feature pyramid with soft level selection: the 3D sampling of the AdaMixer family.

A point sees all levels of the pyramid; its level weights say how much of each (AdaMixer, arXiv 2203.16507, equation 4).
The pyramid is flattened once per image batch and then sampled by every decoder layer without another copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class FlatPyramid(NamedTuple):
    """A feature pyramid as one table of group-wise feature rows.

    Attributes:
        value: ``[B, sum(H_l * W_l), G, C / G]``, levels in order, rows of a level in raster order.
        shapes: ``(H_l, W_l)`` per level.
        levels: ``[L, 4]`` integers on the device of ``value``: height, width, first row and stride (pixels of the
            network input per cell) of each level. Numbers that come from the host make it wait for the device: here
            they come once, not in every layer.
    """

    value: Tensor
    shapes: tuple[tuple[int, int], ...]
    levels: Tensor

    @classmethod
    def of(cls, value: Tensor, shapes: Sequence[tuple[int, int]], strides: Sequence[int]) -> FlatPyramid:
        """The pyramid of a table whose levels have these sizes."""
        levels, start = [], 0
        for (height, width), stride in zip(shapes, strides, strict=True):
            levels.append((height, width, start, stride))
            start += height * width
        return cls(value, tuple(shapes), torch.tensor(levels, device=value.device))

    def log_strides(self, dtype: torch.dtype) -> Tensor:
        """``log2`` of the strides ``[L]``."""
        return self.levels[:, 3].to(dtype).log2()

    def extents(self, dtype: torch.dtype) -> Tensor:
        """Width and height of each level in pixels ``[L, 2]``, whole cells."""
        return (self.levels[:, :2].flip(1) * self.levels[:, 3:]).to(dtype)


def flatten_pyramid(feats: Sequence[Tensor], strides: Sequence[int], num_groups: int) -> FlatPyramid:
    """Flatten maps ``[B, C, H_l, W_l]`` to a :class:`FlatPyramid`; group g holds the g-th contiguous channel block."""
    rows = torch.cat([feat.flatten(2).transpose(1, 2) for feat in feats], dim=1)  # [B, S, C]
    shapes = tuple((feat.shape[-2], feat.shape[-1]) for feat in feats)
    return FlatPyramid.of(rows.unflatten(-1, (num_groups, -1)), shapes, strides)


def sample_pyramid(pyramid: FlatPyramid, points: Tensor, level_weights: Tensor) -> Tensor:
    """Bilinear samples of every level, weighted and summed over the levels.

    Coordinates are pixels of the padded network input: cell (0, 0) of a level covers ``[0, stride) x [0, stride)``;
    what lies outside a map counts as zero (``grid_sample`` with ``align_corners=False`` and zero padding).

    Args:
        pyramid: the flattened pyramid with G groups.
        points: ``[B, N, G, P, 2]`` as (x, y) in pixels.
        level_weights: ``[B, N, G, P, L]``.

    Returns:
        ``[B, N, G, P, C / G]``. Differentiable in all three arguments.
    """
    if pyramid.value.is_cuda:
        return _sample_deformable(pyramid, points, level_weights)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (pyramid.value, points, level_weights)):
        return _sample_grid(pyramid, points, level_weights)
    return _sample_gather(pyramid, points, level_weights)


def _sample_grid(pyramid: FlatPyramid, points: Tensor, level_weights: Tensor) -> Tensor:
    """The definition, on any device: one ``grid_sample`` per group and level."""
    sizes = [h * w for h, w in pyramid.shapes]
    extents = pyramid.extents(points.dtype)
    groups = []
    for group, table in enumerate(pyramid.value.unbind(2)):  # [B, S, C / G]
        sampled = points.new_zeros(())
        for level, (rows, (h, w)) in enumerate(zip(table.split(sizes, dim=1), pyramid.shapes, strict=True)):
            # A view: the channels of a cell stay neighbours in memory, which is also how they are read.
            feat = rows.transpose(1, 2).unflatten(-1, (h, w))  # [B, C / G, H, W]
            grid = points[:, :, group] / extents[level] * 2 - 1
            found = F.grid_sample(feat, grid, align_corners=False)  # [B, C / G, N, P]
            sampled = sampled + found * level_weights[:, None, :, group, :, level]
        groups.append(sampled.permute(0, 2, 3, 1))
    return torch.stack(groups, dim=2)


def _sample_gather(pyramid: FlatPyramid, points: Tensor, level_weights: Tensor) -> Tensor:
    """The same as a weighted sum of 4 rows per level, one ``embedding_bag`` for all: for a CPU without gradients.

    It reads whole feature rows where ``grid_sample`` strides through memory channel by channel, which makes it about
    twice as fast; the backward pass of ``embedding_bag``, on the other hand, is slow.
    """
    value = pyramid.value
    batch, num_rows, groups, channels = value.shape
    _, widths, starts, strides = pyramid.levels.unbind(1)
    sizes = pyramid.levels[:, :2].flip(1)[..., None].to(points.dtype)  # [L, 2, 1]
    cells = points[..., None, :] / strides[:, None].to(points.dtype) - 0.5  # [B, N, G, P, L, 2]
    near = cells.detach().floor()
    share = cells - near
    ends = torch.stack([near, near + 1], dim=-1)  # the two cells around the point, per axis
    inside = (ends >= 0) & (ends < sizes)
    weights = torch.where(inside, torch.stack([1 - share, share], dim=-1), 0.0)  # [..., L, 2, 2]
    weights = weights[..., 1, :, None] * weights[..., 0, None, :] * level_weights[..., None, None]  # [..., L, y, x]
    # Clamp as floats: a diverged query may hold coordinates that no integer can.
    ends = torch.minimum(ends.nan_to_num_().clamp_(min=0), sizes - 1).long()
    row = (starts[:, None] + ends[..., 1, :] * widths[:, None])[..., None] + ends[..., 0, None, :]  # [..., L, y, x]
    image = torch.arange(batch, device=row.device).view(-1, 1, 1, 1, 1, 1, 1)
    group = torch.arange(groups, device=row.device).view(1, 1, -1, 1, 1, 1, 1)
    index = (image * num_rows + row) * groups + group
    sampled = F.embedding_bag(
        index.flatten(0, 3).flatten(1),
        value.reshape(-1, channels),
        mode='sum',
        per_sample_weights=weights.flatten(0, 3).flatten(1),
    )
    return sampled.view(*points.shape[:-1], channels)


def _sample_deformable(pyramid: FlatPyramid, points: Tensor, level_weights: Tensor) -> Tensor:
    """The same through mmcv's deformable-attention kernel: a point is a query with one sampling point per level."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    batch, num_queries, groups, num_points = points.shape[:4]
    value = pyramid.value.contiguous()
    shapes, starts = pyramid.levels[:, :2].contiguous(), pyramid.levels[:, 2].contiguous()
    locations, weights = _deformable_arguments(pyramid, points, level_weights)
    sampled = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, batch)
    return sampled.view(batch, num_queries, num_points, groups, -1).transpose(2, 3)


def _deformable_arguments(pyramid: FlatPyramid, points: Tensor, level_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sampling locations ``[B, N * P, G, L, 1, 2]`` in [0, 1] and weights ``[B, N * P, G, L, 1]`` of mmcv."""
    extents = pyramid.extents(points.dtype)
    locations = points.transpose(2, 3).flatten(1, 2)[:, :, :, None, None] / extents[:, None]
    weights = level_weights.transpose(2, 3).flatten(1, 2)[..., None]
    return locations.contiguous(), weights.contiguous()

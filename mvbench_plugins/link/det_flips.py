"""Averages the maps of CenterPoint's head over views that were mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_ROW, _COLUMN = -2, -1  # along y and x


class Mirroring(NamedTuple):
    """How the points of a view were mirrored.

    Attributes:
        y: ``y -> -y``, mmdet3d's horizontal flip.
        x: ``x -> -x``, its vertical flip.
    """

    y: bool
    x: bool


def unmirror(maps: dict[str, Tensor], mirroring: Mirroring) -> dict[str, Tensor]:
    """Activated maps of a mirrored view as seen without mirroring.

    Args:
        maps: ``[B, C, H, W]`` each: ``heatmap``, ``reg`` (x, y), ``height``, ``dim``, ``rot`` (sin, cos), ``vel``.
        mirroring: how the view was mirrored. The map must lie symmetrically around the origin.
    """
    axes = [axis for axis, mirrored in ((_ROW, mirroring.y), (_COLUMN, mirroring.x)) if mirrored]
    out = {name: values.flip(axes) for name, values in maps.items()}
    sign_x, sign_y = (-1.0 if mirrored else 1.0 for mirrored in (mirroring.x, mirroring.y))
    # Yaw becomes -yaw with y, and pi - yaw with x.
    out['rot'] = out['rot'] * out['rot'].new_tensor([sign_y, sign_x]).view(1, 2, 1, 1)
    out['vel'] = out['vel'] * out['vel'].new_tensor([sign_x, sign_y]).view(1, 2, 1, 1)
    # Places within a cell are counted from its other side.
    other_side = out['reg'].new_tensor([mirroring.x, mirroring.y]).view(1, 2, 1, 1)
    out['reg'] = other_side + out['reg'] * (1 - 2 * other_side)
    return out


def merge_views(views: Sequence[dict[str, Tensor]], mirrorings: Sequence[Mirroring]) -> dict[str, Tensor]:
    """Average raw maps of one task over views: scores and sizes after their activation, the others as they are.

    Args:
        views: maps of each view as the head gives them, heat maps in logits and sizes in logarithms.
        mirrorings: how each view was mirrored.

    Returns:
        Maps as the head gives them.
    """
    activated = [
        unmirror({**maps, 'heatmap': maps['heatmap'].sigmoid(), 'dim': maps['dim'].exp()}, mirroring)
        for maps, mirroring in zip(views, mirrorings, strict=True)
    ]
    mean = {name: torch.stack([maps[name] for maps in activated]).mean(0) for name in activated[0]}
    return {**mean, 'heatmap': mean['heatmap'].logit(), 'dim': mean['dim'].log()}

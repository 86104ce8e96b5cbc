"""What a point cloud must be like before it is turned into voxels."""

from __future__ import annotations

import torch
from torch import Tensor


def check_points(points: Tensor, num_features: int, name: str) -> None:
    """See that points have the values a model expects, and that all of them are numbers.

    Args:
        points: points of one sample.
        num_features: values C of a point.
        name: where the points come from, for the message.

    Raises:
        ValueError: the points are no ``[N, C]``, or hold values that are not finite.
    """
    if points.ndim != 2 or points.shape[1] != num_features:
        raise ValueError(
            f'{name}: found points of shape {list(points.shape)}, expected [N, {num_features}]; set load_dim and '
            'use_dim of LoadPointsFromFile to what the file holds'
        )
    strange = ~points.isfinite().all(1)
    if strange.any():
        first = int(torch.nonzero(strange)[0])
        raise ValueError(
            f'{name}: {int(strange.sum())} of {len(points)} points hold values that are not finite, expected numbers; '
            f'the first is point {first}: {points[first].tolist()}. Remove them from the file'
        )

"""What a point cloud must be like before it is turned into voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SIZES = range(3, 9)  # values of a point, of data sets there are
_LEAST_VALUES = 1000  # in fewer, spreads are chance
_MIXED, _APART = 1.5, 3.0  # spreads of wrongly and of rightly read points; of nuScenes and KITTI 1.1 and more than 10


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


def check_point_size(values: np.ndarray, size: int, name: str) -> None:
    """See that values are not read as points of another size, where the number of values fits both.

    Coordinates and intensities spread differently. Read as points of another size, they mix, and all columns spread
    alike: a sweep of nuScenes, five values a point, would silently pass for one of SemanticKITTI.

    Args:
        values: all values of a file, one after another.
        size: values of a point.
        name: of the file, for the message.

    Raises:
        ValueError: these are points of another size.
    """
    if len(values) < _LEAST_VALUES or not _spread(values, size) < _MIXED:
        return
    for other in _SIZES:
        if len(values) % other == 0 and _spread(values, other) > _APART:
            raise ValueError(
                f'points {name}: found points of {other} values each, by how these vary, expected {size}; the file is '
                'of another data set: set load_dim and use_dim to its values per point, or take another config'
            )


def _spread(values: np.ndarray, size: int) -> float:
    """Largest by smallest standard deviation of a column; not a number where values are not."""
    with np.errstate(all='ignore'):
        deviations = values.reshape(-1, size).std(0, dtype=np.float64)
        return float(deviations.max() / deviations.min())

"""Averages over processes."""

from __future__ import annotations

from mmengine.dist import all_reduce
from torch import Tensor


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself stays as it is."""
    mean = value.detach().clone()
    all_reduce(mean, op='mean')
    return mean

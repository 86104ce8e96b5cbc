"""Exact integer keys of voxels: one int64 per voxel, without collisions, so that neighbours are found by bisection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST_KEY = 2**63 - 1


class VoxelKeys(NamedTuple):
    """Keys of a set of voxels.

    Keys sort as the rows (b, x, y, z) of their coordinates do, and the keys of voxels that lie a given offset apart
    differ by the same number everywhere.

    Attributes:
        keys: ``[N]`` int64.
        strides: what one step along b, x, y, z adds to a key.
    """

    keys: Tensor
    strides: tuple[int, int, int, int]

    def steps(self, offsets: Tensor) -> Tensor:
        """What offsets ``[K, 3]`` (dx, dy, dz) add to a key, ``[K]`` int64."""
        return (offsets.long() * torch.tensor(self.strides[1:], device=offsets.device)).sum(1)


def pack_voxels(coors: Tensor, reach: int) -> VoxelKeys:
    """Pack voxel coordinates into keys.

    Args:
        coors: ``[N, 4]`` integers (b, x, y, z), of any sign.
        reach: largest step along an axis that will be added to a key; steps up to it never end in another row or
            sample.

    Raises:
        ValueError: the voxels spread so far that their keys do not fit into 63 bits.
    """
    if not len(coors):
        return VoxelKeys(coors.new_zeros(0, dtype=torch.int64), (0, 0, 0, 0))
    coors = coors.long()
    low, high = torch.stack([coors.amin(0), coors.amax(0)]).tolist()  # the only wait for the device
    extent = [last - first + 1 + 2 * reach for first, last in zip(low, high, strict=True)]
    strides = (extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1)
    if extent[0] * strides[0] > _LARGEST_KEY:
        raise ValueError(
            f'voxel coordinates (b, x, y, z) from {low} to {high}: more cells than 63 bits can number; expected grid '
            f'indices of a scene, check the units of the points and drop stray points before voxelisation'
        )
    shifted = coors - (coors.new_tensor(low) - reach)
    return VoxelKeys((shifted * coors.new_tensor(strides)).sum(1), strides)


class KeyGroups(NamedTuple):
    """Rows with equal keys: N rows in M groups.

    Attributes:
        keys: ``[M]``, ascending.
        group: ``[N]`` group of each row.
        order: ``[N]`` rows by group, those of a group in their own order.
        counts: ``[M]`` rows of each group.
    """

    keys: Tensor
    group: Tensor
    order: Tensor
    counts: Tensor

    @property
    def first(self) -> Tensor:
        """The first row of each group, ``[M]``."""
        return self.order[self.counts.cumsum(0) - self.counts]


def group_keys(keys: Tensor) -> KeyGroups:
    """Find out which of the keys ``[N]`` are equal."""
    sorted_keys, order = keys.sort(stable=True)
    unique, sorted_group, counts = torch.unique_consecutive(sorted_keys, return_inverse=True, return_counts=True)
    group = torch.empty_like(sorted_group)
    group[order] = sorted_group
    return KeyGroups(unique, group, order, counts)


def find_keys(sorted_keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Look keys up in an ascending list.

    Args:
        sorted_keys: ``[M]``, at least one.
        wanted: any shape.

    Returns:
        Position in the list (meaningless where there is no such key) and whether the key is there, both shaped as
        ``wanted``.
    """
    position = torch.searchsorted(sorted_keys, wanted).clamp_(max=len(sorted_keys) - 1)
    return position, sorted_keys[position] == wanted

"""The linear kernel's neighbourhood mean: what every voxel's large neighbourhood holds on average.

LinK (arXiv 2303.16094) divides the grid into blocks of s x s x s voxels; a voxel looks at the r x r x r blocks around
its own. All voxels of a block share their neighbourhood, so that values are summed per block once, block sums are added
up over the neighbouring blocks, and the result is handed to the voxels. The receptive field is (r * s) voxels wide and
its cost does not depend on s.

Both sums are sums over lists of rows, which ``embedding_bag`` does in one pass without a copy of the gathered rows, in
a fixed order on every device. The adjoint is the same operation with the neighbourhoods turned around.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .voxel_keys import find_keys, group_keys, pack_voxels


class RowLists(NamedTuple):
    """Lists of rows, one list per sum.

    Attributes:
        rows: ``[P]`` all lists behind each other.
        starts: ``[M]`` where each list starts. None is empty.
    """

    rows: Tensor
    starts: Tensor


class BlockIndex(NamedTuple):
    """Which voxels share a block, and which blocks see each other: of N voxels in M blocks.

    Attributes:
        block: ``[N]`` block of each voxel.
        members: voxels of each block.
        seen: blocks that each block sees, itself among them.
        seen_by: blocks that see each block; the same lists as ``seen`` where the neighbourhood is symmetric.
        num_seen: ``[M, 1]`` float32, number of voxels in the blocks that each block sees.
    """

    block: Tensor
    members: RowLists
    seen: RowLists
    seen_by: RowLists
    num_seen: Tensor


def neighbour_offsets(num_blocks: int) -> range:
    """Blocks that a voxel sees along an axis, relative to its own: centred for odd numbers, else one more ahead.

    ``2 -> 0..1``, ``3 -> -1..1``, ``4 -> -1..2``, ``5 -> -2..2``.
    """
    return range((-num_blocks) // 2 + 1, num_blocks // 2 + 1)


def build_blocks(coors: Tensor, block_size: int, num_blocks: int) -> BlockIndex:
    """Index a set of voxels once, for all linear kernels that look at it.

    Args:
        coors: ``[N, 4]`` integers (b, x, y, z), in any order and of any sign.
        block_size: edge s of a block in voxels.
        num_blocks: number r of blocks that a voxel sees along each axis, see :func:`neighbour_offsets`.

    Raises:
        ValueError: ``block_size`` or ``num_blocks`` is less than 1, or the coordinates are not ``[N, 4]`` integers.
    """
    if block_size < 1 or num_blocks < 1:
        raise ValueError(f'block_size {block_size} and num_blocks {num_blocks}: expected at least 1 each')
    if coors.ndim != 2 or coors.shape[1] != 4 or coors.is_floating_point():
        raise ValueError(f'voxel coordinates: found {list(coors.shape)} {coors.dtype}, expected [N, 4] integers')
    size = coors.new_tensor([1, block_size, block_size, block_size])
    packed = pack_voxels(coors.div(size, rounding_mode='floor'), reach=num_blocks)
    keys, block, order, counts = group_keys(packed.keys)

    axis = torch.tensor(neighbour_offsets(num_blocks), device=coors.device)
    steps = packed.steps(torch.cartesian_prod(axis, axis, axis).view(-1, 3))
    seen = _neighbours(keys, steps)
    # The mirror image of a centred neighbourhood is itself.
    seen_by = seen if num_blocks % 2 else _neighbours(keys, -steps)
    num_seen = _sum_rows(counts.float()[:, None], seen)
    return BlockIndex(block, RowLists(order, _starts(counts)), seen, seen_by, num_seen)


def neighbourhood_mean(values: Tensor, index: BlockIndex) -> Tensor:
    """Mean of the values of all voxels that a voxel sees, itself included.

    Args:
        values: ``[N, C]``; half precision is summed in float32.
        index: of the N voxels.

    Returns:
        ``[N, C]``, at least float32. Differentiable any number of times, and deterministic on every device.

    Raises:
        ValueError: the index is of another number of voxels.
    """
    if len(values) != len(index.block):
        raise ValueError(f'{len(values)} rows of values for an index of {len(index.block)} voxels; build one for them')
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return _NeighbourhoodMean.apply(values, index, False)


class _NeighbourhoodMean(Function):
    """The mean, or its adjoint: each is the gradient of the other."""

    @staticmethod
    def forward(ctx, values: Tensor, index: BlockIndex, adjoint: bool) -> Tensor:
        ctx.index, ctx.adjoint = index, adjoint
        sums = _sum_rows(values, index.members)  # [M, C]
        if adjoint:
            sums = _sum_rows(sums / index.num_seen, index.seen_by)
        else:
            sums = _sum_rows(sums, index.seen) / index.num_seen
        return sums.index_select(0, index.block)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _NeighbourhoodMean.apply(grad, ctx.index, not ctx.adjoint), None, None


def _neighbours(keys: Tensor, steps: Tensor) -> RowLists:
    """For each block the blocks that lie one of the steps away; ``keys`` ``[M]`` ascending, ``steps`` ``[K]``."""
    position, found = find_keys(keys, keys[:, None] + steps)  # [M, K]
    return RowLists(position[found], _starts(found.sum(1)))


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


def _sum_rows(values: Tensor, lists: RowLists) -> Tensor:
    """``[M, C]``: the sum of the listed rows of ``[N, C]``."""
    if not len(lists.starts):
        return values.new_zeros(0, values.shape[1])
    return F.embedding_bag(lists.rows, values.contiguous(), lists.starts, mode='sum')

"""Sparse convolution in plain PyTorch, in the conventions of torchsparse: gather, multiply, scatter, tap by tap.

A convolution is its kernel ``[taps, Cin, Cout]`` and a :class:`KernelMap`, which says for each tap which input row
meets which output row. Maps depend on the voxels only: they are built once per voxel set and shared by all layers. Of
a tap, no row occurs twice, so that scattering adds in a fixed order on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .voxel_keys import find_keys, group_keys, pack_voxels


class KernelMap(NamedTuple):
    """Pairs of rows that meet in a convolution, ordered by tap.

    Attributes:
        rows_in: ``[P]``.
        rows_out: ``[P]``.
        sizes: number of pairs of each tap.
        num_in: number of input rows.
        num_out: number of output rows.
    """

    rows_in: Tensor
    rows_out: Tensor
    sizes: tuple[int, ...]
    num_in: int
    num_out: int

    def transposed(self) -> KernelMap:
        """The map of the transposed convolution, which leads back to the input's voxels with the same taps."""
        return KernelMap(self.rows_out, self.rows_in, self.sizes, self.num_out, self.num_in)

    def taps(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Tap, input rows and output rows, of every tap with pairs."""
        pairs = zip(self.rows_in.split(self.sizes), self.rows_out.split(self.sizes), strict=True)
        for tap, (rows_in, rows_out) in enumerate(pairs):
            if len(rows_in):
                yield tap, rows_in, rows_out


class Downsampling(NamedTuple):
    """A grid of half the resolution.

    Attributes:
        coors: ``[M, 4]`` (b, x, y, z) of the coarser voxels in units of the coarser grid, in ascending order.
        parent: ``[N]`` coarser voxel that contains each finer one.
        kernel_map: of the 2x2x2 convolution with stride 2.
    """

    coors: Tensor
    parent: Tensor
    kernel_map: KernelMap


def submanifold_map(coors: Tensor) -> KernelMap:
    """The map of a 3x3x3 convolution whose outputs are the input's voxels.

    Tap t is the neighbour at ``(t % 3 - 1, t // 3 % 3 - 1, t // 9 - 1)``: x varies fastest.

    Args:
        coors: ``[N, 4]`` integers (b, x, y, z) in units of the voxels' own grid, in any order.

    Raises:
        ValueError: a voxel occurs twice.
    """
    packed = pack_voxels(coors, reach=1)
    sorted_keys, order = packed.keys.sort()
    _check_unique(sorted_keys, coors, order)
    device = coors.device
    tap = torch.arange(14, 27, device=device)  # those behind the middle; the others mirror them
    offsets = torch.stack([tap % 3 - 1, tap // 3 % 3 - 1, tap // 9 - 1], dim=1)
    position, found = find_keys(sorted_keys, packed.keys + packed.steps(offsets)[:, None])  # [13, N]
    ahead_tap, here = found.nonzero().unbind(1)
    ahead = order[position[ahead_tap, here]]
    middle = torch.arange(len(coors), device=device)
    # Pairs of tap 26 - t are those of tap t with the ends exchanged; a stable sort turns the order of taps around.
    turned = ahead_tap.sort(descending=True, stable=True).indices
    sizes_ahead = found.sum(1).tolist()
    sizes = (*reversed(sizes_ahead), len(coors), *sizes_ahead)
    rows_in = torch.cat([here[turned], middle, ahead])
    rows_out = torch.cat([ahead[turned], middle, here])
    return KernelMap(rows_in, rows_out, sizes, len(coors), len(coors))


def downsample(coors: Tensor) -> Downsampling:
    """The voxels of half the resolution and the map of the convolution that leads there.

    Tap t of the 2x2x2 kernel is the offset ``(t // 4, t // 2 % 2, t % 2)``: z varies fastest.

    Args:
        coors: ``[N, 4]`` integers (b, x, y, z) in units of the finer grid, in any order.
    """
    coarse = coors.div(coors.new_tensor([1, 2, 2, 2]), rounding_mode='floor')
    cells = group_keys(pack_voxels(coarse, reach=0).keys)
    tap = (coors.remainder(2)[:, 1:] * coors.new_tensor([4, 2, 1])).sum(1)
    by_tap = tap.sort(stable=True).indices
    sizes = tuple(torch.bincount(tap, minlength=8).tolist())
    kernel_map = KernelMap(by_tap, cells.group[by_tap], sizes, len(coors), len(cells.keys))
    return Downsampling(coarse[cells.first], cells.group, kernel_map)


def sparse_conv(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve sparse features.

    Args:
        feats: ``[N, Cin]``.
        kernel: ``[taps, Cin, Cout]``.
        kernel_map: of the N input rows, with as many taps.

    Returns:
        ``[M, Cout]``. Products are taken in the features' precision, or in that of autocast, and summed at least in
        float32.

    Raises:
        ValueError: features, kernel and map do not belong together.
    """
    if feats.shape != (kernel_map.num_in, kernel.shape[1]) or len(kernel) != len(kernel_map.sizes):
        raise ValueError(
            f'sparse convolution: features {list(feats.shape)} and kernel {list(kernel.shape)} for a map of '
            f"{kernel_map.num_in} rows and {len(kernel_map.sizes)} taps; build the map from the features' own voxels"
        )
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    return _SparseConv.apply(feats, kernel, kernel_map)


class _SparseConv(Function):
    """Gathered rows are taken anew in the backward pass instead of being kept, as they are many times the features."""

    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        out = _zeros(kernel_map.num_out, kernel.shape[2], feats)
        for tap, rows_in, rows_out in kernel_map.taps():
            out.index_add_(0, rows_out, (feats[rows_in] @ kernel[tap]).to(out.dtype))
        return out.to(feats.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        feats, kernel = ctx.saved_tensors
        needs_feats, needs_kernel, _ = ctx.needs_input_grad
        grad_feats = _zeros(feats.shape[0], feats.shape[1], feats) if needs_feats else None
        grad_kernel = torch.zeros_like(kernel) if needs_kernel else None
        for tap, rows_in, rows_out in ctx.kernel_map.taps():
            grad_rows = grad[rows_out]
            if grad_feats is not None:
                grad_feats.index_add_(0, rows_in, (grad_rows @ kernel[tap].T).to(grad_feats.dtype))
            if grad_kernel is not None:
                grad_kernel[tap] = feats[rows_in].T @ grad_rows
        return None if grad_feats is None else grad_feats.to(feats.dtype), grad_kernel, None


def _zeros(rows: int, channels: int, like: Tensor) -> Tensor:
    return like.new_zeros(rows, channels, dtype=torch.promote_types(like.dtype, torch.float32))


def _check_unique(sorted_keys: Tensor, coors: Tensor, order: Tensor) -> None:
    same = sorted_keys[1:] == sorted_keys[:-1]
    if same.any():
        voxel = coors[order[same.int().argmax()]].tolist()
        raise ValueError(
            f'voxel (b, x, y, z) = {voxel} occurs more than once, expected one row per voxel; voxelise the points first'
        )

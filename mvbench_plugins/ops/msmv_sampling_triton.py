"""Triton kernels of multi-scale multi-view sampling, see ``msmv_sampling``; imported only where they run.

A program holds a tile of points times all channels of a group, so that a cell is read as one contiguous row and nothing
but the result is written. Each kernel works out the corners anew, which is cheaper than to store and load them.
Coordinates and accumulation are float32, addresses 64 bit: the table of a large model exceeds 2^31 elements.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048  # elements of one corner's rows in a program: 16 per thread


def sample(value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]) -> Tensor:
    """The forward pass: ``[B, Q, G, T, P, C / G]`` in float32."""
    out = points.new_empty(*view_ids.shape, value.shape[-1])
    _launch(_sample_kernel, (out, value), value, points, view_ids, level_weights, sizes)
    return out


def grad_value(
    grad: Tensor, value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]
) -> Tensor:
    """Gradient of the features, summed by atomic additions: the order, and so the last bits, vary from run to run."""
    out = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    _launch(_grad_value_kernel, (out, grad.contiguous()), value, points, view_ids, level_weights, sizes)
    return out.to(value.dtype)


def grad_points(
    grad: Tensor, value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """Gradients of the points and of the level weights."""
    out = torch.empty_like(points, memory_format=torch.contiguous_format)
    out_weights = torch.empty_like(level_weights, memory_format=torch.contiguous_format)
    own = (out, out_weights, grad.contiguous(), value)
    _launch(_grad_points_kernel, own, value, points, view_ids, level_weights, sizes)
    return out, out_weights


def _launch(kernel, own, value, points, view_ids, level_weights, sizes) -> None:
    """Run a kernel over all points; ``own`` are the arguments that only it has."""
    num_points = view_ids.numel()
    if not num_points:
        return
    _, frames, views, cells, groups, channels = value.shape
    starts = [sum(h * w for h, w in zip(sizes[:i:2], sizes[1:i:2])) for i in range(0, len(sizes), 2)]
    block_c = triton.next_power_of_2(channels)
    block_m = max(1, TILE // block_c)
    # The current device decides where triton launches, not the tensors.
    with torch.cuda.device_of(value):
        kernel[(triton.cdiv(num_points, block_m),)](
            *own,
            points.contiguous(),
            view_ids.contiguous(),
            level_weights.contiguous(),
            num_points,
            view_ids.shape[1],
            AXES=(frames, view_ids.shape[4], views, groups, cells),
            HEIGHTS=tuple(sizes[::2]),
            WIDTHS=tuple(sizes[1::2]),
            STARTS=tuple(starts),
            C=channels,
            BLOCK_M=block_m,
            BLOCK_C=block_c,
        )


# Sizes of the maps and of all axes but batch and queries are compile-time constants: divisions by them are cheap, loops
# over levels unroll, and they are the same in every step. Numbers of queries change with denoising and are not.
_RUN_TIME = ['num_points', 'num_queries']


@triton.jit
def _locate(points, view_ids, m, num_points, num_queries, AXES: tl.constexpr):
    """Of points m: (u, v), whether their view exists, and the first row of their image and group in the table."""
    T: tl.constexpr = AXES[0]
    P: tl.constexpr = AXES[1]
    N: tl.constexpr = AXES[2]
    G: tl.constexpr = AXES[3]
    CELLS: tl.constexpr = AXES[4]
    inside = m < num_points
    at = m.to(tl.int64)
    u = tl.load(points + at * 2, mask=inside, other=0.0)
    v = tl.load(points + at * 2 + 1, mask=inside, other=0.0)
    view = tl.load(view_ids + at, mask=inside, other=-1).to(tl.int64)
    frame = m // P % T
    group = m // (P * T) % G
    batch = m // (P * T * G) // num_queries
    return u, v, (view >= 0) & (view < N), ((batch * T + frame) * N + view) * (CELLS * G) + group


@triton.jit
def _axis(coordinate, exists, SIZE: tl.constexpr):
    """Along one axis, of the two cells around coordinates: index of the first, bilinear shares, and whether they count.

    The shares of cells that do not count are not zero: their rows are not read.
    """
    position = coordinate * (SIZE - 1)
    # Also false for what is not finite: no such number becomes an index.
    near = exists & (position > -1) & (position < SIZE)
    position = tl.where(near, position, 0.0)
    low = tl.floor(position)
    above = position - low
    return low.to(tl.int32), (1 - above, above), (near & (low >= 0), near & (low + 1 < SIZE))


@triton.jit
def _row(table, first_row, cell, counts, G: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Where the feature row of a cell lies ``[BLOCK_M, BLOCK_C]``, and which of its elements there are."""
    channel = tl.arange(0, BLOCK_C)
    start = (first_row + cell * G) * C
    return table + (start[:, None] + channel[None, :]), counts[:, None] & (channel < C)[None, :]


@triton.jit(do_not_specialize=_RUN_TIME)
def _sample_kernel(
    out,
    value,
    points,
    view_ids,
    level_weights,
    num_points,
    num_queries,
    AXES: tl.constexpr,
    HEIGHTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    STARTS: tl.constexpr,
    C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    L: tl.constexpr = len(STARTS)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    u, v, exists, first_row = _locate(points, view_ids, m, num_points, num_queries, AXES)
    total = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    for level in tl.static_range(L):
        weight = tl.load(level_weights + m.to(tl.int64) * L + level, mask=exists, other=0.0)
        x, share_x, counts_x = _axis(u, exists, WIDTHS[level])
        y, share_y, counts_y = _axis(v, exists, HEIGHTS[level])
        for dy in tl.static_range(2):
            for dx in tl.static_range(2):
                cell = STARTS[level] + (y + dy) * WIDTHS[level] + x + dx
                row, mask = _row(value, first_row, cell, counts_y[dy] & counts_x[dx], AXES[3], C, BLOCK_C)
                share = share_y[dy] * share_x[dx] * weight
                total += share[:, None] * tl.load(row, mask=mask, other=0.0).to(tl.float32)
    row, mask = _row(out, m.to(tl.int64), 0, m < num_points, 1, C, BLOCK_C)
    tl.store(row, total, mask=mask)


@triton.jit(do_not_specialize=_RUN_TIME)
def _grad_value_kernel(
    out,
    grad,
    points,
    view_ids,
    level_weights,
    num_points,
    num_queries,
    AXES: tl.constexpr,
    HEIGHTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    STARTS: tl.constexpr,
    C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    L: tl.constexpr = len(STARTS)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    u, v, exists, first_row = _locate(points, view_ids, m, num_points, num_queries, AXES)
    row, mask = _row(grad, m.to(tl.int64), 0, m < num_points, 1, C, BLOCK_C)
    incoming = tl.load(row, mask=mask, other=0.0)
    for level in tl.static_range(L):
        weight = tl.load(level_weights + m.to(tl.int64) * L + level, mask=exists, other=0.0)
        x, share_x, counts_x = _axis(u, exists, WIDTHS[level])
        y, share_y, counts_y = _axis(v, exists, HEIGHTS[level])
        for dy in tl.static_range(2):
            for dx in tl.static_range(2):
                cell = STARTS[level] + (y + dy) * WIDTHS[level] + x + dx
                row, mask = _row(out, first_row, cell, counts_y[dy] & counts_x[dx], AXES[3], C, BLOCK_C)
                share = share_y[dy] * share_x[dx] * weight
                tl.atomic_add(row, share[:, None] * incoming, mask=mask, sem='relaxed')


@triton.jit(do_not_specialize=_RUN_TIME)
def _grad_points_kernel(
    out,
    out_weights,
    grad,
    value,
    points,
    view_ids,
    level_weights,
    num_points,
    num_queries,
    AXES: tl.constexpr,
    HEIGHTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    STARTS: tl.constexpr,
    C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    L: tl.constexpr = len(STARTS)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    at = m.to(tl.int64)
    inside = m < num_points
    u, v, exists, first_row = _locate(points, view_ids, m, num_points, num_queries, AXES)
    row, mask = _row(grad, at, 0, inside, 1, C, BLOCK_C)
    incoming = tl.load(row, mask=mask, other=0.0)
    grad_u = tl.zeros([BLOCK_M], tl.float32)
    grad_v = tl.zeros([BLOCK_M], tl.float32)
    for level in tl.static_range(L):
        weight = tl.load(level_weights + at * L + level, mask=exists, other=0.0)
        x, share_x, counts_x = _axis(u, exists, WIDTHS[level])
        y, share_y, counts_y = _axis(v, exists, HEIGHTS[level])
        grad_weight = tl.zeros([BLOCK_M], tl.float32)
        for dy in tl.static_range(2):
            for dx in tl.static_range(2):
                cell = STARTS[level] + (y + dy) * WIDTHS[level] + x + dx
                row, mask = _row(value, first_row, cell, counts_y[dy] & counts_x[dx], AXES[3], C, BLOCK_C)
                # Of this cell on the loss.
                effect = tl.sum(tl.load(row, mask=mask, other=0.0).to(tl.float32) * incoming, axis=1)
                grad_weight += effect * share_y[dy] * share_x[dx]
                grad_u += effect * weight * share_y[dy] * (2 * dx - 1) * (WIDTHS[level] - 1)
                grad_v += effect * weight * share_x[dx] * (2 * dy - 1) * (HEIGHTS[level] - 1)
        tl.store(out_weights + at * L + level, grad_weight, mask=inside)
    tl.store(out + at * 2, grad_u, mask=inside)
    tl.store(out + at * 2 + 1, grad_v, mask=inside)

"""Multi-scale multi-view sampling: points of a 3D scene look up image features of the camera that sees them.

SparseBEV, arXiv 2308.09244, section 3.3. A point has a place in one view of one frame and takes a bilinear sample from
each level of that view's pyramid; its level weights say how much of each. The maps are laid out once per image batch
(:func:`flatten_views`) and then read in place by every decoder layer. ``torch.compile`` sees one operator,
``mvbench::msmv_sampling``. It runs the Triton kernels of ``msmv_sampling_triton`` for CUDA tensors where triton is
installed, and the plain PyTorch definition at the end of this file everywhere else.

The gradient of the features adds many points into one cell. Under ``torch.use_deterministic_algorithms``, the switch
that mmengine's ``randomness=dict(deterministic=True)`` sets, CUDA too computes it by the definition, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class FlatViews(NamedTuple):
    """The feature pyramids of all views of all frames as one table of group-wise feature rows.

    Frames and images are whole blocks of the table: tables of single frames may be concatenated along T.

    Attributes:
        value: ``[B, T, N, S, G, C / G]`` of B samples, T frames, N views; S = sum(H_l * W_l), levels in order, cells
            of a level in raster order.
        shapes: ``(H_l, W_l)`` per level.
    """

    value: Tensor
    shapes: tuple[tuple[int, int], ...]


def flatten_views(feats: Sequence[Tensor], num_views: int, num_groups: int) -> FlatViews:
    """Lay the maps of all levels out for :func:`msmv_sampling`: one copy, a plain one if they are channels-last.

    Args:
        feats: per level ``[B, T * N, C, H_l, W_l]``, the views of a frame next to each other.
        num_views: N, views per frame.
        num_groups: G; group g holds the g-th contiguous channel block.

    Raises:
        ValueError: the levels disagree, or the images or channels do not divide into views or groups.
    """
    # compared, not hashed: under a tracer sizes are tensors
    if feats[0].ndim != 5 or any(feat.shape[:-2] != feats[0].shape[:-2] for feat in feats):
        raise ValueError(
            f'feats has levels of shape {[tuple(feat.shape) for feat in feats]}, expected [B, T * N, C, H_l, W_l] '
            'with the same B, T * N and C in all levels'
        )
    _, num_images, channels = feats[0].shape[:3]
    if num_images % num_views or channels % num_groups:
        raise ValueError(
            f'feats has {num_images} images and {channels} channels per sample, which do not divide into frames of '
            f'num_views={num_views} images and num_groups={num_groups} groups'
        )
    rows = torch.cat([feat.flatten(3).transpose(2, 3) for feat in feats], dim=2)  # [B, T * N, S, C]
    shapes = tuple((feat.shape[-2], feat.shape[-1]) for feat in feats)
    return FlatViews(rows.unflatten(1, (-1, num_views)).unflatten(-1, (num_groups, -1)), shapes)


def msmv_sampling(views: FlatViews, points: Tensor, view_ids: Tensor, level_weights: Tensor) -> Tensor:
    """Bilinear samples of every level of one view per point, weighted and summed over the levels.

    Coordinates (u, v) are relative: 0 and 1 are the *centres* of the first and last cell of every level (x = u * (W_l
    - 1), as ``grid_sample`` with ``align_corners=True``). Cells outside a map count as zero, and so does a level in
    which the point is one cell or more outside, a view that does not exist, and a coordinate that is not finite.

    Args:
        views: the flattened pyramids with G groups. float32, float16, bfloat16, or float64.
        points: ``[B, Q, G, T, P, 2]`` as (u, v): P points per query, group and frame.
        view_ids: the view that each point looks up, integer ``[B, Q, G, T, P]``. The published operator takes it as a
            third coordinate ``view / (N - 1)`` and rounds; like there, it has no gradient.
        level_weights: ``[B, Q, G, T, P, L]``. This and ``points`` are float32 (float64 with float64 features), whatever
            the features are: half precision cannot tell neighbouring cells of a large map apart.

    Returns:
        ``[B, Q, G, T, P, C / G]`` in the dtype of ``points``, in which it is also accumulated. Differentiable (once) in
        the features, the points and the level weights. No host-device synchronisation.

    Raises:
        ValueError: shapes that disagree, or tensors on different devices.
        TypeError: a dtype other than those above.
    """
    _check(views, points, view_ids, level_weights)
    sizes = [size for shape in views.shapes for size in shape]
    return _msmv_sampling(views.value, points, view_ids, level_weights, sizes)


def _check(views: FlatViews, points: Tensor, view_ids: Tensor, level_weights: Tensor) -> None:
    value = views.value
    cells = sum(h * w for h, w in views.shapes)
    if value.dim() != 6 or value.shape[3] != cells or not value.is_contiguous():
        raise ValueError(
            f'views.value has shape {tuple(value.shape)} and strides {value.stride()}, expected a contiguous '
            f'[B, T, N, {cells}, G, C / G] for levels {views.shapes}; build it with flatten_views'
        )
    batch, frames, _, _, groups, _ = value.shape
    queries, num_points = (points.shape[1], points.shape[4]) if points.dim() == 6 else ('Q', 'P')
    leading = (batch, queries, groups, frames, num_points)
    expected = {
        'points': (points, (*leading, 2)),
        'view_ids': (view_ids, leading),
        'level_weights': (level_weights, (*leading, len(views.shapes))),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f'{name} has shape {tuple(tensor.shape)}, expected [{", ".join(map(str, shape))}] for features of '
                f'{batch} samples, {groups} groups, {frames} frames and {len(views.shapes)} levels'
            )
        if tensor.device != value.device:
            raise ValueError(f'{name} is on {tensor.device}, expected {value.device} where the features are')
    if value.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        raise TypeError(f'views.value is {value.dtype}, expected float32, float16, bfloat16 or float64 features')
    if view_ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f'view_ids is {view_ids.dtype}, expected int64 or int32 indices of views')
    wanted = _accumulation(value)
    for name in ('points', 'level_weights'):
        if (found := expected[name][0].dtype) != wanted:
            raise TypeError(
                f'{name} is {found}, expected {wanted} with {value.dtype} features; compute sampling points and level '
                'weights outside autocast'
            )


def _accumulation(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


# --- The operator: forward and the two halves of its backward, each by Triton or by the definition. `sizes` is
# [H_0, W_0, H_1, W_1, ...], since an operator's arguments cannot be nested.


@torch.library.custom_op('mvbench::msmv_sampling', mutates_args=())
def _msmv_sampling(value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]) -> Tensor:
    return (_kernels(value) or _Definition).sample(value, points, view_ids, level_weights, sizes)


@torch.library.custom_op('mvbench::msmv_sampling_grad_value', mutates_args=())
def _grad_value(
    grad: Tensor, value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]
) -> Tensor:
    kernels = None if torch.are_deterministic_algorithms_enabled() else _kernels(value)
    return (kernels or _Definition).grad_value(grad, value, points, view_ids, level_weights, sizes)


@torch.library.custom_op('mvbench::msmv_sampling_grad_points', mutates_args=())
def _grad_points(
    grad: Tensor, value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    return (_kernels(value) or _Definition).grad_points(grad, value, points, view_ids, level_weights, sizes)


@_msmv_sampling.register_fake
def _(value, points, view_ids, level_weights, sizes):
    return points.new_empty(*points.shape[:-1], value.shape[-1])


@_grad_value.register_fake
def _(grad, value, points, view_ids, level_weights, sizes):
    return value.new_empty(value.shape)


@_grad_points.register_fake
def _(grad, value, points, view_ids, level_weights, sizes):
    return points.new_empty(points.shape), level_weights.new_empty(level_weights.shape)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.sizes = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    args = (grad, *ctx.saved_tensors, ctx.sizes)
    need_value, need_points, _, need_weights, _ = ctx.needs_input_grad
    grad_value = _grad_value(*args) if need_value else None
    grad_points, grad_weights = _grad_points(*args) if need_points or need_weights else (None, None)
    return grad_value, grad_points, None, grad_weights, None


_msmv_sampling.register_autograd(_backward, setup_context=_setup_context)


def _kernels(value: Tensor) -> ModuleType | None:
    """The Triton kernels, where they can run; float64 is for checking gradients, not for speed."""
    if not value.is_cuda or value.dtype == torch.float64 or not _has_triton():
        return None
    from mvbench_plugins.ops import msmv_sampling_triton

    return msmv_sampling_triton


@cache
def _has_triton() -> bool:
    return find_spec('triton') is not None


class _Corners(NamedTuple):
    """The four cells around M points in each of L levels.

    Attributes:
        rows: ``[M, L * 4]`` rows of the feature table, by (level, y, x).
        share_x, share_y: bilinear weights ``[M, L, 1, 2]`` and ``[M, L, 2, 1]``; 0 for cells that do not count.
        slope_x, slope_y: their derivatives by u and v.
        level_weights: ``[M, L, 1, 1]``.
    """

    rows: Tensor
    share_x: Tensor
    share_y: Tensor
    slope_x: Tensor
    slope_y: Tensor
    level_weights: Tensor

    def weights(self) -> Tensor:
        """What each cell counts ``[M, L * 4]``."""
        return (self.share_y * self.share_x * self.level_weights).flatten(1)


def _corners(value: Tensor, points: Tensor, view_ids: Tensor, level_weights: Tensor, sizes: list[int]) -> _Corners:
    batch, frames, num_views, cells, groups, _ = value.shape
    sample = torch.arange(batch, device=value.device).view(-1, 1, 1, 1, 1)
    group = torch.arange(groups, device=value.device).view(-1, 1, 1)
    frame = torch.arange(frames, device=value.device).view(-1, 1)
    exists = (view_ids >= 0) & (view_ids < num_views)
    image = (sample * frames + frame) * num_views + torch.where(exists, view_ids, 0)
    first_row = (image * (cells * groups) + group).reshape(-1, 1, 1, 1)

    heights, widths = _constant(sizes[::2], first_row), _constant(sizes[1::2], first_row)  # [L]
    exists = exists.reshape(-1, 1)
    x, share_x, slope_x = _axis(points[..., 0].reshape(-1, 1), exists, widths)
    y, share_y, slope_y = _axis(points[..., 1].reshape(-1, 1), exists, heights)
    starts = (heights * widths).cumsum(0) - heights * widths
    in_image = y[..., :, None] * widths[:, None, None] + x[..., None, :] + starts[:, None, None]
    return _Corners(
        (first_row + in_image * groups).flatten(1),
        share_x[..., None, :],
        share_y[..., :, None],
        slope_x[..., None, :],
        slope_y[..., :, None],
        level_weights.reshape(-1, len(heights), 1, 1),
    )


def _axis(coordinate: Tensor, exists: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, of the two cells around M points in L levels: index, share, slope of the share ``[M, L, 2]``."""
    position = coordinate * (size - 1)
    low = position.floor()
    above = position - low
    # Exactly one cell outside, the share is zero already, but its slope would not be.
    near = exists & (position > -1) & (position < size)
    counts = torch.stack([near & (low >= 0), near & (low + 1 < size)], dim=-1)
    shares = torch.where(counts, torch.stack([1 - above, above], dim=-1), 0)
    slopes = counts * torch.stack([1 - size, size - 1], dim=-1).to(low)
    # Select as floats: a diverged query may hold coordinates that no integer can.
    return torch.where(counts, torch.stack([low, low + 1], dim=-1), 0).long(), shares, slopes


def _constant(numbers: list[int], like: Tensor) -> Tensor:
    """Numbers on the device of ``like``. They are filled in there: copying a list to a GPU would wait for the GPU."""
    return torch.stack([like.new_full((), number) for number in numbers])


class _Definition:
    """The definition: look the cells around every point up, weight them, add them up."""

    @staticmethod
    def sample(value, points, view_ids, level_weights, sizes) -> Tensor:
        at = _corners(value, points, view_ids, level_weights, sizes)
        # Of all ways to add up rows, the one that stores none of them; it wants one dtype, so halves are widened first.
        table = value.flatten(0, 4).to(points.dtype)
        out = F.embedding_bag(at.rows, table, mode='sum', per_sample_weights=at.weights())
        return out.view(*view_ids.shape, value.shape[-1])

    @staticmethod
    def grad_value(grad, value, points, view_ids, level_weights, sizes) -> Tensor:
        at = _corners(value, points, view_ids, level_weights, sizes)
        grad = grad.reshape(view_ids.numel(), 1, value.shape[-1])
        table = torch.zeros(value.shape, dtype=grad.dtype, device=value.device).flatten(0, 4)
        for rows, weights, incoming in _blocks(at.rows, at.weights(), grad):
            table.index_add_(0, rows.flatten(), (weights[..., None] * incoming).flatten(0, 1))
        return table.view(value.shape).to(value.dtype)

    @staticmethod
    def grad_points(grad, value, points, view_ids, level_weights, sizes) -> tuple[Tensor, Tensor]:
        at = _corners(value, points, view_ids, level_weights, sizes)
        grad = grad.reshape(view_ids.numel(), value.shape[-1], 1)
        table = value.flatten(0, 4)
        effect = grad.new_empty(*at.rows.shape, 1)  # of every cell on the loss
        for rows, incoming, out in _blocks(at.rows, grad, effect):
            found = table.index_select(0, rows.flatten()).to(grad.dtype)
            torch.bmm(found.unflatten(0, rows.shape), incoming, out=out)
        effect = effect.view(*at.level_weights.shape[:2], 2, 2)
        grad_weights = (effect * at.share_y * at.share_x).sum((2, 3))
        effect *= at.level_weights
        grad_u = (effect * at.share_y * at.slope_x).sum((1, 2, 3))
        grad_v = (effect * at.slope_y * at.share_x).sum((1, 2, 3))
        return torch.stack([grad_u, grad_v], dim=-1).view(points.shape), grad_weights.view(level_weights.shape)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Blocks of points whose feature rows stay in a CPU's cache; a GPU takes all points at once."""
    size = 4096 if tensors[0].device.type == 'cpu' else max(1, len(tensors[0]))
    return zip(*(tensor.split(size) for tensor in tensors))

"""The paths of the sampling operator agree with its definition, forward and backward."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mvbench_plugins.ops import pyramid_sampling as op

GROUPS, STRIDES = 2, (4, 8)


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[op.FlatPyramid, Tensor, Tensor]:
    torch.manual_seed(0)
    # 33 x 50 pixels: neither size is a multiple of the strides.
    feats = [torch.randn(2, 6, 9, 13, dtype=dtype), torch.randn(2, 6, 5, 7, dtype=dtype)]
    points = torch.rand(2, 5, GROUPS, 3, 2, dtype=dtype) * torch.tensor([70.0, 50.0], dtype=dtype) - 10
    weights = torch.randn(2, 5, GROUPS, 3, len(STRIDES), dtype=dtype).softmax(-1)
    return op.flatten_pyramid(feats, STRIDES, GROUPS), points, weights


def _by_hand(pyramid: op.FlatPyramid, points: Tensor, weights: Tensor) -> Tensor:
    """Bilinear interpolation spelled out for every point."""
    out = torch.zeros(*points.shape[:-1], pyramid.value.shape[-1], dtype=points.dtype)
    start = 0
    for level, ((h, w), stride) in enumerate(zip(pyramid.shapes, STRIDES, strict=True)):
        for b, n, g, p in torch.cartesian_prod(*(torch.arange(size) for size in points.shape[:-1])).tolist():
            x, y = (points[b, n, g, p] / stride - 0.5).tolist()
            for col in (int(x // 1), int(x // 1) + 1):
                for row in (int(y // 1), int(y // 1) + 1):
                    if 0 <= col < w and 0 <= row < h:
                        share = (1 - abs(x - col)) * (1 - abs(y - row)) * weights[b, n, g, p, level]
                        out[b, n, g, p] += share * pyramid.value[b, start + row * w + col, g]
        start += h * w
    return out


def test_definition_is_bilinear_interpolation():
    args = _inputs(torch.float64)
    torch.testing.assert_close(op._sample_grid(*args), _by_hand(*args))


def test_gather_equals_definition():
    args = _inputs()
    torch.testing.assert_close(op._sample_gather(*args), op._sample_grid(*args))


def test_deformable_arguments_equal_definition():
    """The CUDA kernel's arguments, run through mmcv's own PyTorch definition of that kernel."""
    pyramid, points, weights = _inputs()
    locations, level_weights = op._deformable_arguments(pyramid, points, weights)
    shapes = torch.tensor(pyramid.shapes)
    sampled = multi_scale_deformable_attn_pytorch(pyramid.value, shapes, locations, level_weights)
    sampled = sampled.view(2, 5, 3, GROUPS, -1).transpose(2, 3)
    torch.testing.assert_close(sampled, op._sample_grid(pyramid, points, weights))


def test_gradients_of_value_points_and_weights():
    pyramid, points, weights = _inputs(torch.float64)
    args = [x.requires_grad_() for x in (pyramid.value, points, weights)]
    assert torch.autograd.gradcheck(lambda v, p, w: op.sample_pyramid(pyramid._replace(value=v), p, w), args)


@pytest.mark.parametrize('far', [1e30, float('inf')])
def test_points_out_of_reach_are_zero(far):
    """A diverged query must not read out of bounds."""
    pyramid, points, weights = _inputs()
    assert op.sample_pyramid(pyramid, torch.full_like(points, far), weights).abs().max() == 0


def test_groups_read_their_own_channel_block():
    feats = [torch.arange(4.0).repeat_interleave(1).view(1, 4, 1, 1).expand(1, 4, 3, 3)]
    pyramid = op.flatten_pyramid(feats, (4,), 2)
    centre = torch.full((1, 1, 2, 1, 2), 6.0)
    sampled = op.sample_pyramid(pyramid, centre, torch.ones(1, 1, 2, 1, 1))
    assert sampled.flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('path', [op._sample_gather, op._sample_grid, op._deformable_arguments])
def test_nothing_comes_from_the_host(path):
    """On a GPU each number that does makes the host wait for the device, in every decoder layer."""

    class FromHost(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen += func is torch.ops.aten.lift_fresh.default
            return func(*args, **(kwargs or {}))

    args = _inputs()
    with FromHost() as mode:
        path(*args)
        assert mode.seen == 0
        torch.tensor([1.0])
        assert mode.seen == 1

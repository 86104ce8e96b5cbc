"""Multi-scale multi-view sampling: the definition, its gradients, the operator that compilers see, the kernels."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import load_case
from torch import Tensor

from mvbench_plugins.ops import msmv_sampling as op

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'sparsebev'
SAMPLES, FRAMES, VIEWS, GROUPS, CHANNELS, QUERIES = 2, 2, 3, 2, 3, 3
SHAPES = [(5, 7), (3, 4), (2, 2), (1, 3), (1, 1)]


def _inputs(levels: int = 2, num_points: int = 2, dtype: torch.dtype = torch.float32, device: str = 'cpu'):
    torch.manual_seed(0)
    shapes = SHAPES[:levels]
    feats = [torch.randn(SAMPLES, FRAMES * VIEWS, GROUPS * CHANNELS, h, w, dtype=dtype) for h, w in shapes]
    leading = (SAMPLES, QUERIES, GROUPS, FRAMES, num_points)
    points = torch.rand(*leading, 2, dtype=dtype) * 1.8 - 0.4  # also beyond the border, near and far
    view_ids = torch.randint(0, VIEWS, leading)
    weights = torch.randn(*leading, levels, dtype=dtype).softmax(-1)
    return [x.to(device) for x in feats], points.to(device), view_ids.to(device), weights.to(device)


def _sample(feats: list[Tensor], points: Tensor, view_ids: Tensor, weights: Tensor) -> Tensor:
    return op.msmv_sampling(op.flatten_views(feats, VIEWS, GROUPS), points, view_ids, weights)


def _by_hand(feats: list[Tensor], points: Tensor, view_ids: Tensor, weights: Tensor) -> Tensor:
    """Bilinear interpolation of the original maps spelled out for every point."""
    out = torch.zeros(*view_ids.shape, CHANNELS, dtype=points.dtype)
    for b, q, g, t, p in torch.cartesian_prod(*(torch.arange(size) for size in view_ids.shape)).tolist():
        at = (b, q, g, t, p)
        for level, feat in enumerate(feats):
            feat = feat[b, t * VIEWS + view_ids[at], g * CHANNELS : (g + 1) * CHANNELS]
            height, width = feat.shape[-2:]
            x, y = points[at][0].item() * (width - 1), points[at][1].item() * (height - 1)
            for row in (math.floor(y), math.floor(y) + 1):
                for col in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= col < width:
                        out[at] += (1 - abs(x - col)) * (1 - abs(y - row)) * weights[at][level] * feat[:, row, col]
    return out


@pytest.mark.parametrize('levels', [1, 2, 3, 4, 5])
def test_definition_is_bilinear_interpolation(levels):
    inputs = _inputs(levels, num_points=levels % 3 + 1, dtype=torch.float64)
    torch.testing.assert_close(_sample(*inputs), _by_hand(*inputs))


def test_points_on_and_around_the_border():
    """0 and 1 are the centres of the outermost cells; from there the value fades to zero within one cell."""
    feat = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]]).view(1, 1, 1, 2, 5)
    expected = {(0, 0): 1, (1, 0): 5, (0, 1): 6, (1, 1): 10, (0.5, 0.5): 5.5, (0.125, 0): 1.5}
    expected |= {(-0.125, 0): 0.5, (-0.25, 0): 0, (1.125, 1): 5, (1.25, 1): 0, (0, -0.5): 0.5, (1, 2): 0, (-3, 0.5): 0}
    points = torch.tensor(list(expected), dtype=torch.float32).view(1, -1, 1, 1, 1, 2).requires_grad_()
    view_ids = torch.zeros(points.shape[:-1], dtype=torch.int32)
    found = op.msmv_sampling(op.flatten_views([feat], 1, 1), points, view_ids, torch.ones(*view_ids.shape, 1))
    assert found.flatten().tolist() == list(expected.values())
    found.sum().backward()
    slopes = dict(zip(expected, points.grad.view(-1, 2).tolist(), strict=True))
    assert slopes[0.125, 0] == [4, 5] and slopes[-0.125, 0] == [4, 2.5]
    # One cell outside is out of reach for the published kernel, while grid_sample still pulls from one side.
    assert slopes[-0.25, 0] == [0, 0] and slopes[1.25, 1] == [0, 0]


def test_recorded_case():
    """Outputs and gradients of the published CUDA operator, whose batch is (sample, frame, group) in one."""
    case = load_case(CASES / 'op_msmv_sampling')
    inputs = case.inputs()
    feats = [inputs[f'feat_{level}'].transpose(1, 2).requires_grad_() for level in range(4)]  # [K, N, c, H, W]
    locations = inputs['sampling_locations'][:, :, None, None]  # [K, Q, 1, 1, P, 3]
    points = locations[..., :2].clone().requires_grad_()
    weights = inputs['scale_logits'].softmax(-1)[:, :, None, None].requires_grad_()
    view_ids = (locations[..., 2] * 5).round().long()
    output = op.msmv_sampling(op.flatten_views(feats, 6, 1), points, view_ids, weights)[:, :, 0, 0].transpose(2, 3)
    (output * inputs['grad_output']).sum().backward()
    got = {
        'output': output,
        'grad_locations_xy': points.grad[:, :, 0, 0],
        'grad_scale_weights': weights.grad[:, :, 0, 0],
        **{f'grad_feat_{level}': feat.grad.transpose(1, 2) for level, feat in enumerate(feats)},
    }
    comparison = case.compare(got)
    assert comparison.compared == 7 and not comparison.failed, '\n'.join(comparison.rows)


def test_gradients_of_features_points_and_weights():
    feats, points, view_ids, weights = _inputs(levels=3, dtype=torch.float64)
    args = [x.requires_grad_() for x in (*feats[1:], points, weights[..., 1:])]  # without the largest map, for speed
    assert torch.autograd.gradcheck(lambda *a: _sample(list(a[:-2]), a[-2], view_ids, a[-1]), args)


def test_gradients_do_not_depend_on_which_others_are_asked_for():
    """The features' gradient, the costly one, is left out where the backbone is frozen."""
    feats, points, view_ids, weights = _inputs()
    args = [x.requires_grad_() for x in (feats[0], points, weights)]
    together = torch.autograd.grad(_sample(feats, points, view_ids, weights).square().sum(), args)
    for wanted, expected in zip(args, together, strict=True):
        for arg in args:
            arg.requires_grad_(arg is wanted)
        (alone,) = torch.autograd.grad(_sample(feats, points, view_ids, weights).square().sum(), [wanted])
        torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_features_are_accumulated_in_float32(dtype):
    feats, points, view_ids, weights = _inputs()
    halves = [feat.to(dtype).requires_grad_() for feat in feats]
    full = [half.detach().float().requires_grad_() for half in halves]
    found, expected = (_sample(maps, points, view_ids, weights) for maps in (halves, full))
    torch.testing.assert_close(found, expected)
    # 2000 points add 1 to the same cell, where bfloat16 sums would stand still at 256 and float16 ones at 2048.
    points = torch.zeros(SAMPLES, 2000, GROUPS, FRAMES, 2, 2)
    view_ids, weights = torch.ones(points.shape[:-1], dtype=torch.long), torch.ones(*points.shape[:-1], 2)
    _sample(halves, points, view_ids, weights).sum().backward()
    assert halves[0].grad.dtype == dtype
    assert halves[0].grad[:, 1, :, 0, 0].eq(4000).all() and halves[0].grad[:, 0].eq(0).all()


@pytest.mark.parametrize('far', [1e30, float('inf'), float('nan')])
def test_points_out_of_reach_are_zero(far):
    """A diverged query must not read out of bounds, nor spoil the gradients of the features."""
    feats, points, view_ids, weights = _inputs()
    feats = [feat.requires_grad_() for feat in feats]
    points = torch.full_like(points, far).requires_grad_()
    found = _sample(feats, points, view_ids, weights)
    found.sum().backward()
    assert all(x.abs().max() == 0 for x in (found, points.grad, *(feat.grad for feat in feats)))


@pytest.mark.parametrize('view', [-1, VIEWS])
def test_views_that_do_not_exist_are_zero(view):
    feats, points, view_ids, weights = _inputs()
    args = [x.requires_grad_() for x in (*feats, points, weights)]
    found = _sample(feats, points, torch.full_like(view_ids, view), weights)
    found.sum().backward()
    assert all(x.abs().max() == 0 for x in (found, *(arg.grad for arg in args)))


def test_tables_of_single_frames_may_be_concatenated():
    feats = _inputs()[0]
    frames = [
        op.flatten_views([feat[:, t * VIEWS : (t + 1) * VIEWS] for feat in feats], VIEWS, GROUPS).value
        for t in range(FRAMES)
    ]
    assert torch.equal(torch.cat(frames, dim=1), op.flatten_views(feats, VIEWS, GROUPS).value)


def test_there_may_be_no_queries():
    feats, *inputs = _inputs()
    points, view_ids, weights = (x[:, :0].detach().requires_grad_(x.is_floating_point()) for x in inputs)
    _sample([feat.requires_grad_() for feat in feats], points, view_ids, weights).sum().backward()
    assert points.grad.shape == points.shape and weights.grad.shape == weights.shape
    assert all(feat.grad.abs().max() == 0 for feat in feats)


def test_inputs_may_be_permuted_views():
    """A model computes points frame by frame and only turns the axes."""
    feats, *inputs = _inputs()
    turned = [x.transpose(1, 3).contiguous().transpose(1, 3).requires_grad_(x.is_floating_point()) for x in inputs]
    plain = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    assert not any(x.is_contiguous() for x in turned)
    found, expected = (_sample(feats, *x) for x in (turned, plain))
    assert torch.equal(found, expected)
    for out in (found, expected):
        out.square().sum().backward()
    assert torch.equal(turned[0].grad, plain[0].grad) and torch.equal(turned[2].grad, plain[2].grad)


def test_compiles_into_one_graph():
    feats, points, view_ids, weights = _inputs()
    args = [x.requires_grad_() for x in (*feats, points, weights)]
    compiled = torch.compile(_sample, backend='aot_eager', fullgraph=True)
    outs = [run(feats, points, view_ids, weights) for run in (_sample, compiled)]
    grads = [torch.autograd.grad(out.square().sum(), args) for out in outs]
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(grads[1], grads[0])


def test_operator_is_registered_soundly():
    """Schema, shapes without data, autograd and tracing with symbolic sizes, by PyTorch's own checks."""
    feats, points, view_ids, weights = _inputs()
    views = op.flatten_views(feats, VIEWS, GROUPS)
    tensors = [x.requires_grad_(x.is_floating_point()) for x in (views.value, points, view_ids, weights)]
    sizes = [size for shape in views.shapes for size in shape]
    torch.library.opcheck(torch.ops.mvbench.msmv_sampling.default, (*tensors, sizes))


def test_deterministic_backward_avoids_the_atomic_kernel(monkeypatch):
    class Kernels(op._Definition):
        @staticmethod
        def grad_value(*_):
            raise AssertionError('atomic additions under torch.use_deterministic_algorithms')

    monkeypatch.setattr(op, '_kernels', lambda value: Kernels)
    feats, points, view_ids, weights = _inputs()
    found = _sample([feat.requires_grad_() for feat in feats], points, view_ids, weights).sum()
    with pytest.raises(AssertionError, match='atomic'):
        found.backward(retain_graph=True)
    torch.use_deterministic_algorithms(True)
    try:
        found.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(feat.grad.abs().sum() > 0 for feat in feats)


def test_triton_kernels_equal_the_definition():
    """On a GPU; without one the kernels are interpreted, which triton wants to know before it is first imported."""
    pytest.importorskip('triton')
    if torch.cuda.is_available():
        check_kernels('cuda')
        return
    code = 'import test_msmv_sampling as test; test.check_kernels("cpu")'
    env = {
        **os.environ,
        'TRITON_INTERPRET': '1',
        'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_kernels(device: str) -> None:
    """Every kernel against the definition, for each feature dtype, several levels, points in and out of reach."""
    from mvbench_plugins.ops import msmv_sampling_triton as kernels

    for dtype, levels in ((torch.float32, 1), (torch.float32, 5), (torch.float16, 4), (torch.bfloat16, 2)):
        feats, points, view_ids, weights = _inputs(levels, num_points=70, device=device)
        points[0, 0, 0, 0, 0] = torch.tensor([float('nan'), 0.5])
        points[0, 0, 0, 0, 1] = torch.tensor([0.5, float('inf')])
        view_ids[0, 0, 0, 1, :2] = torch.tensor([-1, VIEWS])
        views = op.flatten_views([feat.to(dtype) for feat in feats], VIEWS, GROUPS)
        args = (views.value, points, view_ids, weights, [size for shape in views.shapes for size in shape])
        grad = torch.randn(*view_ids.shape, CHANNELS, device=device)
        close = {'atol': 1e-4, 'rtol': 1e-4}
        torch.testing.assert_close(kernels.sample(*args), op._Definition.sample(*args), **close)
        found, expected = (x.grad_points(grad, *args) for x in (kernels, op._Definition))
        torch.testing.assert_close(found, expected, **close)
        found, expected = (x.grad_value(grad, *args) for x in (kernels, op._Definition))
        # In half precision, sums that differ in the last bit of float32 may round apart.
        torch.testing.assert_close(
            found, expected, **(close if dtype == torch.float32 else {'atol': 0.02, 'rtol': 0.01})
        )


def _bad(change: str) -> tuple:
    feats, points, view_ids, weights = _inputs()
    views = op.flatten_views(feats, VIEWS, GROUPS)
    return {
        'levels': (views, points, view_ids, weights[..., :1]),
        'frames': (views, points[:, :, :, :1], view_ids, weights),
        'xyz': (views, points.repeat_interleave(2, -1), view_ids, weights),
        'views': (views, points, view_ids[..., None], weights),
        'table': (views._replace(shapes=views.shapes[:1]), points, view_ids, weights[..., :1]),
        'half points': (views, points.half(), view_ids, weights),
        'double features': (views._replace(value=views.value.double()), points, view_ids, weights),
        'integer features': (views._replace(value=views.value.int()), points, view_ids, weights),
        'float views': (views, points, view_ids.float(), weights),
        'device': (views, points, view_ids.to('meta'), weights),
    }[change]


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ('levels', ValueError, r'level_weights has shape .*1\), expected \[2, 3, 2, 2, 2, 2\] .* 2 levels'),
        ('frames', ValueError, r'points has shape \(2, 3, 2, 1, 2, 2\), expected \[2, 3, 2, 2, 2, 2\] .* 2 frames'),
        ('xyz', ValueError, r'points has shape .*4\), expected'),
        ('views', ValueError, r'view_ids has shape .*, expected \[2, 3, 2, 2, 2\]'),
        ('table', ValueError, r'\[B, T, N, 35, G, C / G\] for levels \(\(5, 7\),\); build it with flatten_views'),
        ('half points', TypeError, r'points is torch.float16, expected torch.float32 .* outside autocast'),
        ('double features', TypeError, r'points is torch.float32, expected torch.float64'),
        ('integer features', TypeError, r'views.value is torch.int32, expected float32'),
        ('float views', TypeError, r'view_ids is torch.float32, expected int64 or int32'),
        ('device', ValueError, r'view_ids is on meta, expected cpu'),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        op.msmv_sampling(*_bad(change))


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ([(2, 6, 6, 5, 7), (2, 6, 4, 3, 4)], 'same B, T \\* N and C in all levels'),
        ([(12, 6, 5, 7)], r'levels of shape \[\(12, 6, 5, 7\)\], expected \[B, T \* N, C, H_l, W_l\]'),
        ([(2, 5, 6, 5, 7)], 'has 5 images and 6 channels per sample, which do not divide .* num_views=3'),
        ([(2, 6, 5, 5, 7)], 'has 6 images and 5 channels .* num_groups=2 groups'),
    ],
)
def test_bad_maps_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        op.flatten_views([torch.zeros(shape) for shape in shapes], VIEWS, GROUPS)

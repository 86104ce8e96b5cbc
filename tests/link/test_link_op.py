"""The linear kernel's operators against dense definitions on small grids, with gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mvbench_plugins.ops import linear_kernel as op
from mvbench_plugins.ops import sparse_conv as conv

SIDE = 6


def _voxels(count: int = 90, samples: int = 2, low: int = -4, side: int = 9) -> Tensor:
    """Distinct voxels (b, x, y, z) in random order, with negative coordinates, those of the samples overlapping."""
    torch.manual_seed(0)
    cells = torch.randperm(samples * side**3)[:count]
    coors = torch.stack([cells // side**3, cells // side**2 % side, cells // side % side, cells % side], dim=1)
    coors[:, 1:] += low
    return coors


def _mean_by_hand(values: Tensor, coors: Tensor, block_size: int, offsets: range) -> Tensor:
    """Every pair of voxels looked at on its own."""
    out = []
    for row in coors.tolist():
        total, count = 0, 0
        for other, value in zip(coors.tolist(), values, strict=True):
            away = [b // block_size - a // block_size for a, b in zip(row[1:], other[1:], strict=True)]
            if other[0] == row[0] and all(step in offsets for step in away):
                total, count = total + value, count + 1
        out.append(total / count)
    return torch.stack(out)


@pytest.mark.parametrize(
    ('num_blocks', 'block_size', 'offsets'),
    [
        (1, 3, range(1)),
        (2, 3, range(2)),
        (3, 1, range(-1, 2)),
        (3, 2, range(-1, 2)),
        (4, 2, range(-1, 3)),
        (5, 1, range(-2, 3)),
    ],
)
def test_mean_and_gradient_match_the_definition(num_blocks, block_size, offsets):
    coors = _voxels()
    values = torch.randn(len(coors), 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(len(coors), 3, dtype=torch.float64)
    wanted = _mean_by_hand(values, coors, block_size, offsets)
    (wanted * weight).sum().backward()
    wanted_grad, values.grad = values.grad, None
    got = op.neighbourhood_mean(values, op.build_blocks(coors, block_size, num_blocks))
    (got * weight).sum().backward()
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(values.grad, wanted_grad)


@pytest.mark.parametrize('num_blocks', [2, 3])
def test_second_derivatives(num_blocks):
    coors = _voxels(12, side=4)
    index = op.build_blocks(coors, 2, num_blocks)
    values = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: op.neighbourhood_mean(x, index).square(), values)


def test_far_voxels_get_keys_of_their_own():
    """Real scenes reach thousands of voxels; an offset must never wrap into the next row or sample."""
    coors = torch.tensor(
        [[0, 0, 0, 0], [0, 0, 0, 9999], [0, 0, 1, 0], [0, 9999, 9999, 9999], [1, 0, 0, 0], [1, -9999, 5, -3]]
    )
    values = torch.arange(6.0)[:, None]
    got = op.neighbourhood_mean(values, op.build_blocks(coors, 1, 3))
    assert got.flatten().tolist() == [1.0, 1.0, 1.0, 3.0, 4.0, 5.0]


def test_half_precision_is_summed_in_single():
    coors = F.pad(torch.arange(4096)[:, None], (1, 2))
    values = torch.full((4096, 1), 0.1, dtype=torch.bfloat16)
    got = op.neighbourhood_mean(values, op.build_blocks(coors, 4096, 1))
    assert got.dtype is torch.float32
    torch.testing.assert_close(got, values.float(), rtol=1e-5, atol=0)


def test_one_pass_over_the_channels_of_many_kernels_is_exact():
    """Concatenated channels give what they give one by one: blocks share one pass."""
    coors = _voxels()
    index = op.build_blocks(coors, 2, 3)
    a, b = torch.randn(2, len(coors), 5)
    both = op.neighbourhood_mean(torch.cat([a, b], dim=1), index)
    assert torch.equal(both, torch.cat([op.neighbourhood_mean(x, index) for x in (a, b)], dim=1))


def test_no_voxels():
    empty = torch.zeros(0, 4, dtype=torch.long)
    assert op.neighbourhood_mean(torch.zeros(0, 3), op.build_blocks(empty, 7, 3)).shape == (0, 3)
    assert conv.sparse_conv(torch.zeros(0, 2), torch.zeros(27, 2, 3), conv.submanifold_map(empty)).shape == (0, 3)
    assert conv.downsample(empty).coors.shape == (0, 4)


def test_bad_input_is_named():
    coors = _voxels(10)
    with pytest.raises(ValueError, match='block_size 0'):
        op.build_blocks(coors, 0, 3)
    with pytest.raises(ValueError, match=r'expected \[N, 4\] integers'):
        op.build_blocks(coors.float(), 3, 3)
    with pytest.raises(ValueError, match='9 rows of values for an index of 10 voxels'):
        op.neighbourhood_mean(torch.zeros(9, 1), op.build_blocks(coors, 3, 3))
    with pytest.raises(ValueError, match='63 bits'):
        op.build_blocks(torch.tensor([[0, 0, 0, 0], [0, 2**31, 2**31, 2**31]]), 1, 3)
    with pytest.raises(ValueError, match=r'voxel \(b, x, y, z\) = \[1, 2, 3, 4\] occurs more than once'):
        conv.submanifold_map(torch.tensor([[1, 2, 3, 4], [0, 2, 3, 4], [1, 2, 3, 4]]))
    with pytest.raises(ValueError, match='a map of 10 rows and 27 taps'):
        conv.sparse_conv(torch.zeros(10, 2), torch.zeros(8, 2, 3), conv.submanifold_map(coors))


def _grid(count: int = 120) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels of two samples in a cube, features, and where their rows lie in the flattened dense grid."""
    coors = _voxels(count, low=0, side=SIDE)
    feats = torch.randn(count, 3, dtype=torch.float64, requires_grad=True)
    place = ((coors[:, 0] * SIDE + coors[:, 1]) * SIDE + coors[:, 2]) * SIDE + coors[:, 3]
    return coors, feats, place


def _dense(feats: Tensor, place: Tensor, side: int = SIDE) -> Tensor:
    """``[B, C, X, Y, Z]``."""
    rows = torch.zeros(2 * side**3, feats.shape[1], dtype=feats.dtype).index_put((place,), feats)
    return rows.view(2, side, side, side, -1).movedim(-1, 1)


def _rows(dense: Tensor, place: Tensor) -> Tensor:
    return dense.movedim(1, -1).flatten(0, 3)[place]


def _assert_same(wanted: Tensor, got: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(got, wanted)
    weight = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad((got * weight).sum(), inputs), torch.autograd.grad((wanted * weight).sum(), inputs)
    ):
        torch.testing.assert_close(ours, theirs)


def test_submanifold_convolution_matches_a_dense_one():
    """Taps: x varies fastest."""
    coors, feats, place = _grid()
    kernel = torch.randn(27, 3, 5, dtype=torch.float64, requires_grad=True)
    dense_kernel = kernel.view(3, 3, 3, 3, 5).permute(4, 3, 2, 1, 0)  # taps (z, y, x) to [Cout, Cin, x, y, z]
    wanted = _rows(F.conv3d(_dense(feats, place), dense_kernel, padding=1), place)
    got = conv.sparse_conv(feats, kernel, conv.submanifold_map(coors))
    _assert_same(wanted, got, feats, kernel)


def test_strided_convolution_and_its_transpose_match_dense_ones():
    """Taps: z varies fastest. The transpose leads back to the finer voxels only."""
    coors, feats, place = _grid()
    down = conv.downsample(coors)
    halved = {(b, x // 2, y // 2, z // 2) for b, x, y, z in coors.tolist()}
    assert list(map(tuple, down.coors.tolist())) == sorted(halved)
    half = SIDE // 2
    b, x, y, z = down.coors.unbind(1)
    coarse_place = ((b * half + x) * half + y) * half + z
    kernel = torch.randn(8, 3, 5, dtype=torch.float64, requires_grad=True)
    taps = kernel.view(2, 2, 2, 3, 5)
    wanted = _rows(F.conv3d(_dense(feats, place), taps.permute(4, 3, 0, 1, 2), stride=2), coarse_place)
    got = conv.sparse_conv(feats, kernel, down.kernel_map)
    _assert_same(wanted, got, feats, kernel)

    coarse = torch.randn(len(down.coors), 3, dtype=torch.float64, requires_grad=True)
    dense = F.conv_transpose3d(_dense(coarse, coarse_place, half), taps.permute(3, 4, 0, 1, 2), stride=2)
    got = conv.sparse_conv(coarse, kernel, down.kernel_map.transposed())
    _assert_same(_rows(dense, place), got, coarse, kernel)


def test_negative_voxels_are_halved_downwards():
    down = conv.downsample(torch.tensor([[0, -1, -2, -3], [0, -1, -1, -4]]))
    assert down.coors.tolist() == [[0, -1, -1, -2]]
    assert down.kernel_map.sizes == (0, 0, 0, 0, 0, 1, 1, 0)  # offsets (1, 0, 1) and (1, 1, 0)


def test_autocast_keeps_half_precision_outside_and_sums_in_single():
    coors = _voxels()
    feats, kernel = torch.randn(len(coors), 8, requires_grad=True), torch.randn(27, 8, 8, requires_grad=True)
    kernel_map = conv.submanifold_map(coors)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = conv.sparse_conv(feats, kernel, kernel_map)
    assert got.dtype is torch.bfloat16
    got.float().sum().backward()
    wanted = conv.sparse_conv(feats, kernel, kernel_map)
    assert (got - wanted).norm() < 0.02 * wanted.norm()
    assert feats.grad.dtype is kernel.grad.dtype is torch.float32 and feats.grad.any() and kernel.grad.any()

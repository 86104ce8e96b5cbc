"""Sparse convolutions on a CPU, against dense ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmdet3d.models.layers.sparse_block import SparseConvTensor
from mmdet3d.utils import register_all_modules

from mvbench_plugins.link import spconv_cpu
from mvbench_plugins.link.sparse_encoder import BiasedSparseBasicBlock

SHAPE = (6, 7, 8)
IN, OUT = 4, 5


@pytest.fixture(autouse=True)
def prepared():
    register_all_modules()
    spconv_cpu.prepare_cpu()


@pytest.fixture
def voxels() -> SparseConvTensor:
    generator = torch.Generator().manual_seed(0)
    active = torch.rand(2, *SHAPE, generator=generator) < 0.2
    feats = torch.randn(int(active.sum()), IN, generator=generator, requires_grad=True)
    return SparseConvTensor(feats, active.nonzero().int().contiguous(), list(SHAPE), 2)


def dense(x: SparseConvTensor) -> torch.Tensor:
    """Dense features ``[B, C, z, y, x]`` that lead gradients back."""
    out = x.features.new_zeros(x.batch_size, *x.spatial_shape, x.features.shape[1])
    return out.index_put(tuple(x.indices.long().T), x.features).permute(0, 4, 1, 2, 3)


def at(volume: torch.Tensor, x: SparseConvTensor) -> torch.Tensor:
    """Values of ``[B, C, z, y, x]`` at the voxels of x."""
    return volume.permute(0, 2, 3, 4, 1)[tuple(x.indices.long().T)]


def check(conv, sparse_out: SparseConvTensor, dense_out: torch.Tensor, feats: torch.Tensor) -> None:
    """Equal outputs, and equal gradients of input and weight."""
    expected = at(dense_out, sparse_out)
    torch.testing.assert_close(sparse_out.features, expected, atol=1e-5, rtol=1e-5)
    seed = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((expected * seed).sum(), [feats, conv.weight])
    got = torch.autograd.grad((sparse_out.features * seed).sum(), [feats, conv.weight])
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def dense_weight(conv) -> torch.Tensor:
    return conv.weight.permute(0, 4, 1, 2, 3)  # [out, in, z, y, x]


def test_submanifold_convolution(voxels):
    conv = build_conv_layer(dict(type='SubMConv3d', indice_key='a'), IN, OUT, 3, padding=1, bias=False)
    check(conv, conv(voxels), F.conv3d(dense(voxels), dense_weight(conv), padding=1), voxels.features)


@pytest.mark.parametrize(('kernel', 'stride', 'padding'), [(3, 2, 1), (3, 2, (0, 1, 1)), ((3, 1, 1), (2, 1, 1), 0)])
def test_strided_convolution(voxels, kernel, stride, padding):
    conv = build_conv_layer(
        dict(type='SparseConv3d', indice_key='b'), IN, OUT, kernel, stride=stride, padding=padding, bias=False
    )
    out = conv(voxels)
    expected = F.conv3d(dense(voxels), dense_weight(conv), stride=stride, padding=padding)
    assert out.spatial_shape == list(expected.shape[2:])
    reached = F.conv3d(
        dense(voxels.replace_feature(torch.ones(len(voxels.indices), 1))),
        torch.ones(1, 1, *conv.kernel_size),
        stride=stride,
        padding=padding,
    )
    assert len(out.indices) == int((reached > 0).sum())
    check(conv, out, expected, voxels.features)


def test_inverse_convolution(voxels):
    down = build_conv_layer(dict(type='SparseConv3d', indice_key='c'), IN, IN, 3, stride=2, padding=1, bias=False)
    up = build_conv_layer(dict(type='SparseInverseConv3d', indice_key='c'), IN, OUT, 3, bias=False)
    coarse = down(voxels)
    coarse = coarse.replace_feature(coarse.features.detach().requires_grad_())
    out = up(coarse)
    assert torch.equal(out.indices, voxels.indices)
    missing = [size - (2 * (small - 1) + 1) for size, small in zip(SHAPE, coarse.spatial_shape, strict=True)]
    expected = F.conv_transpose3d(
        dense(coarse), up.weight.permute(4, 0, 1, 2, 3), stride=2, padding=1, output_padding=missing
    )
    check(up, out, expected, coarse.features)


def test_a_block_with_biases_is_the_same_in_evaluation_mode(voxels):
    block = BiasedSparseBasicBlock(IN, 'd', dict(type='BN1d', momentum=1.0))
    trained = block(voxels).features  # leaves the statistics of this batch in the norms
    for norm in (block.bn1, block.bn2):
        norm.running_var *= (len(trained) - 1) / len(trained)  # which are unbiased
    torch.testing.assert_close(block.eval()(voxels).features, trained, atol=1e-5, rtol=1e-5)


def test_several_threads_lose_no_rows():
    generator = torch.Generator().manual_seed(0)
    active = torch.rand(2, 30, 30, 30, generator=generator) < 0.1
    indices = active.nonzero().int().contiguous()
    feats = torch.randn(len(indices), 16, generator=generator)
    conv = build_conv_layer(dict(type='SubMConv3d', indice_key='e'), 16, 16, 3, padding=1, bias=False)
    x = SparseConvTensor(feats, indices, [30, 30, 30], 2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = conv(x).features
        torch.set_num_threads(2)
        wrong = [not torch.allclose(conv(x).features, expected, atol=1e-4) for _ in range(40)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not any(wrong)


@pytest.mark.parametrize('layout', ['spconv 2', 'spconv 1 and mmcv'])
@pytest.mark.parametrize('with_metadata', [False, True])
def test_weights_load_in_both_layouts(layout, with_metadata):
    conv = build_conv_layer(dict(type='SubMConv3d'), IN, OUT, 3, bias=False)
    spconv_cpu.accept_both_layouts(conv)
    state = conv.state_dict()  # with the version of spconv 2 in its metadata
    weight = state['weight'].clone()
    stored = weight if layout == 'spconv 2' else weight.movedim(0, -1)
    if with_metadata:
        state['weight'] = stored
    else:
        state = {'weight': stored}
    with torch.no_grad():
        conv.weight.zero_()
    conv.load_state_dict(state, strict=True)
    assert torch.equal(conv.weight, weight)


def test_without_spconv_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(spconv_cpu, 'has_spconv', lambda: False)
    spconv_cpu.check_backend(torch.device('cuda'))  # mmcv has them
    with pytest.raises(RuntimeError, match=r'needs spconv 2.*pip install'):
        spconv_cpu.check_backend(torch.device('cpu'))

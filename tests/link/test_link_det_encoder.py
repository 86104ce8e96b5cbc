"""LinK's encoder: shapes, reach, empty samples and messages."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.models.layers.sparse_block import SparseConvTensor
from mmdet3d.registry import MODELS
from mmdet3d.utils import register_all_modules

import mvbench_plugins.link.sparse_encoder  # noqa: F401  registers

SPARSE_SHAPE = [41, 64, 48]


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()


def build(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='LinKSparseEncoder',
        in_channels=3,
        sparse_shape=SPARSE_SHAPE,
        channels=(4, 4, 8, 8),
        output_channels=6,
        **kwargs,
    )
    return MODELS.build(cfg).eval()


def random_voxels(count: int, samples: tuple[int, ...] = (0, 1)) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and different places (b, z, y, x) within the 40 lower layers."""
    generator = torch.Generator().manual_seed(1)
    places = torch.randperm(40 * 64 * 48, generator=generator)[:count]
    sample = torch.tensor(samples)[torch.randint(len(samples), (count,), generator=generator)].sort().values
    coors = torch.stack([sample, places // (64 * 48), places // 48 % 64, places % 48], dim=1)
    return torch.randn(count, 3, generator=generator), coors.int()


def test_the_output_is_a_map_seen_from_above():
    feats, coors = random_voxels(60)
    assert build()(feats, coors, 2).shape == (2, 6 * 2, 8, 6)


@pytest.mark.parametrize('linear_kernel', [dict(mode='cos', block_size=7, num_blocks=3), None])
def test_a_voxel_sees_far_only_through_the_linear_kernel(linear_kernel):
    level = build(linear_kernel=linear_kernel).levels['1']
    coors = torch.tensor([[0, 5, 20, 20], [0, 5, 20, 27], [0, 5, 20, 45]], dtype=torch.int32)  # (b, z, y, x)
    feats = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))

    def out(values: torch.Tensor) -> torch.Tensor:
        return level(SparseConvTensor(values, coors, SPARSE_SHAPE, 1)).features

    changed = feats.clone()
    changed[1] += torch.tensor([1.0, -1.0, 0.5, 2.0])
    before, after = out(feats), out(changed)
    # Seven voxels away: in the next block of seven; 25 away: beyond it.
    assert torch.equal(before[0], after[0]) == (linear_kernel is None)
    assert torch.equal(out(feats.index_fill(0, torch.tensor([2]), 0.0))[0], before[0])


def test_an_empty_last_sample_stays_in_the_batch():
    feats, coors = random_voxels(30, samples=(0,))
    encoder = build()
    both = encoder(feats, coors, 2)
    torch.testing.assert_close(both[:1], encoder(feats, coors, 1))
    assert both.shape[0] == 2 and not both[1].any()


def test_no_voxels_at_all():
    feats, coors = random_voxels(30)
    encoder = build()
    nothing = encoder(feats[:0], coors[:0], 2)
    assert nothing.shape == encoder(feats, coors, 2).shape and not nothing.any()
    with pytest.raises(ValueError, match=r'found 0 voxels in a training batch of 2.*point_cloud_range'):
        encoder.train()(feats[:0], coors[:0], 2)


def test_every_parameter_that_matters_gets_a_gradient():
    feats, coors = random_voxels(60)
    encoder = build().train()
    encoder(feats, coors, 2).square().sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # Biases in front of a norm have none but rounding; the second half of the phases is never used.
    assert not [name for name in without if not name.endswith('_bias')]
    half = encoder.levels['2'].link.pos_weight[0].weight.grad[2:]
    assert not half.any()


def test_the_layout_of_the_coordinates_in_memory_does_not_matter():
    feats, coors = random_voxels(60)
    encoder = build()
    transposed = coors.T.contiguous().T
    torch.testing.assert_close(encoder(feats, transposed, 2), encoder(feats, coors, 2))


def test_checkpoints_load_without_metadata():
    feats, coors = random_voxels(60)
    source, target = build(), build()
    for parameter in target.parameters():
        torch.nn.init.zeros_(parameter)
    target.load_state_dict(dict(source.state_dict()), strict=True)
    torch.testing.assert_close(target(feats, coors, 2), source(feats, coors, 2))


def test_paddings_must_fit_the_levels():
    with pytest.raises(ValueError, match='paddings: found 1'):
        build(paddings=(1,))

"""LinK's block: the kernel that each mode stands for, and what makes it independent of how it is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import load_case
from run import run_case
from torch import Tensor

from mvbench_plugins.link.linear_kernel_block import LinearKernelBlock
from mvbench_plugins.link.voxel_set import VoxelSet

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'link'
CHANNELS = 6


def _scene(count: int = 40, side: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    cells = torch.randperm(2 * side**3)[:count]
    coors = torch.stack([cells // side**3, cells // side**2 % side, cells // side % side, cells % side], dim=1)
    return coors, torch.randn(count, CHANNELS)


def _kernel(mode: str, away: Tensor) -> Tensor:
    return dict(cos=away.cos(), sin=away.sin(), cos_sin=away.cos() + away.sin())[mode]


@pytest.mark.parametrize('mode', ['cos', 'sin', 'cos_sin', 'x', 'cos_x'])
@pytest.mark.parametrize(('num_blocks', 'block_size'), [(2, 3), (3, 2)])
def test_block_is_a_kernel_of_the_distance(mode, num_blocks, block_size):
    """Against the double sum over all pairs of voxels, for which it stands."""
    coors, feats = _scene()
    voxels = VoxelSet(coors, stride=2)
    block = LinearKernelBlock(CHANNELS, mode, block_size, num_blocks)
    if mode == 'cos_x':
        torch.nn.init.uniform_(block.alpha, 0.5, 2.0)
    mixed, phases = block.pre_mix(feats), block.phases(voxels)
    away = phases[None] - phases[:, None]  # [i, j, C]
    cells = coors.div(coors.new_tensor([1, *[block_size] * 3]), rounding_mode='floor')
    step = cells[None] - cells[:, None]
    low, high = (0, 1) if num_blocks == 2 else (-1, 1)
    seen = (step[..., 0] == 0) & ((step[..., 1:] >= low) & (step[..., 1:] <= high)).all(-1)
    share = (seen / seen.sum(1, keepdim=True))[..., None]
    wanted = 0
    if mode != 'x':
        wanted = (share * _kernel(mode.removesuffix('_x'), away) * mixed[None]).sum(1)
    if mode.endswith('x'):
        wanted = wanted + (share * (mixed * phases)[None]).sum(1) - mixed * phases
    local = block.local_mix(feats, voxels.neighbours)  # of the raw features
    wanted = (block.norm(wanted) + block.norm_local(local)).relu()
    torch.testing.assert_close(block(feats, voxels), wanted, rtol=1e-3, atol=1e-3)


def test_rows_stay_in_the_order_of_the_input():
    coors, feats = _scene()
    block = LinearKernelBlock(CHANNELS, 'cos', 2, 3)
    order = torch.randperm(len(coors))
    torch.testing.assert_close(
        block(feats, VoxelSet(coors))[order], block(feats[order], VoxelSet(coors[order])), rtol=1e-4, atol=1e-5
    )


def test_samples_do_not_see_each_other():
    coors, feats = _scene()
    block = LinearKernelBlock(CHANNELS, 'cos_sin', 2, 3)
    alone = coors[:, 0] == 1
    torch.testing.assert_close(
        block(feats, VoxelSet(coors))[alone], block(feats[alone], VoxelSet(coors[alone])), rtol=1e-4, atol=1e-5
    )


def test_groups_share_phases_and_spare_ones_are_not_read():
    coors, feats = _scene()
    block = LinearKernelBlock(CHANNELS, 'cos', groups=2, num_phases=CHANNELS)
    phases = block.phases(VoxelSet(coors))
    assert torch.equal(phases[:, : CHANNELS // 2], phases[:, CHANNELS // 2 :])
    block(feats, VoxelSet(coors)).sum().backward()
    grad = block.pos_weight[0].weight.grad
    assert grad[: CHANNELS // 2].any() and not grad[CHANNELS // 2 :].any()


def test_positions_count_in_finest_voxels_or_in_those_of_the_level():
    coors, _ = _scene()
    finest = LinearKernelBlock(CHANNELS)
    level = LinearKernelBlock(CHANNELS, level_positions=True)
    level.load_state_dict(finest.state_dict())
    torch.testing.assert_close(finest.phases(VoxelSet(coors, 8)), 8 * level.phases(VoxelSet(coors, 8)))
    assert torch.equal(finest.phases(VoxelSet(coors)), level.phases(VoxelSet(coors)))


def test_phases_are_single_precision_under_autocast():
    """In half precision, a phase of some thousands is off by whole turns."""
    coors = torch.tensor([[0, 1439, 1311, 40], [0, 1440, 1311, 40], [0, 3, 2, 1]])
    block, feats = LinearKernelBlock(CHANNELS, 'cos'), torch.randn(3, CHANNELS)
    voxels = VoxelSet(coors)
    wanted, wanted_phases = block(feats, voxels), block.phases(voxels)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got, phases = block(feats, voxels), block.phases(voxels)
    assert torch.equal(phases, wanted_phases)
    assert (got - wanted).abs().max() < 0.1


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"mode: found 'cos_x_alpha', expected one of cos, sin"):
        LinearKernelBlock(CHANNELS, 'cos_x_alpha')
    with pytest.raises(ValueError, match='groups: found 4, expected a divisor of the 6 channels'):
        LinearKernelBlock(CHANNELS, groups=4)
    with pytest.raises(ValueError, match='groups: found 2, mode cos_x'):
        LinearKernelBlock(CHANNELS, 'cos_x', groups=2)
    with pytest.raises(ValueError, match='num_phases: found 2'):
        LinearKernelBlock(CHANNELS, num_phases=2)


def test_recorded_case():
    report, passed = run_case(load_case(CASES / 'elk_modules'))
    assert passed and ' 0 left out' in report, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: blocks of another size must show in the table."""
    case = load_case(CASES / 'elk_modules')
    case.meta['settings']['det_block_size'] = 6
    report, passed = run_case(case)
    failed = {row.split()[0] for row in report.splitlines() if 'FAILED' in row}
    assert not passed and 'det_cos.out' in failed and not any(name.startswith('seg_') for name in failed)

"""LinK's block: a linear kernel over a large neighbourhood beside a 3x3x3 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvbench_plugins.ops.linear_kernel import neighbourhood_mean

from .sparse_layers import SparseConv, SparseSequential
from .voxel_set import VoxelSet

MODES = ('cos', 'sin', 'cos_sin', 'x', 'cos_x')


class LinearKernelBlock(nn.Module):
    r"""Mixes each voxel with all others of a large neighbourhood, by a kernel that is a function of their distance.

    Every channel of every voxel gets a phase that is linear in the voxel's position. With :math:`g` the mixed features,
    :math:`\phi` the phases and the mean over the voxels j in the neighbourhood of i, the modes are

    ========== ==========================================================
    cos        mean of :math:`\cos(\phi_j - \phi_i) g_j`
    sin        mean of :math:`\sin(\phi_j - \phi_i) g_j`
    cos_sin    their sum
    x          mean of :math:`\phi_j g_j`, less :math:`\phi_i g_i`
    cos_x      cos and x together, of phases with a learned scale
    ========== ==========================================================

    The addition theorems divide the first three into products of something of i and a mean that all voxels of a block
    share. (x subtracts :math:`g_i` and not the mean of :math:`g_j`, as released: it depends on where the grid starts.)

    Args:
        channels: channels C of input and output.
        mode: one of the above.
        block_size: edge s of a block in voxels of the level.
        num_blocks: blocks r per axis that a voxel sees; its neighbourhood is r * s voxels wide.
        groups: so many channels share a phase: channel k has that of channel ``k % (C / groups)``.
        num_phases: phases that the parameters hold; None: the ``C / groups`` that are used. More are only for
            checkpoints: those of the detectors hold C, of which cos and x use the first half.
        level_positions: take positions in voxels of the level instead of voxels of the finest level.

    Raises:
        ValueError: unknown mode, channels that do not divide into the groups, groups in mode cos_x, whose scale has one
            value per channel, or fewer phases than are used.
    """

    def __init__(
        self,
        channels: int,
        mode: str = 'cos',
        block_size: int = 7,
        num_blocks: int = 3,
        groups: int = 1,
        num_phases: int | None = None,
        level_positions: bool = False,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f'mode: found {mode!r}, expected one of {", ".join(MODES)}')
        if groups < 1 or channels % groups:
            raise ValueError(f'groups: found {groups}, expected a divisor of the {channels} channels')
        if mode == 'cos_x' and groups != 1:
            raise ValueError(f'groups: found {groups}, mode cos_x scales every channel by itself and expects 1')
        self.used_phases = channels // groups
        num_phases = self.used_phases if num_phases is None else num_phases
        if num_phases < self.used_phases:
            raise ValueError(f'num_phases: found {num_phases}, {channels} channels in {groups} groups use more')
        self.mode = mode
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.groups = groups
        self.level_positions = level_positions
        self.pre_mix = nn.Sequential(nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels, eps=1e-6))
        self.pos_weight = nn.Sequential(nn.Linear(3, num_phases, bias=False))
        self.local_mix = SparseSequential(SparseConv(channels, channels, num_taps=27))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.norm_local = nn.LayerNorm(channels, eps=1e-6)
        self.alpha = nn.Parameter(torch.ones(1, channels)) if mode == 'cos_x' else None

    def forward(self, feats: Tensor, voxels: VoxelSet) -> Tensor:
        """Mix the features ``[N, C]`` of N voxels; returns ``[N, C]``."""
        mixed = self._linear_kernel(self.pre_mix(feats), self.phases(voxels), voxels)
        local = self.local_mix(feats, voxels.neighbours)
        return (self.norm(mixed) + self.norm_local(local)).relu()

    def phases(self, voxels: VoxelSet) -> Tensor:
        """Phases ``[N, C]`` in radians; they reach thousands, hence always in float32 and never as a matrix product."""
        positions = voxels.coors[:, 1:].float()
        if not self.level_positions:
            positions = positions * voxels.stride
        weight = self.pos_weight[0].weight[: self.used_phases].float()  # [C / groups, 3]
        phases = sum(position[:, None] * along for position, along in zip(positions.T, weight.T, strict=True))
        phases = phases.repeat(1, self.groups)
        return phases if self.alpha is None else phases * self.alpha.float()

    def _linear_kernel(self, feats: Tensor, phases: Tensor, voxels: VoxelSet) -> Tensor:
        index = voxels.blocks(self.block_size, self.num_blocks)
        feats = feats.to(torch.promote_types(feats.dtype, torch.float32))
        if self.mode == 'x':
            return neighbourhood_mean(feats * phases, index) - feats * phases
        group = phases[:, : self.used_phases]  # all groups have the same: cosines are dear
        cos, sin = (wave.repeat(1, self.groups) for wave in (group.cos(), group.sin()))
        values = [feats * cos, feats * sin]
        if self.mode == 'cos_x':
            values.append(feats * phases)
        # One pass over the neighbourhoods for all.
        mean_cos, mean_sin, *mean_x = neighbourhood_mean(torch.cat(values, dim=1), index).chunk(len(values), dim=1)
        out = 0
        if self.mode != 'sin':
            out = cos * mean_cos + sin * mean_sin
        if self.mode in ('sin', 'cos_sin'):
            out = out + cos * mean_sin - sin * mean_cos
        if self.mode == 'cos_x':
            out = out + mean_x[0] - values[2]
        return out

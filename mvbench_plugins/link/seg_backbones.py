"""Segmentation networks of LinK: a pyramid of voxels with a large and a small receptive field in every level."""

from __future__ import annotations

import torch
from mmdet3d.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .linear_kernel_block import LinearKernelBlock
from .sparse_layers import ResidualBlock, SparseSequential, conv_bn
from .voxel_set import VoxelSet

NUM_LEVELS = 4


class LinKStage(nn.Module):
    """Halves the resolution, then looks at the result twice: with residual blocks, and with a linear kernel.

    Args:
        channels: channels of input and output.
        linear_kernel: arguments of :class:`~mvbench_plugins.link.linear_kernel_block.LinearKernelBlock`.
    """

    def __init__(self, channels: int, linear_kernel: dict) -> None:
        super().__init__()
        self.down = SparseSequential(*conv_bn(channels, channels, num_taps=8), nn.ReLU(inplace=True))
        self.blocks = SparseSequential(ResidualBlock(channels, channels), ResidualBlock(channels, channels))
        self.blocks_tail = SparseSequential(*conv_bn(channels, channels))
        self.linear_kernel = LinearKernelBlock(channels, **linear_kernel)
        self.linear_kernel_tail = SparseSequential(*conv_bn(channels, channels))

    def forward(self, feats: Tensor, voxels: VoxelSet) -> Tensor:
        """Features ``[N, C]`` of voxels to those ``[M, C]`` of ``voxels.coarser``."""
        feats = self.down(feats, voxels.downsampling.kernel_map)
        coarser = voxels.coarser
        near = self.blocks_tail(self.blocks(feats, coarser.neighbours), coarser.neighbours)
        far = self.linear_kernel_tail(self.linear_kernel(feats, coarser), coarser.neighbours)
        return (near + far).relu()


class LinKPyramid(BaseModule):
    """Stem and four stages, which the networks share.

    Args:
        in_channels: features of a voxel: x, y, z in metres and the intensity.
        channels: width of all levels; 64 times the official ``cr``.
        mode: of the linear kernels, see :class:`~mvbench_plugins.link.linear_kernel_block.LinearKernelBlock`, as are
            the next four.
        block_size: edge s of a block in voxels of the level.
        num_blocks: blocks r per axis that a voxel sees.
        groups: so many channels share a phase.
        level_positions: take positions in voxels of the level instead of voxels of the finest level.
        init_cfg: initialisation of the whole backbone.
    """

    def __init__(
        self,
        in_channels: int = 4,
        channels: int = 64,
        mode: str = 'cos_x',
        block_size: int = 3,
        num_blocks: int = 2,
        groups: int = 1,
        level_positions: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.stem = SparseSequential(
            *conv_bn(in_channels, channels), nn.ReLU(inplace=True), *conv_bn(channels, channels), nn.ReLU(inplace=True)
        )
        linear_kernel = dict(
            mode=mode, block_size=block_size, num_blocks=num_blocks, groups=groups, level_positions=level_positions
        )
        self.stages = nn.ModuleList(LinKStage(channels, linear_kernel) for _ in range(NUM_LEVELS))

    def pyramid(self, feats: Tensor, coors: Tensor) -> tuple[list[Tensor], list[VoxelSet]]:
        """Features and voxels of five levels, finest first.

        Raises:
            ValueError: the voxels have another number of features than the stem takes.
        """
        if feats.shape[1] != self.in_channels:
            raise ValueError(
                f'voxels have {feats.shape[1]} features, the backbone takes in_channels={self.in_channels}; set '
                f'load_dim and use_dim of LoadPointsFromFile to what the files hold and what the model was trained on'
            )
        levels, voxels = [], [VoxelSet(coors)]
        levels.append(self.stem(feats, voxels[0].neighbours))
        for stage in self.stages:
            levels.append(stage(levels[-1], voxels[-1]))
            voxels.append(voxels[-1].coarser)
        return levels, voxels


class UpStage(nn.Module):
    """Doubles the resolution and merges what the encoder had there.

    Args:
        channels: channels of all inputs and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = SparseSequential(*conv_bn(channels, channels, num_taps=8, transposed=True), nn.ReLU(inplace=True))
        self.blocks = SparseSequential(ResidualBlock(2 * channels, channels), ResidualBlock(channels, channels))

    def forward(self, feats: Tensor, skip: Tensor, voxels: VoxelSet) -> Tensor:
        """Features ``[M, C]`` of ``voxels.coarser`` and ``[N, C]`` of ``voxels`` to ``[N, C]``."""
        feats = self.up(feats, voxels.downsampling.kernel_map.transposed())
        return self.blocks(torch.cat([feats, skip], dim=1), voxels.neighbours)


@MODELS.register_module()
class LinKUNet(LinKPyramid):
    """The pyramid with a decoder.

    Args:
        channels: as in :class:`LinKPyramid`.
        kwargs: the other arguments of :class:`LinKPyramid` but ``level_positions``.
    """

    def __init__(self, channels: int = 64, **kwargs) -> None:
        super().__init__(channels=channels, level_positions=False, **kwargs)
        self.up_stages = nn.ModuleList(UpStage(channels) for _ in range(NUM_LEVELS))

    def forward(self, feats: Tensor, coors: Tensor) -> Tensor:
        """Features of voxels ``[N, in_channels]`` and their places ``[N, 4]`` (b, x, y, z) to ``[N, channels]``."""
        levels, voxels = self.pyramid(feats, coors)
        out = levels.pop()
        for stage, skip, finer in zip(self.up_stages, levels[::-1], voxels[-2::-1], strict=True):
            out = stage(out, skip, finer)
        return out


@MODELS.register_module()
class LinKEncoder(LinKPyramid):
    """The pyramid alone: a voxel gets the features of all the coarser voxels that contain it.

    Unlike in :class:`LinKUNet`, mode cos_x takes positions in voxels of the level, as released.

    Args:
        mode: as in :class:`LinKPyramid`.
        kwargs: the other arguments of :class:`LinKPyramid` but ``level_positions``.
    """

    def __init__(self, mode: str = 'cos_x', **kwargs) -> None:
        super().__init__(mode=mode, level_positions=mode == 'cos_x', **kwargs)

    def forward(self, feats: Tensor, coors: Tensor) -> Tensor:
        """Features of voxels ``[N, in_channels]`` and their places ``[N, 4]`` (b, x, y, z) to ``[N, 5 * channels]``.

        Coarsest level first.
        """
        levels, voxels = self.pyramid(feats, coors)
        found = [levels[0]]
        row = torch.arange(len(coors), device=coors.device)
        for finer, level in zip(voxels, levels[1:]):
            row = finer.downsampling.parent[row]
            found.append(level[row])
        return torch.cat(found[::-1], dim=1)

"""Active voxels of one level of a network, with what is derived from their places."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from mvbench_plugins.ops.linear_kernel import BlockIndex, build_blocks
from mvbench_plugins.ops.sparse_conv import Downsampling, KernelMap, downsample, submanifold_map


class VoxelSet:
    """Voxels, and the indices of operators on them: each is built when first asked for, and shared by all layers.

    Args:
        coors: ``[N, 4]`` integers (b, x, y, z) in units of the level's own grid.
        stride: edge of a voxel of this level in voxels of the finest level.
    """

    def __init__(self, coors: Tensor, stride: int = 1) -> None:
        self.coors = coors
        self.stride = stride
        self._blocks: dict[tuple[int, int], BlockIndex] = {}

    def __len__(self) -> int:
        return len(self.coors)

    def blocks(self, block_size: int, num_blocks: int) -> BlockIndex:
        """Index of a linear kernel, see :func:`~mvbench_plugins.ops.linear_kernel.build_blocks`."""
        key = block_size, num_blocks
        if key not in self._blocks:
            self._blocks[key] = build_blocks(self.coors, block_size, num_blocks)
        return self._blocks[key]

    @cached_property
    def neighbours(self) -> KernelMap:
        """Map of submanifold 3x3x3 convolutions."""
        return submanifold_map(self.coors)

    @cached_property
    def downsampling(self) -> Downsampling:
        """How the voxels of half the resolution come about."""
        return downsample(self.coors)

    @cached_property
    def coarser(self) -> VoxelSet:
        """The voxels of half the resolution, in ascending order of (b, x, y, z)."""
        return VoxelSet(self.downsampling.coors, self.stride * 2)

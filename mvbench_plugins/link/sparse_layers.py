"""Layers on the features of active voxels, for networks of the torchsparse kind."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mvbench_plugins.ops.sparse_conv import KernelMap, sparse_conv


class SparseConv(nn.Module):
    """Convolution without bias; where its voxels lie is said by the kernel map that it is called with.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        num_taps: 27 for a 3x3x3 kernel, 8 for a 2x2x2 kernel with stride 2.
        transposed: whether it will be called with transposed maps; matters for the initial weights only.
    """

    def __init__(self, in_channels: int, out_channels: int, num_taps: int, transposed: bool = False) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(num_taps, in_channels, out_channels))
        _init_kernel(self.kernel, num_taps * (out_channels if transposed else in_channels))

    def forward(self, feats: Tensor, kernel_map: KernelMap) -> Tensor:
        """``[N, Cin]`` to ``[M, Cout]``."""
        return sparse_conv(feats, self.kernel, kernel_map)


class PointwiseConv(nn.Module):
    """1x1x1 convolution without bias; its weights are laid out as those of the others are.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(in_channels, out_channels))
        _init_kernel(self.kernel, in_channels)

    def forward(self, feats: Tensor) -> Tensor:
        """``[N, Cin]`` to ``[N, Cout]``."""
        return feats @ self.kernel


class SparseSequential(nn.Sequential):
    """Layers one after the other, on one kernel map, which only the convolutions are given."""

    def forward(self, feats: Tensor, kernel_map: KernelMap) -> Tensor:
        """``[N, Cin]`` to ``[M, Cout]``."""
        for layer in self:
            feats = layer(feats, kernel_map) if isinstance(layer, (SparseConv, ResidualBlock)) else layer(feats)
        return feats


class ResidualBlock(nn.Module):
    """Two submanifold 3x3x3 convolutions beside a shortcut, which is a 1x1x1 convolution where the width changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = SparseSequential(
            *conv_bn(in_channels, out_channels), nn.ReLU(inplace=True), *conv_bn(out_channels, out_channels)
        )
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(PointwiseConv(in_channels, out_channels), nn.BatchNorm1d(out_channels))
        )

    def forward(self, feats: Tensor, kernel_map: KernelMap) -> Tensor:
        """``[N, Cin]`` to ``[N, Cout]``."""
        return (self.net(feats, kernel_map) + self.shortcut(feats)).relu()


def conv_bn(
    in_channels: int, out_channels: int, num_taps: int = 27, transposed: bool = False
) -> tuple[SparseConv, nn.BatchNorm1d]:
    """A convolution and its normalisation over all voxels of the batch."""
    return SparseConv(in_channels, out_channels, num_taps, transposed), nn.BatchNorm1d(out_channels)


def _init_kernel(kernel: nn.Parameter, fan: int) -> None:
    bound = 1 / math.sqrt(fan)
    nn.init.uniform_(kernel, -bound, bound)

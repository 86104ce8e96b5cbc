"""CBAM (arXiv 1807.06521) without batch norm: a feature is weighted by channels, then by places."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelGate(nn.Module):
    """Weights channels by what their mean and their maximum over the map say.

    Args:
        channels: of the map.
        reduction: channels over hidden ones.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh ``[B, C, H, W]``."""
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * gate.sigmoid()[..., None, None]


class SpatialGate(nn.Module):
    """Weights places by what the maximum and the mean over channels say around them."""

    def __init__(self) -> None:
        super().__init__()
        # Named as in released checkpoints.
        self.spatial = nn.Sequential()
        self.spatial.add_module('conv', nn.Conv2d(2, 1, kernel_size=7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        """Weigh ``[B, C, H, W]``."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * self.spatial(pooled).sigmoid()


class CBAM(nn.Module):
    """Channel gate, then spatial gate; the attributes are named as in released checkpoints.

    Args:
        channels: of the map.
        reduction: channels over hidden ones of the channel gate.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels, reduction)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Weigh ``[B, C, H, W]``; the input is not added."""
        return self.SpatialGate(self.ChannelGate(x))

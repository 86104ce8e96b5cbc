"""The simple feature pyramid of ViTDet (arXiv 2203.16527): all levels from the last map of a plain transformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

#: Of the layer norms of EVA-02, in its blocks and in its pyramid.
NORM_EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of ``[B, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimplePyramid(nn.Module):
    """Five levels at 4, 2, 1, 1/2 and 1/4 times the resolution of the input.

    Args:
        in_channels: of the input, a multiple of 4.
        out_channels: of all levels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        self.resample = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2),
                    ChannelNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2),
                ),
                nn.Sequential(nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2)),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2),
            ]
        )
        self.project = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, kernel_size=1, bias=False),
                ChannelNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
                ChannelNorm(out_channels),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Build the levels.

        Args:
            x: ``[B, in_channels, h, w]``.

        Returns:
            ``[B, out_channels, s * h, s * w]`` for s = 4, 2, 1, 1/2 and 1/4, the finest first.
        """
        levels = [project(resample(x)) for resample, project in zip(self.resample, self.project, strict=True)]
        return (*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2))

"""The 4D feature space (section 3.1 of the paper): four scales over the full length of the clip, equally wide."""

from __future__ import annotations

from collections.abc import Sequence

from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class ChannelMapper3d(BaseModule):
    """One 1x1x1 convolution per level of a hierarchical backbone, nothing else.

    Args:
        in_channels: of each level.
        out_channels: of every level.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for channels in in_channels)

    def init_weights(self) -> None:
        """Kaiming uniform with a = 1, zero bias."""
        for conv in self.lateral_convs:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """``[B, in_channels[i], T, H_i, W_i]`` to ``[B, out_channels, T, H_i, W_i]`` each."""
        return [conv(feat) for conv, feat in zip(self.lateral_convs, feats, strict=True)]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, T, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every position."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@MODELS.register_module()
class SimplePyramid3d(BaseModule):
    """Four scales from the single map of a plain ViT (the simple feature pyramid of ViTDet, arXiv 2203.16527, in 3D).

    Args:
        in_channels: of the map, which has stride 16.
        out_channels: of the levels, strides 4, 8, 16 and 32.
    """

    def __init__(self, in_channels: int = 768, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4

        def double(channels: int, reduced: int) -> nn.ConvTranspose3d:
            return nn.ConvTranspose3d(channels, reduced, (1, 2, 2), stride=(1, 2, 2))

        def project(channels: int) -> tuple[nn.Module, ...]:
            return (
                nn.Conv3d(channels, out_channels, 1, bias=False),
                ChannelNorm(out_channels),
                nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            )

        up4 = (double(in_channels, half), ChannelNorm(half), nn.GELU(), double(half, quarter))
        self.lateral_convs = nn.ModuleList(
            [
                nn.Sequential(*up4, *project(quarter)),
                nn.Sequential(double(in_channels, half), *project(half)),
                nn.Sequential(*project(in_channels)),
                nn.Sequential(nn.MaxPool3d((1, 2, 2)), *project(in_channels)),
            ]
        )

    def forward(self, feat: Tensor) -> list[Tensor]:
        """``[B, in_channels, T, H, W]`` to four maps ``[B, out_channels, T, H * 16 / stride, W * 16 / stride]``."""
        return [branch(feat) for branch in self.lateral_convs]

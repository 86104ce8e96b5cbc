"""The decoder: features to a mask of each object, and to the feature that updates the compressed token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvbench_plugins.common.precision import at_least_float32

from .attention import expand_rows
from .cbam import CBAM


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class ResBlock(nn.Module):
    """Residual block of two convolutions that activates what comes in; ``downsample`` fits channels, not size.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if in_channels == out_channels else _conv(in_channels, out_channels)
        self.conv1 = _conv(in_channels, out_channels)
        self.conv2 = _conv(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, in_channels, H, W]``."""
        return self.conv2(self.conv1(x.relu()).relu()) + self.downsample(x)


class FeatureFusion(nn.Module):
    """Joins two features of the same size, with attention over channels and places.

    Args:
        in_channels: of both together.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = ResBlock(in_channels, out_channels)
        self.attention = CBAM(out_channels)
        self.block2 = ResBlock(out_channels, out_channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Join two ``[B, C, H, W]``."""
        joined = self.block1(torch.cat([x, y], dim=1))
        return self.block2(joined + self.attention(joined))


class Upsample(nn.Module):
    """Doubles the size of a feature with the help of one that has it.

    Args:
        in_channels: of the feature and of the helping one.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_conv = _conv(in_channels, in_channels)
        self.out_conv = ResBlock(in_channels, out_channels)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """From ``[R, C, 2H, 2W]``, R divides B, and ``[B, C, H, W]`` to ``[B, out_channels, 2H, 2W]``."""
        x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        return self.out_conv(expand_rows(self.skip_conv(skip), len(x)) + x)


class PyramidFusion(nn.Module):
    """The decoder's maps of three sizes and its logits as one feature of the smallest size.

    Args:
        g4_channels: of the map of stride 4, without the logits.
        g8_channels: of the map of stride 8.
        g16_channels: of the map of stride 16.
        out_channels: of each part of the result.
    """

    def __init__(self, g4_channels: int, g8_channels: int, g16_channels: int, out_channels: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(g16_channels, out_channels, kernel_size=1)
        self.g8_conv = nn.Conv2d(g8_channels, out_channels, kernel_size=1)
        self.g4_conv = nn.Conv2d(g4_channels + 1, out_channels, kernel_size=1)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, logits: Tensor) -> Tensor:
        """``[B, 3 * out_channels, H / 16, W / 16]`` of maps of strides 16, 8, 4 and 4."""
        g8 = F.avg_pool2d(g8, 2)
        g4 = F.avg_pool2d(torch.cat([g4, logits], dim=1), 4)
        return torch.cat([self.g16_conv(g16), self.g8_conv(g8), self.g4_conv(g4)], dim=1)


@MODELS.register_module()
class JointFormerMaskHead(BaseModule):
    """Decoder of JointFormer; a row of a batch is one object of one image.

    Args:
        embed_dims: channels of the backbone's features of strides 4, 8 and 16; the last is a multiple of 3.
        init_cfg: as in mmengine.

    Raises:
        ValueError: the last number of channels is no multiple of 3.
    """

    def __init__(self, embed_dims: Sequence[int] = (256, 384, 768), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        c4, c8, c16 = embed_dims
        if c16 % 3:
            raise ValueError(
                f'embed_dims={tuple(embed_dims)}: the feature of {c16} channels is made of three equal parts, its '
                'channels must be a multiple of 3'
            )
        self.fuser_16 = FeatureFusion(2 * c16, c8)
        self.up_16_8 = Upsample(c8, c4)
        self.up_8_4 = Upsample(c4, c4)
        self.pred = _conv(c4, 1)
        self.fuser_all = PyramidFusion(c4, c4, c8, c16 // 3)

    def forward(self, f16: Tensor, enhanced: Tensor, f8: Tensor, f4: Tensor) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            f16: ``[B, C3, h, w]``, from the memory.
            enhanced: likewise, enhanced by the compressed token.
            f8: ``[R, C2, 2h, 2w]`` of R images; R divides B, and each image serves B / R consecutive objects.
            f4: ``[R, C1, 4h, 4w]``, likewise.

        Returns:
            Mask logits ``[B, 1, 16h, 16w]`` in at least single precision, and the feature ``[B, C3, h, w]`` that
            updates the compressed token.
        """
        g16 = self.fuser_16(f16, enhanced)
        g8 = self.up_16_8(f8, g16)
        g4 = self.up_8_4(f4, g8)
        logits = self.pred(g4.relu())
        fusion = self.fuser_all(g16, g8, g4, logits)
        logits = F.interpolate(at_least_float32(logits), scale_factor=4, mode='bilinear', align_corners=False)
        return logits, fusion

"""Stages 1 and 2 of ConvMAE: patches and convolutional blocks on maps, before any attention."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from .joint_blocks import feed_forward

_pointwise = partial(nn.Conv2d, kernel_size=1)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[B, C, H, W]``."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvPatchEmbed(nn.Module):
    """Patches that do not overlap, normalised and activated.

    Args:
        in_channels: channels of the map.
        embed_dims: channels of a patch.
        patch_size: side of a patch.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)
        self.norm = ChannelNorm(embed_dims)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Embed ``[B, in_channels, H, W]`` as ``[B, embed_dims, H / patch_size, W / patch_size]``."""
        return self.act(self.norm(self.proj(x)))


class ConvBlock(nn.Module):
    """Transformer block whose attention is a depthwise convolution.

    Args:
        embed_dims: channels.
        mlp_ratio: hidden channels of the feed-forward layer over ``embed_dims``.
    """

    def __init__(self, embed_dims: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(embed_dims)
        self.conv1 = _pointwise(embed_dims, embed_dims)
        self.attn = nn.Conv2d(embed_dims, embed_dims, kernel_size=5, padding=2, groups=embed_dims)
        self.conv2 = _pointwise(embed_dims, embed_dims)
        self.norm2 = ChannelNorm(embed_dims)
        self.mlp = feed_forward(_pointwise, embed_dims, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]``."""
        x = x + self.conv2(self.attn(self.conv1(self.norm1(x))))
        return x + self.mlp(self.norm2(x))


def conv_blocks(depth: int, embed_dims: int, mlp_ratio: int) -> nn.Sequential:
    """``depth`` blocks in a row."""
    return nn.Sequential(*(ConvBlock(embed_dims, mlp_ratio) for _ in range(depth)))

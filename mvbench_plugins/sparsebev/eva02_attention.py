"""Self-attention of EVA-02 (arXiv 2303.11331): rotary positions in two dimensions, over windows or the whole map."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Positions along each axis that the model was pretrained with: any other grid is squeezed into their range.
BASE_POSITIONS = 16
_THETA = 10000.0


class Rotation(NamedTuple):
    """Cosines and sines of the angle of each token and channel, ``[tokens, channels of a head]``."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn the channels (2i, 2i + 1) of ``[..., tokens, channels]``, in no less than the precision of the table."""
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        return x * self.cos + torch.stack([-second, first], dim=-1).flatten(-2) * self.sin


class RotaryTable(nn.Module):
    """Rotations of the tokens of a square grid: half of the channels turns by the row, the other by the column.

    Args:
        grid: tokens along each side that the table is made for.
        channels: of an attention head, a multiple of 4.
    """

    def __init__(self, grid: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        frequencies = _THETA ** -(torch.arange(0, half, 2, dtype=torch.float64) / half)
        positions = torch.arange(grid, dtype=torch.float64) * BASE_POSITIONS / grid
        angles = (positions[:, None] * frequencies).repeat_interleave(2, dim=1)  # [grid, half]
        angles = torch.cat(
            [angles[:, None].expand(-1, grid, -1), angles[None].expand(grid, -1, -1)], dim=-1
        )  # [grid, grid, channels]
        table = torch.stack([angles.cos(), angles.sin()]).to(torch.get_default_dtype())
        # Computed, hence no entry of the state dict.
        self.register_buffer('table', table.permute(0, 3, 1, 2).contiguous(), persistent=False)

    def forward(self, height: int, width: int) -> Rotation:
        """Rotations of height * width tokens, row by row.

        As released weights require, another grid than the table's gets resized cosines and sines, not those of resized
        positions: they are then no longer those of an angle.
        """
        table = self.table
        if table.shape[2:] != (height, width):
            table = F.interpolate(table, size=(height, width), mode='bicubic', align_corners=False)
        return Rotation(*table.flatten(2).transpose(1, 2))


class RotaryAttention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by their positions; keys have no bias.

    Args:
        embed_dims: channels of the tokens.
        num_heads: attention heads.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embed_dims, embed_dims)
        self.k_proj = nn.Linear(embed_dims, embed_dims, bias=False)
        self.v_proj = nn.Linear(embed_dims, embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Attend among all tokens of a row of the batch.

        Args:
            x: ``[B, N, C]``.
            rotation: of the N tokens.

        Returns:
            ``[B, N, C]``.
        """
        query, key, value = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, heads, N, C / heads]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (rotation(part).to(value.dtype) for part in (query, key))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut maps into square windows, padded with zeros at the right and at the bottom where they do not divide.

    Args:
        x: ``[B, H, W, C]``.
        window: tokens along each side of a window.

    Returns:
        ``[B * windows, window * window, C]``.
    """
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # [B, rows, window, columns, window, C]
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def join_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Put windows back together and cut the padding off, ``[B, height, width, C]``: undoes :func:`split_windows`."""
    rows, columns = -(-height // window), -(-width // window)
    x = windows.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width]

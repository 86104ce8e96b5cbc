"""The position table: the compressed token's row, then a square grid that is resized to the frame's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_table(embed_dims: int, grid: int) -> Tensor:
    """A table to start from: sines and cosines of the column, then of the row; zeros for the compressed token.

    Args:
        embed_dims: channels C, a multiple of 4.
        grid: rows and columns of the grid.

    Returns:
        ``[1, 1 + grid * grid, C]``, the grid row by row.
    """
    quarter = embed_dims // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, C / 2]
    x, y = axis[None].expand(grid, -1, -1), axis[:, None].expand(-1, grid, -1)
    places = torch.cat([x, y], dim=2).flatten(0, 1)
    return torch.cat([places.new_zeros(1, embed_dims), places])[None].to(torch.get_default_dtype())


def grid_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Positions of the tokens of a frame.

    Args:
        table: ``[1, 1 + grid * grid, C]``.
        height: tokens from top to bottom.
        width: tokens from left to right.

    Returns:
        ``[1, height * width, C]``, row by row; the table's own where the grid is the same.
    """
    grid = int((table.shape[1] - 1) ** 0.5)
    places = table[:, 1:]
    if (height, width) == (grid, grid):
        return places
    maps = places.transpose(1, 2).unflatten(2, (grid, grid))
    return F.interpolate(maps, (height, width), mode='bicubic', align_corners=False).flatten(2).transpose(1, 2)

"""GridMask: images seen through a lattice of stripes."""

from __future__ import annotations

import torch
from torch import Tensor

_RATIO = 0.5  # width of a stripe, of the distance of two
_CANVAS = 1.5  # sides of the area that stripes are laid on, of those of the image, which is its middle


def grid_mask(size: tuple[int, int]) -> Tensor:
    """Draw a mask from PyTorch's generator of the CPU.

    Rows and columns of stripes of one random distance and offset; what lies in any stripe survives.

    Args:
        size: height, at least 3, and width in pixels.

    Returns:
        bool ``[H, W]``, true where the image survives.
    """
    height, width = size
    distance = _draw(2, height)
    stripe = min(max(int(distance * _RATIO + 0.5), 1), distance - 1)
    rows, columns = (_stripes(length, distance, stripe, _draw(0, distance)) for length in (height, width))
    return rows[:, None] | columns


def _stripes(length: int, distance: int, stripe: int, offset: int) -> Tensor:
    """Which of ``length`` positions lie in a stripe."""
    canvas = int(_CANVAS * length)
    place = torch.arange(length) + (canvas - length) // 2 - offset
    number = place.div(distance, rounding_mode='floor')
    return (number >= 0) & (number < canvas // distance) & (place - number * distance < stripe)


def _draw(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()))

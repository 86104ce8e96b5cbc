"""Person boxes before features are cut out of them. Corners are pixels that belong to the box: width = x2 - x1 + 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def extend_boxes(boxes: Tensor, share: tuple[float, float], shape: tuple[int, int]) -> Tensor:
    """Scale boxes about their centre, then clip them to the clip; boxes that end up empty stay.

    Args:
        boxes: ``[n, 4]`` in pixels.
        share: of the width and of the height that is added; negative ones shrink.
        shape: height and width of the clip before padding.
    """
    height, width = shape
    size = boxes[:, 2:] - boxes[:, :2] + 1
    change = size * size.new_tensor(share) / 2
    limits = boxes.new_tensor([width - 1, height - 1] * 2)
    return torch.minimum(torch.cat([boxes[:, :2] - change, boxes[:, 2:] + change], dim=1).clamp(min=0), limits)


#: Range of the shift of x1, y1, x2, y2 in shares of the box's width or height: mostly outwards.
_JITTER = ((-0.2, 0.1), (-0.1, 0.05), (-0.1, 0.2), (-0.05, 0.1))


def jitter_boxes(boxes: Tensor, shape: tuple[int, int], draws: Tensor | None = None) -> Tensor:
    """Shift each side of each box at random; boxes stay inside the clip and at least one pixel wide and high.

    Args:
        boxes: ``[n, 4]`` in pixels.
        shape: height and width of the clip before padding.
        draws: uniform numbers ``[4, n]`` in [0, 1) for x1, y1, x2, y2; None draws them.
    """
    height, width = shape
    draws = torch.rand(4, len(boxes), device=boxes.device) if draws is None else draws
    low, high = boxes.new_tensor(_JITTER).T
    size = (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)
    x1, y1, x2, y2 = (boxes + size * (draws.T.to(boxes) * (high - low) + low)).unbind(1)
    x1, y1 = x1.clamp(0, width - 2), y1.clamp(0, height - 2)
    return torch.stack([x1, y1, torch.maximum(x2.clamp(max=width - 1), x1 + 1),
                        torch.maximum(y2.clamp(max=height - 1), y1 + 1)], dim=1)  # fmt: skip


def relative_boxes(boxes: Tensor, shape: tuple[int, int], ratio: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Boxes as they are written for the metric: relative corners ``[n, 4]`` of the outer edges, clipped to [0, 1].

    Args:
        boxes: ``[n, 4]`` in pixels of the clip.
        shape: height and width of the video, which the extra pixel is one of.
        ratio: pixels of the video per pixel of the clip, across and down.
    """
    height, width = shape
    outer = boxes * boxes.new_tensor([*ratio, *ratio]) + boxes.new_tensor([0, 0, 1, 1])
    return (outer / boxes.new_tensor([width, height] * 2)).clamp(0, 1)

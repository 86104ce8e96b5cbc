"""Features of people over the whole clip (section 3.4 of the paper): boxes, enlarged, are carried to all frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.ops import RoIAlign
from torch import Tensor, nn

from mvbench_plugins.common.precision import at_least_float32


def extend_boxes(boxes: Tensor, extend: tuple[float, float], shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Enlarge boxes about their centre, and clip them to the last pixel of their clip.

    Args:
        boxes: corner boxes ``[B, N, 4]`` in pixels; both corners count as part of the box, so that its width is
            ``x2 - x1 + 1``.
        extend: share of width and of height that is added.
        shapes: height and width of each clip, before padding.

    Returns:
        ``[B, N, 4]``.
    """
    margin = (boxes[..., 2:] - boxes[..., :2] + 1) * boxes.new_tensor(extend) / 2
    extended = torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], dim=-1)
    largest = boxes.new_tensor([(width - 1, height - 1) * 2 for height, width in shapes])[:, None]
    return torch.minimum(extended.clamp(min=0), largest)


class ActionRoIPooling(nn.Module):
    """RoIAlign on every slice in time, the largest value of each slice, and their mean.

    Args:
        stride: pixels per cell of the maps.
        roi_size: bins per side.
    """

    def __init__(self, stride: int, roi_size: int = 7) -> None:
        super().__init__()
        self.roi_align = RoIAlign(roi_size, 1 / stride, sampling_ratio=2, pool_mode='avg', aligned=True)

    def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Pool.

        Args:
            maps: ``[B, t, h, w, C]``.
            boxes: corner boxes ``[B, N, 4]`` in pixels.

        Returns:
            ``[B, N, C]``.
        """
        batch, num_slices, _, _, channels = maps.shape
        # A box is the same on all slices: they ride along as channels.
        flat = at_least_float32(maps).permute(0, 1, 4, 2, 3).flatten(1, 2)
        clip = torch.arange(batch, device=boxes.device).repeat_interleave(boxes.shape[1])
        rois = torch.cat([clip[:, None].to(flat), boxes.flatten(0, 1).to(flat)], dim=1)
        pooled = self.roi_align(flat.contiguous(), rois).amax((2, 3))
        return pooled.unflatten(0, boxes.shape[:2]).unflatten(2, (num_slices, channels)).mean(2)

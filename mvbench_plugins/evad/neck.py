"""The key-frame pyramid (section 3.3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmaction.registry import MODELS
from mmdet.models.necks import FPN
from torch import Tensor


@MODELS.register_module()
class KeyframeFPN(FPN):
    """mmdet's FPN on maps of one size: each is brought to the size of its level first.

    Args:
        scales: ratio of each level's size to that of the maps, the finest level first.
        kwargs: arguments of the stock class.
    """

    def __init__(self, scales: Sequence[float] = (4, 2, 1, 0.5), **kwargs) -> None:
        super().__init__(**kwargs)
        self.scales = tuple(scales)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pyramid of maps ``[B, C, h, w]``: ``[B, out_channels, h * scale, w * scale]`` of each level."""
        return super().forward(
            [
                x if scale == 1 else F.interpolate(x, scale_factor=scale, mode='nearest')
                for x, scale in zip(inputs, self.scales, strict=True)
            ]
        )

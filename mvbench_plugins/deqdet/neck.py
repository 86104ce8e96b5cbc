"""The neck: one convolution per level, then one group normalisation that all levels share."""

from __future__ import annotations

from mmdet.models.necks import ChannelMapper
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ChannelMapperWithGN(ChannelMapper):
    """``ChannelMapper`` (3x3 convolution and ReLU per level) followed by a shared ``GroupNorm`` after the ReLU.

    Args:
        in_channels: channels of each backbone level.
        out_channels: channels of each output level.
        num_groups: groups of the normalisation.
        kwargs: arguments of the stock ``ChannelMapper``.
    """

    def __init__(self, in_channels: list[int], out_channels: int, num_groups: int = 32, **kwargs) -> None:
        super().__init__(in_channels, out_channels, **kwargs)
        self.gn_out = nn.GroupNorm(num_groups, out_channels)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``[B, C_l, H_l, W_l]`` per level to ``[B, out_channels, H_l, W_l]``."""
        return tuple(self.gn_out(out) for out in super().forward(inputs))

"""SlowFast as a pyramid: all four stages of both pathways, with the non-local blocks of the deep variant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmaction.models.backbones import ResNet3dSlowFast
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvbench_plugins.common.slowfast import iter_stages


class DotProductNonLocal(BaseModule):
    """Non-local block without a softmax (Non-local Neural Networks, arXiv 1711.07971, equation 4), on pooled keys.

    Differs from mmcv's ``NonLocal3d`` as the PySlowFast weights require: keys and values are pooled before their
    projections, in time as well, and the output projection has a bias in front of its norm.

    Args:
        channels: of input and output; the inner width is half of it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv3d(channels, inner, 1)
        self.phi = nn.Conv3d(channels, inner, 1)
        self.g = nn.Conv3d(channels, inner, 1)
        self.conv_out = nn.Conv3d(inner, channels, 1)
        self.bn = nn.BatchNorm3d(channels)

    def init_weights(self) -> None:
        """Start as the identity: the last norm's scale is zero."""
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add to each position of ``[B, C, T, H, W]`` what all pooled positions tell it."""
        pooled = F.max_pool3d(x, 2)
        query, key, value = (
            conv(feat).flatten(2) for conv, feat in ((self.theta, x), (self.phi, pooled), (self.g, pooled))
        )
        affinity = query.transpose(1, 2) @ key / key.shape[-1]  # [B, positions, pooled positions]
        mixed = (affinity @ value.transpose(1, 2)).transpose(1, 2)
        return x + self.bn(self.conv_out(mixed.unflatten(2, x.shape[2:])))


@MODELS.register_module()
class MultiScaleSlowFast(ResNet3dSlowFast):
    """mmaction's SlowFast with all stages as outputs.

    Further differences from the stock class: the clip's frames all go to the fast pathway, and the slow one takes every
    ``speed_ratio``-th on average, the first and the last included: 0, 4, 8, 13, 17, 22, 26, 31 of 32.

    Args:
        speed_ratio: frames of the fast pathway per frame of the slow one.
        channel_ratio: channels of the slow pathway per channel of the fast one.
        non_local_blocks: blocks of the slow pathway's third stage that a non-local block follows.
        kwargs: ``slow_pathway``, ``fast_pathway``, ``pretrained`` and ``init_cfg`` of the stock class.
    """

    def __init__(
        self, speed_ratio: int = 4, channel_ratio: int = 8, non_local_blocks: Sequence[int] = (), **kwargs
    ) -> None:
        super().__init__(resample_rate=speed_ratio, speed_ratio=speed_ratio, channel_ratio=channel_ratio, **kwargs)
        for index in non_local_blocks:
            block = self.slow_path.layer3[index]
            block.non_local = True
            block.non_local_block = DotProductNonLocal(block.conv3.norm.num_features)

    def init_weights(self, pretrained: str | None = None) -> None:
        """As the stock class; without a pretrained file, non-local blocks start as the identity."""
        super().init_weights(pretrained)
        if self.pretrained is None:
            for module in self.modules():
                if isinstance(module, DotProductNonLocal):
                    module.init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of all stages, strides 4, 8, 16 and 32.

        Args:
            x: clips ``[B, 3, T, H, W]``; T divides by ``speed_ratio``.

        Returns:
            ``[B, C_slow + C_fast, T / speed_ratio, H / stride, W / stride]`` each: the slow pathway before it takes in
            the fast one, and the fast pathway, max-pooled in time.

        Raises:
            ValueError: the number of frames does not divide by ``speed_ratio``.
        """
        num_frames = x.shape[2]
        if num_frames % self.speed_ratio:
            raise ValueError(
                f'clips of {num_frames} frames do not divide by speed_ratio={self.speed_ratio}: change clip_len'
            )
        chosen = torch.linspace(0, num_frames - 1, num_frames // self.speed_ratio, device=x.device).long()
        window = (self.speed_ratio, 1, 1)
        return tuple(
            torch.cat([slow, F.max_pool3d(fast, window)], dim=1) for slow, fast in iter_stages(self, x[:, :, chosen], x)
        )

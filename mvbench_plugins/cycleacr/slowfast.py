"""SlowFast as AlphAction builds it, whose weights CycleACR starts from."""

from __future__ import annotations

import torch
from mmaction.models.backbones import ResNet3dSlowFast
from mmaction.registry import MODELS
from torch import Tensor, nn

from mvbench_plugins.common.slowfast import iter_stages


@MODELS.register_module()
class AlphActionSlowFast(ResNet3dSlowFast):
    """mmaction's SlowFast with AlphAction's differences.

    Max pools have no padding; lateral connections are plain convolutions with a bias; and the two pathways take frames
    of their own from the clip. Freeze the norms by ``norm_cfg=dict(type='BN3d', requires_grad=False)`` and
    ``norm_eval=True`` of both pathways.

    Args:
        tau: the slow pathway takes every tau-th frame of the clip.
        speed_ratio: frames of the fast pathway per frame of the slow one (alpha).
        channel_ratio: channels of the slow pathway per channel of the fast one.
        slow_jitter: in training, start the slow pathway at a random one of the first tau frames, drawn for each batch.
        kwargs: ``slow_pathway``, ``fast_pathway``, ``pretrained`` and ``init_cfg`` of the stock class.
    """

    def __init__(
        self, tau: int = 8, speed_ratio: int = 8, channel_ratio: int = 8, slow_jitter: bool = True, **kwargs
    ) -> None:
        super().__init__(resample_rate=tau, speed_ratio=speed_ratio, channel_ratio=channel_ratio, **kwargs)
        self.tau = tau
        self.slow_jitter = slow_jitter
        for path in (self.slow_path, self.fast_path):
            path.maxpool.padding = 0
        for name in ('conv1_lateral', *self.slow_path.lateral_connections):
            module = getattr(self.slow_path, name)
            conv = module.conv
            module.conv = nn.Conv3d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both pathways, stride 16 in space.

        Args:
            x: clips ``[B, 3, T, H, W]``; T divides by ``tau``.

        Returns:
            Slow ``[B, C, T / tau, h, w]`` and fast ``[B, C / channel_ratio, T * speed_ratio / tau, h, w]``.

        Raises:
            ValueError: the number of frames does not divide by ``tau``.
        """
        if x.shape[2] % self.tau:
            raise ValueError(f'clips of {x.shape[2]} frames do not divide by tau={self.tau}: change clip_len')
        start = (self.tau - 1) // 2
        if self.training and self.slow_jitter:
            start = int(torch.randint(self.tau, ()))
        fast_step = self.tau // self.speed_ratio
        slow, fast = x[:, :, start :: self.tau], x[:, :, (fast_step - 1) // 2 :: fast_step]
        for stage in iter_stages(self, slow, fast):
            last = stage  # the others are not kept
        return last

"""Running the two pathways of mmaction's SlowFast stage by stage, where a model wants more than the last one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmaction.models.backbones import ResNet3dSlowFast
from torch import Tensor


def iter_stages(backbone: ResNet3dSlowFast, slow: Tensor, fast: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Features of both pathways after each stage.

    Args:
        backbone: with a lateral connection behind the stem and every stage but the last.
        slow: frames of the slow pathway ``[B, 3, T, H, W]``.
        fast: frames of the fast pathway ``[B, 3, T * speed_ratio, H, W]``.

    Yields:
        Slow features before they take in the fast ones, and fast features.
    """
    slow_path, fast_path = backbone.slow_path, backbone.fast_path
    slow = slow_path.maxpool(slow_path.conv1(slow))
    fast = fast_path.maxpool(fast_path.conv1(fast))
    laterals = ['conv1_lateral', *slow_path.lateral_connections]
    for stage, lateral in zip(slow_path.res_layers, laterals, strict=True):
        slow = torch.cat([slow, getattr(slow_path, lateral)(fast)], dim=1)
        slow, fast = getattr(slow_path, stage)(slow), getattr(fast_path, stage)(fast)
        yield slow, fast

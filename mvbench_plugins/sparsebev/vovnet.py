"""VoVNet-99 with effective squeeze-excitation (VoVNetV2 of CenterMask, arXiv 1911.06667), as DD3D pretrains it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet3d.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvbench_plugins.common.checkpoint import accept_official_backbones

from .backbone_checkpoint import convert_vovnet


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> ConvModule:
    return ConvModule(
        in_channels, out_channels, kernel, stride, padding=kernel // 2, norm_cfg=dict(type='BN'), bias=False
    )


class OneShotAggregation(nn.Module):
    """A row of 3x3 convolutions whose outputs are all joined at once, then weighted by channel (eSE).

    Args:
        in_channels: of the input.
        conv_channels: of each 3x3 convolution.
        out_channels: of the output.
        num_convs: how many 3x3 convolutions.
        residual: add the input at the end; needs as many channels as the output has.
    """

    def __init__(self, in_channels: int, conv_channels: int, out_channels: int, num_convs: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(
            _conv_bn_relu(conv_channels if i else in_channels, conv_channels, 3) for i in range(num_convs)
        )
        self.concat = _conv_bn_relu(in_channels + num_convs * conv_channels, out_channels, 1)
        self.ese = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, H, W]`` to ``[B, out_channels, H, W]``."""
        features = [x]
        for layer in self.layers:
            features.append(layer(features[-1]))
        joined = self.concat(torch.cat(features, dim=1))
        joined = joined * F.hardsigmoid(self.ese(joined.mean((2, 3), keepdim=True)))  # relu6(y + 3) / 6
        return x + joined if self.residual else joined


@MODELS.register_module()
class VoVNetV2(BaseModule):
    """The backbone; by default V-99-eSE. Batch norm always uses its stored statistics.

    Officially released files load directly: whole models, and DD3D's ``dd3d_det_final.pth`` through
    ``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='img_backbone.')``.

    Args:
        stem_channels: of the three convolutions of the stem; the first and the last have stride 2.
        conv_channels: of the 3x3 convolutions, for each of the stages 2 to 5.
        out_channels: of the output of each stage.
        num_blocks: blocks of each stage.
        num_convs: 3x3 convolutions in a block.
        frozen_stages: 0 freezes the stem, n the n first stages as well (1: stage 2), -1 nothing.
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        init_cfg: initialisation, as everywhere in mm.

    Raises:
        ValueError: there are not as many stages.
    """

    def __init__(
        self,
        stem_channels: Sequence[int] = (64, 64, 128),
        conv_channels: Sequence[int] = (128, 160, 192, 224),
        out_channels: Sequence[int] = (256, 512, 768, 1024),
        num_blocks: Sequence[int] = (1, 3, 9, 3),
        num_convs: int = 5,
        frozen_stages: int = 1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not -1 <= frozen_stages <= len(num_blocks):
            raise ValueError(
                f'frozen_stages={frozen_stages}: expected -1 (none) to {len(num_blocks)}, the number of stages'
            )
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        # Stages and blocks count as in the paper, from 2 and from 1: the official key names say it that way.
        steps = zip((3, *stem_channels[:2]), stem_channels, (2, 1, 2), strict=True)
        self.stem = nn.Sequential(
            OrderedDict((f'conv{i}', _conv_bn_relu(into, out, 3, step)) for i, (into, out, step) in enumerate(steps, 1))
        )
        self.stages: list[str] = []
        into = stem_channels[-1]
        for i, (inner, out, depth) in enumerate(zip(conv_channels, out_channels, num_blocks, strict=True), start=2):
            blocks = OrderedDict()
            for block in range(1, depth + 1):
                blocks[f'block{block}'] = OneShotAggregation(into, inner, out, num_convs, residual=block > 1)
                into = out
            self.stages.append(f'stage{i}')
            self.add_module(f'stage{i}', nn.Sequential(blocks))
        self._freeze()
        self.train()  # a module that nobody set a mode of is in training
        accept_official_backbones(self, convert_vovnet)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of all stages.

        Args:
            x: normalised images ``[B, 3, H, W]``.

        Returns:
            ``[B, out_channels, h, w]`` for each stage, at strides 4, 8, 16 and 32.
        """
        x = self.stem(x)
        maps: list[Tensor] = []
        for name in self.stages:
            if maps:  # stage 2 keeps the stem's stride
                x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
            for block in getattr(self, name):
                x = checkpoint(block, x, use_reentrant=False) if self.with_cp and x.requires_grad else block(x)
            maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> VoVNetV2:
        """Set the mode; batch norm stays in that of evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _freeze(self) -> None:
        frozen = ('stem', *self.stages)[: self.frozen_stages + 1]
        for name in frozen:
            getattr(self, name).requires_grad_(False)

"""The decoder: one layer, applied again and again, that refines boxes from what they sample (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.layers import inverse_sigmoid
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvbench_plugins.common.adaptive_mixing import AdaptiveMixing
from mvbench_plugins.ops.msmv_sampling import FlatViews

from .attention import ScaleAdaptiveSelfAttention
from .boxes import CODE_SIZE, LOG_SIZE, VELOCITY, XYZ
from .frame_geometry import FrameGeometry
from .sampling import AdaptiveSampling

_MIXED_POINTS = 128  # points per group after mixing
_MIN_AGE = 1e-5  # seconds


class Refinement(NamedTuple):
    """What one application of the layer gives.

    Attributes:
        feats: queries ``[B, Q, C]``.
        logits: class scores before the sigmoid ``[B, Q, num_classes]``.
        boxes: query boxes ``[B, Q, 10]``, see :mod:`mvbench_plugins.sparsebev.boxes`.
    """

    feats: Tensor
    logits: Tensor
    boxes: Tensor


class SparseBEVDecoderLayer(BaseModule):
    """Attention among the queries, sampling, adaptive mixing, feed-forward, and the two branches.

    Args:
        num_classes: number of classes.
        embed_dims: width C of queries and features.
        num_frames: frames T.
        num_levels: levels of the feature pyramid.
        num_points: sampled points per group and frame.
        num_groups: groups of feature channels.
        num_heads: attention heads.
        feedforward_channels: hidden width of the feed-forward block.
        dropout: of attention and feed-forward.
        pc_range: range in metres that the boxes are relative to.
        with_cp: recompute attention, sampling and mixing in the backward pass instead of keeping their activations.
        level_weight_order: see :class:`AdaptiveSampling`.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int,
        num_frames: int,
        num_levels: int,
        num_points: int,
        num_groups: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        pc_range: Sequence[float],
        with_cp: bool,
        level_weight_order: str,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        width = embed_dims
        self.position_encoder = nn.Sequential(
            nn.Linear(3, width),
            nn.LayerNorm(width),
            nn.ReLU(True),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.ReLU(True),
        )
        self.self_attn = ScaleAdaptiveSelfAttention(width, num_heads, dropout, pc_range)
        self.sampling = AdaptiveSampling(
            width, num_groups, num_points, num_levels, num_frames, pc_range, level_weight_order
        )
        self.mixing = AdaptiveMixing(width, width, num_frames * num_points, _MIXED_POINTS, num_groups)
        self.ffn = FFN(width, feedforward_channels, ffn_drop=dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        hidden: list[nn.Module] = []
        for _ in range(2):
            hidden += [nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(True)]
        self.cls_branch = nn.Sequential(*hidden, nn.Linear(width, num_classes))
        hidden = []
        for _ in range(2):
            hidden += [nn.Linear(width, width), nn.ReLU(True)]
        self.reg_branch = nn.Sequential(*hidden, nn.Linear(width, CODE_SIZE))

    def init_weights(self) -> None:
        """Class scores of 0.01; a mixing that every query starts with, projected by PyTorch's own initialisation."""
        super().init_weights()
        self.mixing.out_proj.reset_parameters()
        nn.init.constant_(self.cls_branch[-1].bias, bias_init_with_prob(0.01))

    def forward(
        self, boxes: Tensor, feats: Tensor, views: FlatViews, frames: FrameGeometry, blocked: Tensor | None = None
    ) -> Refinement:
        """One refinement.

        Args:
            boxes: query boxes ``[B, Q, 10]``.
            feats: queries ``[B, Q, C]``.
            views: features of all images.
            frames: geometry of all images.
            blocked: ``[Q, Q]``, True where a query (row) must not see another (column).
        """
        feats = feats + self.position_encoder(boxes[..., XYZ])
        feats = self.norm1(self._maybe_recompute(self.self_attn, boxes, feats, blocked))
        sampled = self._maybe_recompute(self.sampling, boxes, feats, views, frames)
        feats = self.norm2(self._maybe_recompute(self.mixing, sampled, feats))
        feats = self.norm3(self.ffn(feats))
        return Refinement(feats, self.cls_branch(feats), self._refine(boxes, self.reg_branch(feats), frames.age))

    def _maybe_recompute(self, part: Callable[..., Tensor], *args) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(part, *args, use_reentrant=False)
        return part(*args)

    @staticmethod
    def _refine(boxes: Tensor, change: Tensor, age: Tensor) -> Tensor:
        """New query boxes: the place moves, everything else is predicted afresh."""
        place = (inverse_sigmoid(boxes[..., XYZ]) + change[..., XYZ]).sigmoid()
        velocity = change[..., VELOCITY]
        if age.shape[1] > 1:
            # The network predicts the way from frame 1 to the key frame. Without a past (repeated key frames, or a
            # later frame 1) what it says counts as m/s, as released weights are used to.
            seconds = age[:, 1]
            seconds = torch.where(seconds < _MIN_AGE, 1.0, seconds)
            velocity = velocity / seconds[:, None, None]
        # Sizes, then sine and cosine.
        return torch.cat([place, change[..., LOG_SIZE.start : VELOCITY.start], velocity], dim=-1)


class SparseBEVDecoder(BaseModule):
    """Applies one layer several times, with the same weights.

    Args:
        num_layers: how many times.
        layer: arguments of :class:`SparseBEVDecoderLayer`.
    """

    def __init__(self, num_layers: int, **layer) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.layer = SparseBEVDecoderLayer(**layer)

    def forward(
        self, boxes: Tensor, feats: Tensor, views: FlatViews, frames: FrameGeometry, blocked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Refine from layer to layer; boxes pass on detached, queries do not.

        Args:
            boxes: the first query boxes ``[B, Q, 10]``.
            feats: the first queries ``[B, Q, C]``.
            views: features of all images.
            frames: geometry of all images.
            blocked: ``[Q, Q]``, True where a query (row) must not see another (column).

        Returns:
            Class logits ``[S, B, Q, num_classes]`` and query boxes ``[S, B, Q, 10]`` of all S applications. What is not
            finite is replaced, so that a query that diverged cannot take the others with it.
        """
        all_logits, all_boxes = [], []
        for _ in range(self.num_layers):
            feats, logits, new_boxes = self.layer(boxes, feats, views, frames, blocked)
            all_logits.append(logits)
            all_boxes.append(new_boxes)
            boxes = new_boxes.detach()
        return torch.stack(all_logits).nan_to_num(), torch.stack(all_boxes).nan_to_num()

"""One decoder layer (section 3 of the paper): attention, 3D sampling, adaptive mixing, feed-forward, two branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.losses import accuracy
from mmdet.models.roi_heads.bbox_heads import DIIHead
from mmdet.models.task_modules import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, reduce_mean
from mmengine.model import bias_init_with_prob
from torch import Tensor, nn

from mvbench_plugins.common.adaptive_mixing import AdaptiveMixing
from mvbench_plugins.common.xyzr import decode_xyzr, encode_xyzr, log_iof, xyzr_embedding, xyzr_sizes
from mvbench_plugins.ops.pyramid_sampling import FlatPyramid, sample_pyramid


class DecoderState(NamedTuple):
    """What one decoder layer hands to the next, and what is supervised.

    Attributes:
        position: xyzr ``[B, N, 4]``, see :mod:`mvbench_plugins.common.xyzr`.
        content: ``[B, N, C]``.
        box: corner boxes ``[B, N, 4]`` in pixels of the resized image, not clipped.
        logits: class scores before the sigmoid ``[B, N, num_classes]``; before the first layer of no class.
    """

    position: Tensor
    content: Tensor
    box: Tensor
    logits: Tensor

    @classmethod
    def from_boxes(cls, box: Tensor, content: Tensor) -> DecoderState:
        """The state that has these boxes and contents."""
        return cls(encode_xyzr(box), content, box, content.new_zeros(*content.shape[:2], 0))

    def detach(self) -> DecoderState:
        """The same state without its history."""
        return DecoderState(*(x.detach() for x in self))


@MODELS.register_module()
class AdaMixerHead(DIIHead):
    """One AdaMixer decoder layer, as DEQDet ties it (paper, section 3.2).

    Only target assignment and the hidden layers' arrangement come from the stock ``DIIHead``; the RoI part of that
    class is not built.

    Args:
        num_classes: number of foreground classes.
        content_dim: content width C.
        feat_channels: channels F of the feature pyramid.
        in_points: sampled points per group.
        out_points: points per group after spatial mixing.
        n_groups: groups of channels that are sampled and mixed independently.
        num_heads: attention heads.
        feedforward_channels: hidden width of the feed-forward block.
        num_ffn_fcs: linear layers of the feed-forward block.
        num_cls_fcs: hidden layers of the class branch.
        num_reg_fcs: hidden layers of the box branch.
        dropout: dropout of attention and feed-forward.
        ffn_act_cfg: activation of the feed-forward block.
        loss_iou: IoU loss; ``loss_cls`` and ``loss_bbox`` are those of the stock head.
        kwargs: further arguments of the stock ``BBoxHead``. ``bbox_coder`` is accepted and without effect.
    """

    def __init__(
        self,
        num_classes: int = 80,
        content_dim: int = 256,
        feat_channels: int = 256,
        in_points: int = 32,
        out_points: int = 128,
        n_groups: int = 4,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        num_ffn_fcs: int = 2,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 1,
        dropout: float = 0.0,
        ffn_act_cfg: ConfigType = dict(type='ReLU', inplace=True),
        loss_iou: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        **kwargs,
    ) -> None:
        if content_dim % 8 or content_dim % num_heads or feat_channels % n_groups:
            raise ValueError(
                f'AdaMixerHead: content_dim ({content_dim}) must be a multiple of 8 and of num_heads ({num_heads}), '
                f'feat_channels ({feat_channels}) of n_groups ({n_groups})'
            )
        # DIIHead's own constructor would add 11 M parameters of RoI interaction that are never called.
        super(DIIHead, self).__init__(
            num_classes=num_classes, reg_decoded_bbox=True, reg_class_agnostic=True, init_cfg=None, **kwargs
        )
        self.loss_iou = MODELS.build(loss_iou)
        self.content_dim = content_dim
        self.num_heads = num_heads
        self.n_groups = n_groups
        self.in_points = in_points

        self.iof_tau = nn.Parameter(torch.ones(num_heads))
        self.attention = nn.MultiheadAttention(content_dim, num_heads, dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(content_dim)
        self.sampling_offset = nn.Linear(content_dim, n_groups * in_points * 3)
        self.mixing = AdaptiveMixing(content_dim, feat_channels, in_points, out_points, n_groups)
        self.mixing_norm = nn.LayerNorm(content_dim)
        self.ffn = FFN(content_dim, feedforward_channels, num_ffn_fcs, act_cfg=ffn_act_cfg, ffn_drop=dropout)
        self.ffn_norm = nn.LayerNorm(content_dim)
        self.cls_fcs = self._hidden_layers(num_cls_fcs)
        self.reg_fcs = self._hidden_layers(num_reg_fcs)
        self.fc_cls = nn.Linear(content_dim, num_classes)
        self.fc_reg = nn.Linear(content_dim, 4)

    def _hidden_layers(self, num: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(num):
            layers += [nn.Linear(self.content_dim, self.content_dim), nn.LayerNorm(self.content_dim), nn.ReLU(True)]
        return nn.Sequential(*layers)

    def init_weights(self) -> None:
        """Section 2 of the AdaMixer code base's recipe; nothing may re-initialise the layer afterwards.

        Xavier matrices, class bias at prior 0.01, box branch at zero (the first update is the identity), bias strength
        ``tau ~ U(0, 4)``, sampling points on a grid inside the box, one octave below its scale.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
                nn.init.xavier_uniform_(module.weight)
        nn.init.xavier_uniform_(self.attention.in_proj_weight)
        nn.init.zeros_(self.attention.in_proj_bias)
        self.mixing.init_weights()
        nn.init.constant_(self.fc_cls.bias, bias_init_with_prob(0.01))
        nn.init.zeros_(self.fc_reg.weight)
        nn.init.zeros_(self.fc_reg.bias)
        nn.init.uniform_(self.iof_tau, 0.0, 4.0)
        nn.init.zeros_(self.sampling_offset.weight)
        nn.init.uniform_(self.sampling_offset.bias, -0.5, 0.5)
        offset = self.sampling_offset.bias.data.view(self.n_groups, self.in_points, 3)
        side = round(self.in_points**0.5)
        if side**2 == self.in_points:
            grid = (torch.arange(side, device=offset.device) + 0.5) / side - 0.5
            offset[..., :2] = torch.cartesian_prod(grid, grid)
        offset[..., 2] = -1

    def forward(self, pyramid: FlatPyramid, state: DecoderState) -> DecoderState:
        """One refinement. The position enters detached, the content does not.

        Args:
            pyramid: feature pyramid, flattened into ``n_groups`` groups.
            state: current queries.

        Returns:
            The refined queries with their class logits.
        """
        position = state.position.detach()
        content = self._attend(position, state.content, state.box)
        sampled = self._sample(pyramid, position, content)
        content = self.mixing_norm(self.mixing(sampled, content))
        content = self.ffn_norm(self.ffn(content))
        logits = self.fc_cls(self.cls_fcs(content))
        delta = self.fc_reg(self.reg_fcs(content))
        # Both centre coordinates move in units of the box scale 2^z, not of width and height.
        centre = position[..., :2] + delta[..., :2] * torch.exp2(position[..., 2:3])
        position = torch.cat([centre, position[..., 2:] + delta[..., 2:]], dim=-1)
        return DecoderState(position, content, decode_xyzr(position), logits)

    def _attend(self, position: Tensor, content: Tensor, box: Tensor) -> Tensor:
        """Self-attention biased towards boxes that cover the query's own; the embedding stays in value and residual."""
        with torch.no_grad():
            log_overlap = log_iof(box)[:, None]  # [B, 1, N, N]
            embedding = xyzr_embedding(position, self.content_dim)
        bias = (log_overlap * self.iof_tau.view(1, -1, 1, 1)).flatten(0, 1)  # [B * heads, N, N]
        query = content + embedding
        attended = self.attention(query, query, query, attn_mask=bias, need_weights=False)[0]
        return self.attention_norm(query + attended)

    def _sampling_points(self, position: Tensor, content: Tensor) -> Tensor:
        """Points ``[B, N, G, P, 3]``: x and y in pixels, scale in octaves, placed relative to the box."""
        offset = self.sampling_offset(content).unflatten(-1, (self.n_groups, self.in_points, 3))
        anchor = position[:, :, None, None]  # [B, N, 1, 1, 4]
        xy = anchor[..., :2] + offset[..., :2] * xyzr_sizes(anchor)
        return torch.cat([xy, anchor[..., 2:3] + offset[..., 2:]], dim=-1)

    def _sample(self, pyramid: FlatPyramid, position: Tensor, content: Tensor) -> Tensor:
        """Features ``[B, N, G, P, F / G]``; a level weighs the more, the closer its stride is to the point's scale."""
        points = self._sampling_points(position, content)
        distance = points[..., 2:] - pyramid.log_strides(points.dtype)
        level_weights = (-(distance**2) / 2).softmax(-1)  # [B, N, G, P, L]
        return sample_pyramid(pyramid, points[..., :2], level_weights)

    def loss_and_target(
        self,
        logits: Tensor,
        boxes: Tensor,
        sampling_results: Sequence[SamplingResult],
        rcnn_train_cfg: ConfigType,
        imgs_whwh: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of one supervised prediction over the batch.

        Differs from the stock head in one point: the normaliser, the mean number of objects per process, is at least 1,
        so that a batch without any object cannot blow up the class loss.

        Args:
            logits: ``[B * N, num_classes]``.
            boxes: ``[B * N, 4]`` corner boxes in pixels.
            sampling_results: one per image.
            rcnn_train_cfg: train settings with ``pos_weight``.
            imgs_whwh: ``[B * N, 4]``, (w, h, w, h) of each query's image in pixels.

        Returns:
            ``loss_cls``, ``loss_bbox`` (on boxes relative to the image), ``loss_iou`` and ``pos_acc`` in percent.
        """
        labels, label_weights, targets, weights = self.get_targets(sampling_results, rcnn_train_cfg, concat=True)
        positive = labels < self.num_classes
        num_objects = reduce_mean(positive.sum().float()).clamp(min=1.0)
        losses = dict(
            loss_cls=self.loss_cls(logits, labels, label_weights, avg_factor=num_objects),
            pos_acc=accuracy(logits[positive], labels[positive]),
        )
        boxes, targets, weights, whwh = boxes[positive], targets[positive], weights[positive], imgs_whwh[positive]
        losses['loss_bbox'] = self.loss_bbox(boxes / whwh, targets / whwh, weights, avg_factor=num_objects)
        losses['loss_iou'] = self.loss_iou(boxes, targets, weights, avg_factor=num_objects)
        return losses

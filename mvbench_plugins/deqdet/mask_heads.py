"""Optional mask heads: masks inside each box (local) or over the whole image (dense). No weights were ever released."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.roi_heads.mask_heads import DynamicMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import SamplingResult
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, reduce_mean
from mmengine.model import BaseModule
from torch import Tensor, nn

from .decoder_layer import DecoderState


@MODELS.register_module()
class WarpedEfficientDynamicMaskHead(DynamicMaskHead):
    """The stock ``DynamicMaskHead`` on the boxes of a decoder state; the content generates the convolution.

    Masks are predicted inside the current boxes, and the targets are cropped with the same boxes.

    Args:
        featmap_strides: strides of the feature pyramid.
        roi_feat_size: side of the RoI features; the mask is twice as large.
        loss_mask: loss on mask probabilities of matched queries.
        kwargs: arguments of the stock head.
    """

    def __init__(
        self,
        featmap_strides: Sequence[int] = (4, 8, 16, 32),
        roi_feat_size: int = 14,
        loss_mask: ConfigType = dict(type='DiceLoss', loss_weight=8.0, activate=False, eps=1e-5),
        **kwargs,
    ) -> None:
        super().__init__(roi_feat_size=roi_feat_size, loss_mask=loss_mask, **kwargs)
        roi_layer = dict(type='RoIAlign', output_size=roi_feat_size, sampling_ratio=2)
        self.roi_extractor = SingleRoIExtractor(roi_layer, self.in_channels, list(featmap_strides))

    def forward(self, x: Sequence[Tensor], boxes: Sequence[Tensor], content: Tensor) -> Tensor:
        """Mask logits inside boxes.

        Args:
            x: feature pyramid, ``[B, F, H_l, W_l]`` per level.
            boxes: corner boxes ``[n_b, 4]`` in pixels of the padded input, per image.
            content: ``[sum(n_b), C]``, of which the first ``in_channels`` are used.

        Returns:
            ``[sum(n_b), num_classes, 2 * roi_feat_size, 2 * roi_feat_size]``.
        """
        roi_feats = self.roi_extractor(tuple(x), bbox2roi(list(boxes)))
        return super().forward(roi_feats, content[..., : self.in_channels])

    def loss(
        self,
        x: Sequence[Tensor],
        state: DecoderState,
        samples: Sequence[SamplingResult],
        gt_instances: InstanceList,
        cfg: ConfigType,
    ) -> dict[str, Tensor]:
        """``loss_dice`` over matched queries; ``cfg.mask_size`` must be the side of the predicted masks."""
        content = torch.cat([state.content[i, sample.pos_inds] for i, sample in enumerate(samples)])
        if not len(content):
            return dict(loss_dice=0 * state.content.sum())
        mask_logits = self(x, [sample.pos_priors for sample in samples], content)
        losses = self.loss_and_target(mask_logits, samples, gt_instances, cfg)
        return dict(loss_dice=losses['loss_mask']['loss_mask'])

    def predict(
        self,
        x: Sequence[Tensor],
        state: DecoderState,
        query_inds: Sequence[Tensor],
        results: InstanceList,
        img_metas: Sequence[dict],
        test_cfg: ConfigType,
        rescale: bool,
    ) -> None:
        """Add ``masks`` (boolean, whole image) to the results; ``query_inds`` names the query of each detection."""
        for i, (query, result, meta) in enumerate(zip(query_inds, results, img_metas, strict=True)):
            height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
            result.masks = torch.zeros(len(query), height, width, dtype=torch.bool, device=query.device)
            # Boxes are not clipped, and the stock pasting cannot take one that lies outside of the image.
            image = query.new_tensor(meta['img_shape'][1::-1])
            inside = ((result.bboxes[:, 2:] > 0) & (result.bboxes[:, :2] < image)).all(1)
            if not inside.any():
                continue
            boxes, labels = result.bboxes[inside], result.labels[inside]
            logits = self([feat[i : i + 1] for feat in x], [boxes], state.content[i, query[inside]])
            # It also rescales the boxes it is given, in place; the selection above is a copy.
            result.masks[inside] = self._predict_by_feat_single(logits, boxes, labels, meta, test_cfg, rescale)


@MODELS.register_module()
class DeCoupleMLVLEHead(BaseModule):
    """One mask per query over the whole image: content correlated with every level, levels weighted by the content.

    The finest level must have a stride of 4 pixels.

    Args:
        embed_dim: channels of content and features.
        num_levels: levels of the pyramid used.
        num_points: points per mask on which the losses are evaluated.
        oversample_ratio: candidates per point.
        importance_sample_ratio: share of points taken where the prediction is most uncertain.
        loss_mask: point-wise loss of matched queries.
        loss_dice: dice loss of matched queries.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_levels: int = 4,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        loss_mask: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0),
        loss_dice: ConfigType = dict(type='DiceLoss', naive_dice=True, eps=1.0, loss_weight=1.0),
    ) -> None:
        super().__init__()
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        self.mask_embed = nn.ModuleList([nn.Linear(embed_dim, embed_dim) for _ in range(num_levels)])
        self.mlvl_weight_generator = nn.Linear(embed_dim, num_levels)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def forward(self, x: Sequence[Tensor], content: Tensor) -> Tensor:
        """Mask logits ``[B, N, H_0, W_0]`` of contents ``[B, N, C]`` at the resolution of the finest level."""
        weights = self.mlvl_weight_generator(content).softmax(-1)  # [B, N, L]
        masks = 0
        for level, (embed, feat) in enumerate(zip(self.mask_embed, x, strict=True)):
            mask = torch.einsum('bnc,bchw->bnhw', embed(content), feat)
            mask = F.interpolate(mask, x[0].shape[-2:], mode='bilinear', align_corners=False)
            masks = masks + mask * weights[..., level, None, None]
        return masks

    def loss(
        self,
        x: Sequence[Tensor],
        state: DecoderState,
        samples: Sequence[SamplingResult],
        gt_instances: InstanceList,
        cfg: ConfigType,
    ) -> dict[str, Tensor]:
        """``loss_mask`` and ``loss_dice`` of matched queries on uncertain points (as in PointRend, Mask2Former)."""
        canvas = [side * 4 for side in x[0].shape[-2:]]  # padded input in pixels; gt masks cover its top left part
        logits, targets = [], []
        for i, (sample, gt) in enumerate(zip(samples, gt_instances, strict=True)):
            if not len(sample.pos_inds):
                continue
            content = state.content[i : i + 1, sample.pos_inds]
            logits.append(self([feat[i : i + 1] for feat in x], content)[0])
            masks = gt.masks.to_tensor(dtype=torch.float32, device=content.device)[sample.pos_assigned_gt_inds]
            targets.append(F.pad(masks, (0, canvas[1] - masks.shape[2], 0, canvas[0] - masks.shape[1])))
        if not logits:
            zero = 0 * state.content.sum()
            return dict(loss_mask=zero, loss_dice=zero)
        logits, targets = torch.cat(logits)[:, None], torch.cat(targets)[:, None]
        num_masks = reduce_mean(logits.new_tensor(len(logits))).clamp(min=1.0)
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                logits, None, self.num_points, self.oversample_ratio, self.importance_sample_ratio
            )
            point_targets = point_sample(targets, points)[:, 0]  # [M, num_points]
        point_logits = point_sample(logits, points)[:, 0]
        # One class, labelled 0 where the object is: the stock focal loss counts label num_classes as background.
        background = (point_targets < 0.5).long().flatten()
        return dict(
            loss_mask=self.loss_mask(
                point_logits.reshape(-1, 1), background, avg_factor=num_masks * point_logits.shape[1]
            ),
            loss_dice=self.loss_dice(point_logits, point_targets, avg_factor=num_masks),
        )

    def predict(
        self,
        x: Sequence[Tensor],
        state: DecoderState,
        query_inds: Sequence[Tensor],
        results: InstanceList,
        img_metas: Sequence[dict],
        test_cfg: ConfigType,
        rescale: bool,
    ) -> None:
        """Add ``masks`` (boolean, whole image) to the results; ``query_inds`` names the query of each detection."""
        canvas = [side * 4 for side in x[0].shape[-2:]]
        for i, (query, result, meta) in enumerate(zip(query_inds, results, img_metas, strict=True)):
            logits = self([feat[i : i + 1] for feat in x], state.content[i : i + 1])
            logits = F.interpolate(logits, canvas, mode='bilinear', align_corners=False)
            logits = logits[..., : meta['img_shape'][0], : meta['img_shape'][1]]
            if rescale:
                logits = F.interpolate(logits, meta['ori_shape'][:2], mode='bilinear', align_corners=False)
            result.masks = (logits[0].sigmoid() > test_cfg.mask_thr_binary)[query]

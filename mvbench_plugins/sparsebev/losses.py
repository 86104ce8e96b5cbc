"""Losses: matched queries learn their boxes, all others to be background; disturbed ones learn what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet3d.registry import MODELS
from torch import Tensor, nn

from mvbench_plugins.common.distributed import reduce_mean

from .assigner import SparseBEVAssigner
from .boxes import encode_target_boxes
from .denoising import DenoisingQueries


class Matches(NamedTuple):
    """Which queries stand for which boxes, in S stages with m pairs each, sample by sample.

    Attributes:
        sample: ``[m]``, sample of each pair.
        query: ``[S, m]``, its query.
        boxes: ``[S, m, 10]``, target box of each pair.
        labels: ``[S, m]``, its label.
    """

    sample: Tensor
    query: Tensor
    boxes: Tensor
    labels: Tensor


class SparseBEVCriterion(nn.Module):
    """The losses of all stages.

    Args:
        loss_cls: focal loss of mmdet.
        loss_bbox: L1 loss of mmdet, or another with the same arguments.
    """

    def __init__(self, loss_cls: dict, loss_bbox: dict) -> None:
        super().__init__()
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)

    def forward(
        self,
        logits: Tensor,
        boxes: Tensor,
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        denoising: DenoisingQueries | None,
        assigner: SparseBEVAssigner,
        code_weights: Tensor,
    ) -> dict[str, Tensor]:
        """All losses.

        Args:
            logits: ``[S, B, D + Q, num_classes]`` of S stages, those of the D disturbed queries first.
            boxes: target boxes ``[S, B, D + Q, 10]``.
            gt_boxes: LiDAR boxes ``[n_b, 9]`` of each sample.
            gt_labels: ``[n_b]`` of each sample.
            denoising: the disturbed queries; None: there are none.
            assigner: matches queries and boxes.
            code_weights: weights ``[10]`` of the numbers of a box.

        Returns:
            ``loss_cls`` and ``loss_bbox`` of the last stage, with the prefix ``d{i}.`` those of the others, and with
            the ending ``_dn`` those of the disturbed queries.
        """
        disturbed = denoising.boxes.shape[1] if denoising else 0
        own_logits, own_boxes = logits[:, :, disturbed:], boxes[:, :, disturbed:]
        matches = match(own_logits, own_boxes, gt_boxes, gt_labels, assigner, code_weights)
        # Every stage has as many positives: one average over the processes serves all. Processes without any box take
        # part in it, too.
        counts = [len(matches.sample), len(denoising.sample) if denoising else 0]
        positives, known = reduce_mean(torch.tensor(counts, dtype=torch.float32, device=logits.device)).clamp(min=1.0)

        if denoising is not None:  # the same in all stages; `one_hot` of PyTorch would wait for the device
            disturbed_one_hot = logits.new_zeros(len(denoising.labels), logits.shape[-1])
            disturbed_one_hot.scatter_(1, denoising.labels[:, None], 1.0)
            targets = encode_target_boxes(denoising.targets)

        losses: dict[str, Tensor] = {}
        for stage in range(len(logits)):
            prefix = '' if stage == len(logits) - 1 else f'd{stage}.'
            at = (matches.sample, matches.query[stage])
            one_hot = torch.zeros_like(own_logits[stage]).index_put((*at, matches.labels[stage]), logits.new_ones(()))
            losses[f'{prefix}loss_cls'] = self._class_loss(own_logits[stage], one_hot, positives)
            losses[f'{prefix}loss_bbox'] = self._box_loss(
                own_boxes[stage][at], matches.boxes[stage], code_weights, positives
            )
            if denoising is not None:
                at = (denoising.sample, denoising.slot)
                losses[f'{prefix}loss_cls_dn'] = self._class_loss(logits[stage][at], disturbed_one_hot, known)
                losses[f'{prefix}loss_bbox_dn'] = self._box_loss(boxes[stage][at], targets, code_weights, known)
        return losses

    def _class_loss(self, logits: Tensor, one_hot: Tensor, normaliser: Tensor) -> Tensor:
        # One-hot targets: mmcv's kernel for indices cannot be asked about no query at all.
        loss = self.loss_cls(logits.reshape(-1, logits.shape[-1]), one_hot.view(-1, logits.shape[-1]), None, normaliser)
        return loss.nan_to_num()

    def _box_loss(self, boxes: Tensor, targets: Tensor, code_weights: Tensor, normaliser: Tensor) -> Tensor:
        # A box without extent has no logarithm and teaches nothing.
        finite = targets.isfinite().all(1, keepdim=True)
        targets = torch.where(finite, targets, 0.0)
        return self.loss_bbox(boxes, targets, finite * code_weights, normaliser).nan_to_num()


def match(
    logits: Tensor,
    boxes: Tensor,
    gt_boxes: Sequence[Tensor],
    gt_labels: Sequence[Tensor],
    assigner: SparseBEVAssigner,
    code_weights: Tensor,
) -> Matches:
    """Match the queries of all stages and samples with annotated boxes; the arguments are those of the criterion."""
    found = []
    for b, (box, label) in enumerate(zip(gt_boxes, gt_labels, strict=True)):
        targets = encode_target_boxes(box)
        query, index = assigner.assign(logits[:, b], boxes[:, b], label, targets, code_weights)
        found.append(Matches(query.new_full(query.shape[1:], b), query, targets[index], label[index]))
    sample, *others = zip(*found)
    return Matches(torch.cat(sample), *(torch.cat(parts, dim=1) for parts in others))

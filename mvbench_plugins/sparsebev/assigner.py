"""One-to-one matching of predicted and annotated boxes."""

from __future__ import annotations

import numpy as np
import torch
from mmdet3d.registry import TASK_UTILS
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_NOT_FINITE = 100.0  # cost of a pair whose cost cannot be computed


@TASK_UTILS.register_module()
class SparseBEVAssigner:
    """Hungarian matching by class and by all numbers of a box.

    Unlike DETR3D's, the cost counts velocity, and weights the numbers as the loss does.

    Args:
        cls_cost: match cost of mmdet for the class.
        reg_weight: of the L1 distance of boxes.
    """

    def __init__(self, cls_cost: dict = dict(type='mmdet.FocalLossCost', weight=2.0), reg_weight: float = 0.25) -> None:
        self.cls_cost = TASK_UTILS.build(cls_cost)
        self.reg_weight = reg_weight

    def cost(self, logits: Tensor, boxes: Tensor, gt_labels: Tensor, gt_boxes: Tensor, code_weights: Tensor) -> Tensor:
        """Cost of every pair.

        Args:
            logits: ``[m, num_classes]``, before the sigmoid.
            boxes: target boxes ``[m, 10]``.
            gt_labels: ``[n]``.
            gt_boxes: target boxes ``[n, 10]``.
            code_weights: weights ``[10]`` of the numbers of a box.

        Returns:
            ``[m, n]``.
        """
        cls_cost = self.cls_cost(InstanceData(scores=logits), InstanceData(labels=gt_labels))
        distance = torch.cdist(boxes * code_weights, gt_boxes * code_weights, p=1)
        cost = cls_cost + distance * self.reg_weight
        return cost.nan_to_num(nan=_NOT_FINITE, posinf=_NOT_FINITE, neginf=-_NOT_FINITE)

    @torch.no_grad()
    def assign(
        self, logits: Tensor, boxes: Tensor, gt_labels: Tensor, gt_boxes: Tensor, code_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Match the predictions of S stages, each by itself, with the boxes of one sample.

        Args:
            logits: ``[S, Q, num_classes]``.
            boxes: target boxes ``[S, Q, 10]``.
            gt_labels: ``[n]``.
            gt_boxes: target boxes ``[n, 10]``.
            code_weights: ``[10]``.

        Returns:
            Of each stage the matched queries, ascending, and the boxes they are matched with, ``[S, min(Q, n)]`` both.
        """
        cost = self.cost(logits.flatten(0, 1), boxes.flatten(0, 1), gt_labels, gt_boxes, code_weights)
        cost = cost.unflatten(0, logits.shape[:2]).cpu().numpy()  # one transfer for all stages
        pairs = np.array([linear_sum_assignment(stage) for stage in cost])  # [S, 2, m]
        return torch.from_numpy(pairs).to(logits.device).unbind(1)

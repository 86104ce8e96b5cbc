"""The losses of CenterPoint as its authors compute them: normalised by objects, not by peaks of the heat map."""

from __future__ import annotations

import torch
from mmdet3d.registry import MODELS
from torch import Tensor, nn

_MIN_PROBABILITY = 1e-4


@MODELS.register_module()
class SlotFocalLoss(nn.Module):
    """Focal loss on heat maps whose positives are the objects in their slots.

    ``mmdet.GaussianFocalLoss`` takes cells whose target is 1 as positives: two objects of a class in one cell count
    once there, and twice here.

    Args:
        gamma: exponent that weakens easy cells.
        beta: exponent that weakens cells near an object.
        loss_weight: factor of the result.
    """

    def __init__(self, gamma: float = 2.0, beta: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, heatmap: Tensor, cells: Tensor, classes: Tensor, filled: Tensor) -> Tensor:
        """Loss of one task, divided by its number of objects, if there are any.

        Args:
            logits: ``[B, num_classes, H, W]`` before the sigmoid.
            heatmap: targets likewise, from 0 to 1.
            cells: ``[B, K]``, row-major cell ``y * W + x`` of the object in each slot.
            classes: ``[B, K]``, its class within the task.
            filled: ``[B, K]``, whether the slot holds an object.
        """
        prob = logits.float().sigmoid().clamp(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        negative = ((1 - prob).log() * prob**self.gamma * (1 - heatmap) ** self.beta).sum()
        sample = torch.arange(len(prob), device=prob.device)[:, None]
        found = prob.flatten(2)[sample, classes, cells]  # [B, K]
        positive = (found.log() * (1 - found) ** self.gamma * filled).sum()
        return -(positive + negative) / filled.sum().clamp(min=1) * self.loss_weight

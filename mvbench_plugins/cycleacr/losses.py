"""Losses of the action scores, and how logits become scores: both depend on how the actions exclude each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from mvbench_plugins.common.distributed import reduce_mean


@MODELS.register_module()
class GroupedFocalLoss(nn.Module):
    """Focal losses per group of actions: one pose at a time, any number of interactions.

    The first group is exclusive: softmax, and the first labelled action is the target (the group's first action if none
    is labelled). The others are multi-label: sigmoid. Focal loss (arXiv 1708.02002) without alpha, summed over people
    and divided by their number per process; multi-label groups take the mean over their actions.

    Args:
        groups: name, number of actions and loss weight of each group, in the order of the action ids.
        gamma: focusing exponent.
    """

    def __init__(
        self,
        groups: Sequence[tuple[str, int, float]] = (
            ('pose', 14, 1.2),
            ('object_interaction', 49, 49.0),
            ('person_interaction', 17, 17.0),
        ),
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.names, sizes, self.weights = zip(*groups, strict=True)
        self.sizes = list(sizes)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses and accuracies of a batch.

        Args:
            logits: ``[n, num_classes]``.
            labels: multi-hot ``[n, num_classes]``.

        Returns:
            ``loss_<group>``, and ``acc_<group>``: the share of right poses, the mean overlap of predicted and labelled
            sets of interactions.
        """
        num_people = reduce_mean(logits.new_tensor(float(len(logits)))).clamp(min=1.0)
        results = {}
        parts = zip(self.names, self.weights, logits.split(self.sizes, 1), labels.split(self.sizes, 1), strict=True)
        for index, (name, weight, logit, label) in enumerate(parts):
            if index == 0:
                target = label.argmax(1)
                loss, accuracy = self._exclusive(logit, target), (logit.argmax(1) == target).float()
            else:
                loss, accuracy = self.multi_label(logit, label).mean(1), _overlap(logit > 0, label > 0)
            results[f'loss_{name}'] = weight * loss.sum() / num_people
            results[f'acc_{name}'] = accuracy.sum() / max(len(accuracy), 1)
        return results

    def _exclusive(self, logits: Tensor, target: Tensor) -> Tensor:
        """Softmax focal loss ``[n]``."""
        log_prob = logits.log_softmax(1).gather(1, target[:, None])[:, 0]
        return -((1 - log_prob.exp()) ** self.gamma) * log_prob

    def multi_label(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sigmoid focal loss of each entry ``[n, actions]``."""
        missed = (labels - logits.sigmoid()).abs()
        return missed**self.gamma * F.binary_cross_entropy_with_logits(logits, labels, reduction='none')

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax of the first group, sigmoid of the others ``[n, num_classes]``."""
        first, rest = logits.split([self.sizes[0], sum(self.sizes[1:])], 1)
        return torch.cat([first.softmax(1), rest.sigmoid()], dim=1)


@MODELS.register_module()
class PersonSumBCELoss(nn.Module):
    """Binary cross entropy, mean over the actions, sum over the people of the process."""

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of a batch: logits and multi-hot labels ``[n, num_classes]``."""
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction='none')
        return dict(loss_action=loss.mean(1).sum())

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid ``[n, num_classes]``."""
        return logits.sigmoid()


def _overlap(predicted: Tensor, labelled: Tensor) -> Tensor:
    """Intersection over union of sets, given as masks ``[n, actions]``; 1 where both are empty."""
    union = (predicted | labelled).sum(1)
    return torch.where(union > 0, (predicted & labelled).sum(1) / union.clamp(min=1), 1.0)

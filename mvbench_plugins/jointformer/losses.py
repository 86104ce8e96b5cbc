"""Losses among the masks of a frame: bootstrapped cross entropy and dice over slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from torch import Tensor, nn


@MODELS.register_module()
class BootstrappedCrossEntropy(nn.Module):
    """Cross entropy over the hardest pixels of each sample, whose share shrinks in the course of the training.

    The share is 1 before iteration ``start``, falls linearly to ``ratio`` at iteration ``end`` and stays there.

    Args:
        start: iteration from which on pixels are chosen.
        end: iteration from which on the share is ``ratio``.
        ratio: final share of the pixels, in (0, 1].
        ignore_index: label of pixels that teach nothing; before ``start`` they do not count, later they count as pixels
            without loss, as published. None: there are none.
        loss_weight: factor.

    Raises:
        ValueError: the iterations are not in order, or the share is out of range.
    """

    def __init__(
        self, start: int, end: int, ratio: float = 0.15, ignore_index: int | None = None, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 <= start < end:
            raise ValueError(f'start={start} and end={end} are iterations: expected 0 <= start < end')
        if not 0 < ratio <= 1:
            raise ValueError(f'ratio={ratio} is no share of pixels: expected 0 < ratio <= 1')
        self.start = start
        self.end = end
        self.ratio = ratio
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def share(self, iteration: int) -> float:
        """Share of the pixels that count at an iteration."""
        if iteration < self.start:
            return 1.0
        return self.ratio + (1 - self.ratio) * (max(0, self.end - iteration) / (self.end - self.start))

    @property
    def current_share(self) -> float:
        """The share at the runner's iteration; 0 where nothing runs."""
        return self.share(_current_iteration())

    def forward(self, logits: Tensor, target: Tensor, num_objects: Sequence[int]) -> Tensor:
        """Mean over samples.

        Args:
            logits: ``[B, 1 + N, H, W]``, background first.
            target: slot of each pixel, ``[B, H, W]``; 0 is background.
            num_objects: how many of the N slots of each sample hold objects; the others are left out.

        Returns:
            The loss, a scalar.
        """
        iteration = _current_iteration()
        losses = [
            self._sample_loss(logit[: 1 + count], labels.long(), iteration)
            for logit, labels, count in zip(logits, target, num_objects, strict=True)
        ]
        return self.loss_weight * torch.stack(losses).mean()

    def _sample_loss(self, logits: Tensor, target: Tensor, iteration: int) -> Tensor:
        ignore_index = -100 if self.ignore_index is None else self.ignore_index
        pixels = F.cross_entropy(logits[None], target[None], ignore_index=ignore_index, reduction='none').flatten()
        if iteration < self.start:
            return pixels.sum() / (target != ignore_index).sum().clamp(min=1)
        hardest = max(1, int(len(pixels) * self.share(iteration)))
        return pixels.topk(hardest, sorted=False).values.mean()


@MODELS.register_module()
class SlotDiceLoss(nn.Module):
    """Dice loss of each object slot against its label, smoothed by 1, mean over slots.

    Empty slots take part: they cost next to nothing and dilute the mean, as published.

    Args:
        ignore_index: label of pixels that are left out; the pixels of the whole batch then make up one sum per slot.
            None: there are none, and the mean is over slots and samples.
        loss_weight: factor.
    """

    def __init__(self, ignore_index: int | None = None, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def forward(self, prob: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            prob: of the slots after aggregation, without the background, ``[B, N, H, W]``.
            target: slot of each pixel, ``[B, H, W]``; 0 is background, i + 1 slot i.
        """
        slots = torch.arange(1, 1 + prob.shape[1], device=prob.device)[:, None, None]
        truth = (target[:, None] == slots).to(prob.dtype)
        dims: tuple[int, ...] = (2, 3)
        if self.ignore_index is not None:
            prob = prob * (target != self.ignore_index)[:, None]
            dims = (0, 2, 3)
        overlap = (prob * truth).sum(dims)
        dice = 1 - (2 * overlap + 1) / (prob.sum(dims) + truth.sum(dims) + 1)
        return self.loss_weight * dice.mean()


def _current_iteration() -> int:
    """The runner's iteration, counted from 0; 0 where nothing runs."""
    return MessageHub.get_current_instance().get_info('iter', 0)

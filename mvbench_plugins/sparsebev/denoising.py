"""Query denoising (DN-DETR, arXiv 2203.01305): in training, extra queries start at disturbed annotated boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .boxes import CODE_SIZE, XYZ


class DenoisingQueries(NamedTuple):
    """Queries to be put in front of the others, and what they shall become.

    Each sample has ``num_groups`` groups of as many slots as the sample with the most boxes has boxes. Slots without a
    box hold zeros.

    Attributes:
        boxes: query boxes ``[B, D, 10]``.
        feats: queries ``[B, D, C]``.
        blocked: ``[D + Q, D + Q]``, True where a query (row) must not see another (column).
        sample: ``[m]``, sample of each of the m queries with a box, group by group and in it sample by sample.
        slot: ``[m]``, its place among the D queries.
        targets: the undisturbed LiDAR boxes ``[m, 9]``.
        labels: the true labels ``[m]``.
    """

    boxes: Tensor
    feats: Tensor
    blocked: Tensor
    sample: Tensor
    slot: Tensor
    targets: Tensor
    labels: Tensor


class Disturbance(NamedTuple):
    """What is drawn for m queries.

    Attributes:
        centre: ``[m, 3]``, in [0, 1).
        flip: ``[m]``, in [0, 1): small numbers replace the label.
        label: ``[m]``, the label that takes its place.
    """

    centre: Tensor
    flip: Tensor
    label: Tensor


class QueryDenoising:
    """Makes the queries.

    Args:
        num_groups: how many times each box is used; groups do not see each other.
        center_noise_scale: largest move of a centre, in units of half the box's size along x, y and z. Sizes are not
            turned by yaw, as published: length moves x, width moves y.
        label_noise_ratio: probability that a label is replaced by any label.
    """

    def __init__(self, num_groups: int = 10, center_noise_scale: float = 0.5, label_noise_ratio: float = 0.5) -> None:
        self.num_groups = num_groups
        self.center_noise_scale = center_noise_scale
        self.label_noise_ratio = label_noise_ratio

    def __call__(
        self,
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        label_enc: nn.Embedding,
        encode: Callable[[Tensor], Tensor],
        num_query: int,
    ) -> DenoisingQueries:
        """Make the queries of a batch.

        Args:
            gt_boxes: LiDAR boxes ``[n_b, 9]`` of each sample.
            gt_labels: labels ``[n_b]`` of each sample.
            label_enc: embedding ``[num_classes + 1, C - 1]`` of labels.
            encode: turns LiDAR boxes into query boxes.
            num_query: number Q of the other queries.
        """
        counts = [len(boxes) for boxes in gt_boxes]
        single, device = max(counts), gt_boxes[0].device
        sample = torch.tensor([b for b, count in enumerate(counts) for _ in range(count)], device=device)
        slot = torch.tensor([i for count in counts for i in range(count)], device=device)
        first_slot = torch.arange(self.num_groups, device=device).repeat_interleave(len(slot)) * single
        sample, slot = sample.long().repeat(self.num_groups), first_slot + slot.long().repeat(self.num_groups)
        targets = torch.cat(list(gt_boxes)).repeat(self.num_groups, 1)
        labels = torch.cat(list(gt_labels)).repeat(self.num_groups)

        drawn = self.draw(targets, num_classes=label_enc.num_embeddings - 1)
        noisy = targets.clone()
        noisy[:, :3] += (2 * drawn.centre - 1) * targets[:, 3:6] / 2 * self.center_noise_scale
        noisy = encode(noisy)
        noisy = torch.cat([noisy[:, XYZ].clamp(0, 1), noisy[:, XYZ.stop :]], dim=1)
        noisy_labels = torch.where(drawn.flip < self.label_noise_ratio, drawn.label, labels)
        known = mark(label_enc(noisy_labels), denoising=True)

        shape = (len(counts), self.num_groups * single)
        return DenoisingQueries(
            known.new_zeros(*shape, CODE_SIZE).index_put((sample, slot), noisy.to(known.dtype)),
            known.new_zeros(*shape, known.shape[-1]).index_put((sample, slot), known),
            self.blocked(single, num_query, device),
            sample,
            slot,
            targets,
            labels,
        )

    def draw(self, boxes: Tensor, num_classes: int) -> Disturbance:
        """Draw the disturbance of m boxes.

        Args:
            boxes: ``[m, 9]``.
            num_classes: number of labels to draw from.
        """
        return Disturbance(
            torch.rand_like(boxes[:, :3]),
            torch.rand_like(boxes[:, 0]),
            torch.randint(num_classes, (len(boxes),), device=boxes.device),
        )

    def blocked(self, single: int, num_query: int, device: torch.device) -> Tensor:
        """Who must not see whom, ``[D + Q, D + Q]``.

        No query sees disturbed boxes but those of its own group. All see the Q others.

        Args:
            single: slots of a group.
            num_query: Q.
            device: of the result.
        """
        group = torch.arange(self.num_groups, device=device).repeat_interleave(single)
        group = torch.cat([group, group.new_full((num_query,), self.num_groups)])  # the others: one more group
        return (group[:, None] != group) & (group != self.num_groups)


def mark(feats: Tensor, denoising: bool) -> Tensor:
    """Append what tells the two kinds of queries apart: ``[..., C - 1]`` to ``[..., C]``."""
    return torch.cat([feats, feats.new_full((*feats.shape[:-1], 1), float(denoising))], dim=-1)

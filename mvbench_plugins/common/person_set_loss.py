"""Queries that each may be one person: one-to-one matching, and the losses of persons and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from .distributed import reduce_mean

PERSON, BACKGROUND = 0, 1  # indices of the person logits


class Matches(NamedTuple):
    """Matched queries of a batch, clip by clip.

    Attributes:
        clip: ``[m]``, clip of each.
        query: ``[m]``, index of each within its clip, ascending.
        people: of each clip, the people that its matched queries stand for, in the same order.
    """

    clip: Tensor
    query: Tensor
    people: list[InstanceData]


class PersonSetLossMixin:
    """What heads share that find persons with queries, trained with bipartite matching (DETR, arXiv 2005.12872)."""

    def build_person_losses(self, assigner: dict, loss_person: dict, loss_bbox: dict, loss_giou: dict) -> None:
        """Build the parts; to be called in the constructor.

        Args:
            assigner: mmdet assigner that matches queries and people.
            loss_person: mmdet softmax loss of person against background, with ``class_weight``.
            loss_bbox: mmdet loss of boxes relative to the clip.
            loss_giou: mmdet IoU loss of boxes in pixels.
        """
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_person = MODELS.build(loss_person)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_giou = MODELS.build(loss_giou)

    @staticmethod
    def count_people(targets: Sequence[InstanceData], device: torch.device) -> Tensor:
        """People of the batch, averaged over the processes, at least 1: the normaliser of the box losses."""
        # Counts of more than 256 are no numbers of bfloat16.
        return reduce_mean(torch.tensor(sum(map(len, targets)), dtype=torch.float32, device=device)).clamp(min=1.0)

    def person_losses(
        self,
        person_logits: Tensor,
        boxes: Tensor,
        targets: Sequence[InstanceData],
        shapes: Sequence[tuple[int, int]],
        num_people: Tensor,
    ) -> tuple[dict[str, Tensor], Matches]:
        """``loss_person``, ``loss_bbox`` and ``loss_giou`` of one prediction, and what was matched.

        Args:
            person_logits: ``[B, N, 2]``.
            boxes: corner boxes ``[B, N, 4]`` in pixels.
            targets: of each clip, with ``bboxes`` in pixels.
            shapes: height and width of each clip in pixels, before padding.
            num_people: from :meth:`count_people`.
        """
        found = [
            self._match(logits, box, target, shape)
            for logits, box, target, shape in zip(person_logits, boxes, targets, shapes, strict=True)
        ]
        clip = torch.cat([query.new_full(query.shape, i) for i, (query, _) in enumerate(found)])
        query = torch.cat([query for query, _ in found])
        people = [target[person] for target, (_, person) in zip(targets, found, strict=True)]

        classes = query.new_full(person_logits.shape[:2], BACKGROUND)
        classes[clip, query] = PERSON
        class_weight = boxes.new_tensor(self.loss_person.class_weight)
        # Weighted mean: mmdet's own average would divide by the number of queries.
        total_weight = class_weight[classes].sum()
        losses = dict(
            loss_person=self.loss_person(person_logits.flatten(0, 1), classes.flatten(), avg_factor=total_weight)
        )
        matched, whwh = boxes[clip, query], boxes.new_tensor([(w, h, w, h) for h, w in shapes])[clip]
        wanted = torch.cat([person.bboxes for person in people])
        losses['loss_bbox'] = self.loss_bbox(matched / whwh, wanted / whwh, avg_factor=num_people)
        losses['loss_giou'] = self.loss_giou(matched, wanted, avg_factor=num_people)
        return losses, Matches(clip, query, people)

    @torch.no_grad()
    def _match(
        self, person_logits: Tensor, boxes: Tensor, target: InstanceData, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Indices of matched queries, in order, and of their people.

        Raises:
            ValueError: predictions or targets are not finite.
        """
        people = InstanceData(bboxes=target.bboxes, labels=target.bboxes.new_full((len(target),), PERSON).long())
        queries = InstanceData(bboxes=boxes, scores=person_logits.float())
        try:
            found = self.assigner.assign(queries, people, img_meta=dict(img_shape=shape)).gt_inds
        except ValueError as error:
            broken = 'annotated boxes' if not target.bboxes.isfinite().all() else 'predictions'
            raise ValueError(
                f'the {broken} are not finite, so that queries and people cannot be matched: '
                + ('check the annotation file' if broken == 'annotated boxes' else 'training has diverged; lower lr')
            ) from error
        query = (found > 0).nonzero().flatten()
        return query, found[query] - 1


def action_loss(loss: torch.nn.Module, logits: Tensor, matches: Matches) -> Tensor:
    """Loss of the matched queries' actions; zero, with gradients of zero, where nobody is matched.

    Args:
        loss: mmdet sigmoid loss.
        logits: ``[B, N, num_classes]``.
        matches: with people whose ``labels`` are multi-hot ``[n, num_classes + 1]``, column 0 unused.
    """
    matched = logits[matches.clip, matches.query]
    if not len(matched):
        return matched.sum()  # the mean over nobody would be NaN
    return loss(matched, torch.cat([person.labels for person in matches.people])[:, 1:])


def check_label_columns(targets: Sequence[InstanceData], num_classes: int) -> None:
    """Refuse labels that do not belong to the head.

    Raises:
        ValueError: the labels have another number of columns than the head has classes.
    """
    columns = {target.labels.shape[-1] for target in targets}
    if columns != {num_classes + 1}:
        raise ValueError(
            f'labels have {sorted(columns)} columns, the head has {num_classes} classes and expects '
            f'{num_classes + 1} (column 0 is unused): set num_classes of the dataset to that of the head + 1'
        )

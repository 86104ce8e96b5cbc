"""Localisation and action classification together: matching and losses, post-processing."""

from __future__ import annotations

from collections.abc import Sequence

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModule
from torch import Tensor

from mvbench_plugins.common.person_detections import set_person_detections
from mvbench_plugins.common.person_set_loss import PersonSetLossMixin, action_loss, check_label_columns

from .backbone import ClipTokens
from .localization import PersonLocalizer, PersonPredictions
from .refinement import ContextRefinement


@MODELS.register_module()
class EVADHead(PersonSetLossMixin, BaseModule):
    """People on the key frame, and what they do in the clip (sections 3.3 and 3.4 of the paper).

    Args:
        num_classes: number of actions, without the unused column 0 of the labels (80 for AVA).
        localizer: arguments of :class:`~mvbench_plugins.evad.localization.PersonLocalizer`.
        refinement: further arguments of :class:`~mvbench_plugins.evad.refinement.ContextRefinement`.
        assigner: mmdet assigner that matches queries and people.
        loss_person: mmdet softmax loss of person against background, with ``class_weight``.
        loss_action: mmdet sigmoid loss of the matched queries' actions.
        loss_bbox: mmdet loss of boxes relative to the clip.
        loss_giou: mmdet IoU loss of boxes in pixels.
        test_cfg: ``person_score_thr``: queries with a lower person score are left out; where none reaches it, all are
            given.
    """

    def __init__(
        self,
        num_classes: int,
        localizer: dict,
        refinement: dict,
        assigner: dict,
        loss_person: dict,
        loss_action: dict,
        loss_bbox: dict,
        loss_giou: dict,
        test_cfg: dict,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.test_cfg = test_cfg
        self.localizer = PersonLocalizer(**localizer)
        self.refinement = ContextRefinement(num_classes=num_classes, **refinement)
        self.build_person_losses(assigner, loss_person, loss_bbox, loss_giou)
        self.loss_action = MODELS.build(loss_action)

    def forward(
        self,
        feats: Sequence[Tensor],
        tokens: ClipTokens,
        boxes: Tensor,
        queries: Tensor,
        clip_shapes: Sequence[tuple[int, int]],
    ) -> tuple[list[PersonPredictions], list[Tensor]]:
        """Locate people, then classify their actions.

        Args:
            feats: pyramid of the key frame.
            tokens: of the encoder.
            boxes: first corner boxes ``[B, N, 4]`` in pixels.
            queries: first queries ``[B, N, C]``.
            clip_shapes: height and width of each clip in pixels, before padding.

        Returns:
            The predictions of each stage, and the action logits ``[B, N, num_classes]`` of each decoder block; in eval
            mode those of the last block only.
        """
        people = self.localizer(feats, boxes, queries)
        return people, self.refinement(tokens, people[-1].boxes.detach(), clip_shapes)

    def loss(
        self,
        people: Sequence[PersonPredictions],
        action_logits: Sequence[Tensor],
        data_samples: Sequence[ActionDataSample],
    ) -> dict[str, Tensor]:
        """Losses of all stages and blocks; the last one's have no prefix, stage k has ``sk.``, block k ``dk.``.

        Each is divided by the number of losses, so that their sum, which the runner back-propagates, is the published
        objective: the mean. People of the last stage's matching are those whose actions are learnt.

        Args:
            people: of :meth:`forward`.
            action_logits: of :meth:`forward`.
            data_samples: with ``gt_instances``: ``bboxes`` (pixels) and ``labels`` (multi-hot, column = action id, 0 is
                unused), and metainfo ``img_shape``.

        Raises:
            ValueError: the labels have another number of columns than the head has classes.
        """
        targets = [sample.gt_instances for sample in data_samples]
        check_label_columns(targets, self.num_classes)
        shapes = [sample.img_shape for sample in data_samples]
        num_people = self.count_people(targets, people[0].boxes.device)
        losses = {}
        for k, found in enumerate(people):
            prefix = '' if k == len(people) - 1 else f's{k}.'
            stage_losses, matches = self.person_losses(found.person_logits, found.boxes, targets, shapes, num_people)
            losses.update({prefix + name: loss for name, loss in stage_losses.items()})
        for k, logits in enumerate(action_logits):
            prefix = '' if k == len(action_logits) - 1 else f'd{k}.'
            losses[f'{prefix}loss_action'] = action_loss(self.loss_action, logits, matches)
        return {name: loss / len(losses) for name, loss in losses.items()}

    def predict(
        self,
        people: Sequence[PersonPredictions],
        action_logits: Sequence[Tensor],
        data_samples: Sequence[ActionDataSample],
    ) -> list[ActionDataSample]:
        """People by the last stage, their actions by the last block: ``pred_instances`` of the data samples.

        Args:
            people: of :meth:`forward`.
            action_logits: of :meth:`forward`.
            data_samples: with metainfo ``img_shape``.

        Returns:
            What :func:`~mvbench_plugins.common.person_detections.set_person_detections` makes of them.
        """
        return set_person_detections(
            data_samples,
            people[-1].person_logits,
            action_logits[-1],
            people[-1].boxes,
            self.test_cfg['person_score_thr'],
        )

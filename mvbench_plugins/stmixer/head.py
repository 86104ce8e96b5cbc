"""The decoder as a whole: initial queries, stages, matching and losses, post-processing."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModule, ModuleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.common.person_detections import set_person_detections
from mvbench_plugins.common.person_set_loss import PersonSetLossMixin, action_loss, check_label_columns
from mvbench_plugins.common.xyzr import encode_xyzr

from .decoder_stage import Predictions, Queries, STMixerDecoderStage
from .sampling import flatten_clip_pyramid


@MODELS.register_module()
class STMixerHead(PersonSetLossMixin, BaseModule):
    """Queries that become people and their actions (sections 3.2 to 3.4 of the paper).

    Args:
        num_classes: number of actions, without the unused column 0 of the labels (80 for AVA).
        num_frames: frames T of the feature space.
        num_queries: queries per clip.
        num_stages: decoder stages; weights are not shared.
        strides: of the levels of the feature space, in pixels.
        stage: further arguments of :class:`~mvbench_plugins.stmixer.decoder_stage.STMixerDecoderStage`.
        assigner: mmdet assigner that matches queries and people.
        loss_person: mmdet softmax loss of person against background, with ``class_weight``.
        loss_action: mmdet sigmoid loss of the matched queries' actions.
        loss_bbox: mmdet loss of boxes relative to the clip.
        loss_giou: mmdet IoU loss of boxes in pixels.
        test_cfg: ``person_score_thr``: queries with a lower person score are left out; ``fallback_topk``: so many of
            the best are given where none reaches it.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        assigner: dict,
        loss_person: dict,
        loss_action: dict,
        loss_bbox: dict,
        loss_giou: dict,
        test_cfg: dict,
        num_queries: int = 100,
        num_stages: int = 6,
        strides: Sequence[int] = (4, 8, 16, 32),
        stage: dict | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.test_cfg = test_cfg
        self.stages = ModuleList(  # mmengine's: torch's own would end the chain of init_weights()
            STMixerDecoderStage(num_classes, num_frames, **(stage or {})) for _ in range(num_stages)
        )
        self.num_frames = num_frames
        self.num_groups = self.stages[0].num_groups
        self.spatial_queries = nn.Embedding(num_queries, self.stages[0].embed_dims)
        self.temporal_queries = nn.Embedding(num_queries, self.stages[0].embed_dims)
        self.build_person_losses(assigner, loss_person, loss_bbox, loss_giou)
        self.loss_action = MODELS.build(loss_action)

    def forward(self, feats: Sequence[Tensor], clip_shapes: Sequence[tuple[int, int]]) -> list[Predictions]:
        """Run all stages.

        Args:
            feats: feature space ``[B, C, T, H_l, W_l]``.
            clip_shapes: height and width of each clip in pixels, before padding.

        Returns:
            The predictions of each stage.

        Raises:
            ValueError: the feature space has another number of frames than the head was built for.
        """
        if feats[0].shape[2] != self.num_frames:
            raise ValueError(
                f'the feature space has {feats[0].shape[2]} frames, the head was built for num_frames='
                f'{self.num_frames}: clip_len of the pipeline, the backbone and the head must agree'
            )
        pyramid = flatten_clip_pyramid(feats, self.strides, self.num_groups)
        queries = self._initial_queries(pyramid.value.new_tensor([(0, 0, w, h) for h, w in clip_shapes]))
        outputs = []
        for stage in self.stages:
            queries, predictions = stage(pyramid, queries)
            outputs.append(predictions)
        return outputs

    def _initial_queries(self, boxes: Tensor) -> Queries:
        """Learnt contents, normalised; every box is the whole clip ``[B, 4]``."""
        contents = (
            F.layer_norm(queries.weight, queries.weight.shape[-1:]).expand(len(boxes), -1, -1)
            for queries in (self.spatial_queries, self.temporal_queries)
        )
        position = encode_xyzr(boxes)[:, None].expand(-1, self.spatial_queries.num_embeddings, -1)
        return Queries(position, *contents)

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[ActionDataSample]) -> dict[str, Tensor]:
        """Losses of all stages; the last one's have no prefix, stage k has ``dk.``.

        Each is divided by the number of losses, so that their sum, which the runner back-propagates, is the published
        objective: the mean.

        Args:
            feats: feature space ``[B, C, T, H_l, W_l]``.
            data_samples: with ``gt_instances``: ``bboxes`` (pixels) and ``labels`` (multi-hot, column = action id, 0 is
                unused), and metainfo ``img_shape``.

        Raises:
            ValueError: the labels have another number of columns than the head has classes.
        """
        targets = [sample.gt_instances for sample in data_samples]
        check_label_columns(targets, self.num_classes)
        shapes = [sample.img_shape for sample in data_samples]
        num_people = self.count_people(targets, feats[0].device)
        outputs = self(feats, shapes)
        losses = {}
        for k, predictions in enumerate(outputs):
            prefix = '' if k == len(outputs) - 1 else f'd{k}.'
            stage_losses = self._stage_loss(predictions, targets, shapes, num_people)
            losses.update({prefix + name: loss for name, loss in stage_losses.items()})
        return {name: loss / len(losses) for name, loss in losses.items()}

    def _stage_loss(
        self,
        predictions: Predictions,
        targets: Sequence[InstanceData],
        shapes: Sequence[tuple[int, int]],
        num_people: Tensor,
    ) -> dict[str, Tensor]:
        losses, matches = self.person_losses(predictions.person_logits, predictions.boxes, targets, shapes, num_people)
        return losses | dict(loss_action=action_loss(self.loss_action, predictions.action_logits, matches))

    def predict(self, feats: Sequence[Tensor], data_samples: Sequence[ActionDataSample]) -> list[ActionDataSample]:
        """People and their actions by the last stage: ``pred_instances`` of the data samples.

        Args:
            feats: feature space ``[B, C, T, H_l, W_l]``.
            data_samples: with metainfo ``img_shape``.

        Returns:
            What :func:`~mvbench_plugins.common.person_detections.set_person_detections` makes of them.
        """
        last = self(feats, [sample.img_shape for sample in data_samples])[-1]
        return set_person_detections(data_samples, last.person_logits, last.action_logits, last.boxes, **self.test_cfg)

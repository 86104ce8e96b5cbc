"""CycleACR (arXiv 2303.16118): given people, their actions, seen within the frame and within the minute around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dist import all_gather_object, is_distributed
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_backbones, accept_official_checkpoints
from mvbench_plugins.common.distributed import reduce_mean
from mvbench_plugins.common.settings import complete_settings

from .boxes import extend_boxes, jitter_boxes, relative_boxes
from .checkpoint import convert_backbone_state_dict, convert_state_dict
from .memory_bank import MemoryBank


@MODELS.register_module()
class CycleACR(BaseModel):
    """Backbone, head, and a long-term memory for training and one for testing.

    Testing takes two passes: :meth:`extract` for every clip, then :meth:`classify` with the memory that the first pass
    filled. The loops of this plugin do both; ``mode='predict'`` alone does them for one batch, with what
    :attr:`memory` holds.

    Args:
        backbone: of mmaction or this suite; gives one map ``[B, C, T, h, w]`` or those of two pathways.
        head: :class:`~mvbench_plugins.cycleacr.head.CycleACRHead`.
        data_preprocessor: :class:`~mvbench_plugins.common.clip_preprocessor.ClipDataPreprocessor`.
        memory: arguments of :class:`~mvbench_plugins.cycleacr.memory_bank.MemoryBank`.
        train_cfg: ``max_persons``: people per clip, drawn at random where there are more; ``jitter``: whether boxes are
            shifted at random.
        test_cfg: ``extend``: share of width and height added to the boxes before features are cut out.
        init_cfg: initialisation of the whole model.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        data_preprocessor: dict,
        memory: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.memory = MemoryBank(**(memory or {}))
        self.train_memory = MemoryBank(**(memory or {}))
        num_seconds = self.memory.before + 1 + self.memory.after
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build({**head, 'num_seconds': num_seconds})
        self.train_cfg = complete_settings('model.train_cfg', train_cfg, max_persons=100, jitter=True)
        self.test_cfg = complete_settings('model.test_cfg', test_cfg, extend=(-0.05, -0.1))
        self.last_loss: float | None = None
        accept_official_checkpoints(self, convert_state_dict)
        accept_official_backbones(self.backbone, convert_backbone_state_dict)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[ActionDataSample], mode: str = 'predict'
    ) -> list[InstanceData] | dict[str, Tensor] | list[ActionDataSample]:
        """Run the model.

        Args:
            inputs: preprocessed clips ``[B, 3, T, H, W]``.
            data_samples: one per clip, with metainfo ``img_shape`` (height, width before padding), ``video_id`` and
                ``timestamp``; ``gt_instances`` for losses, ``proposals`` (``bboxes`` in pixels, ``scores``) otherwise.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'`` (features of the first pass).

        Raises:
            ValueError: unknown mode.
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        if mode == 'predict':
            features = self.extract(inputs, data_samples)
            memory = self.memory.assemble(_keys(data_samples), [feature.actor_features for feature in features])
            return self.classify(features, memory, data_samples)
        if mode == 'tensor':
            return self.extract(inputs, data_samples)
        raise ValueError(f"mode {mode!r} is none of 'loss', 'predict' and 'tensor'")

    def extract(self, inputs: Tensor, data_samples: Sequence[ActionDataSample]) -> list[InstanceData]:
        """First pass: ``actor_features`` ``[n, D]`` and ``roi_features`` ``[n, C]`` of each clip's people.

        Raises:
            ValueError: a clip comes without person boxes.
        """
        without = [sample.img_key for sample in data_samples if 'proposals' not in sample]
        if without:
            raise ValueError(
                f'{without[0]} has no person boxes (proposals): use AVAPersonDataset and PackPersonInputs in the config'
            )
        boxes = [
            extend_boxes(sample.proposals.bboxes, self.test_cfg['extend'], sample.img_shape) for sample in data_samples
        ]
        people, actors = self.head.features(self._maps(inputs), boxes)
        sizes = [len(box) for box in boxes]
        return [
            InstanceData(actor_features=actor, roi_features=pooled)
            for actor, pooled in zip(actors.split(sizes), people.pooled.split(sizes), strict=True)
        ]

    def classify(
        self, features: Sequence[InstanceData], memory: Tensor, data_samples: Sequence[ActionDataSample]
    ) -> list[ActionDataSample]:
        """Second pass: ``pred_instances`` of each clip.

        Args:
            features: of the first pass.
            memory: ``[B, seconds * people per second, D]``.
            data_samples: of the same clips.

        Returns:
            The data samples with ``bboxes`` relative to the clip (as given, not extended), ``scores``
            ``[n, num_classes + 1]`` (column = action id, column 0 is zero), multiplied by ``person_scores``.
        """
        sizes = [len(feature) for feature in features]
        clip = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(memory.device)
        logits = self.head.classify(
            torch.cat([feature.actor_features for feature in features]),
            torch.cat([feature.roi_features for feature in features]),
            clip,
            memory,
        )
        scores = F.pad(self.head.loss.scores(logits.float()), (1, 0))
        for sample, score in zip(data_samples, scores.split(sizes), strict=True):
            persons = sample.proposals
            shape = sample.img_shape
            video = sample.get('original_shape', shape)
            ratio = (video[1] / shape[1], video[0] / shape[0])
            person_scores = persons.scores.to(score)
            sample.pred_instances = InstanceData(
                bboxes=relative_boxes(persons.bboxes, video, ratio),
                scores=score * person_scores[:, None],
                person_scores=person_scores,
            )
        return list(data_samples)

    def _loss(self, inputs: Tensor, data_samples: Sequence[ActionDataSample]) -> dict[str, Tensor]:
        boxes, labels = [], []
        for sample in data_samples:
            people = sample.gt_instances
            if people.labels.shape[1] != self.head.num_classes + 1:
                raise ValueError(
                    f'labels have {people.labels.shape[1]} columns, the head has {self.head.num_classes} classes and '
                    f'expects {self.head.num_classes + 1} (column 0 is unused): set num_classes of the dataset to that '
                    'of the head plus 1'
                )
            if len(people) > self.train_cfg['max_persons']:
                people = people[torch.randperm(len(people))[: self.train_cfg['max_persons']].sort().values]
            jittered = jitter_boxes(people.bboxes, sample.img_shape) if self.train_cfg['jitter'] else people.bboxes
            boxes.append(jittered)
            labels.append(people.labels[:, 1:])
        people, actors = self.head.features(self._maps(inputs), boxes)
        current = actors.split([len(box) for box in boxes])
        keys = _keys(data_samples)
        memory = self.train_memory.assemble(keys, current, self.last_loss)
        logits = self.head.classify(actors, people.pooled, people.clip, memory)
        losses = self.head.loss(logits.float(), torch.cat(labels).float())
        self._remember(keys, current, sum(value for name, value in losses.items() if 'loss' in name))
        return losses

    @torch.no_grad()
    def _remember(self, keys: Sequence[tuple[str, int]], current: Sequence[Tensor], loss: Tensor) -> None:
        """Write this step's people of all processes into the memory, with the loss averaged over them.

        A step that overflowed writes nothing: its loss would spread through the memory to all later steps. All
        processes decide alike, since the loss is their mean.
        """
        loss = float(reduce_mean(loss.float()))
        if not math.isfinite(loss):
            return
        self.last_loss = loss
        limit = self.train_memory.max_per_second
        # Copies: a view would be sent with all that it is a view of.
        written = [(*key, features[:limit].detach().cpu().clone()) for key, features in zip(keys, current, strict=True)]
        parts = all_gather_object(written) if is_distributed() else [written]
        for video, second, features in (entry for part in parts for entry in part):
            self.train_memory.update(video, second, features, self.last_loss)

    def _maps(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all pathways."""
        maps = self.backbone(inputs)
        return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def _keys(data_samples: Sequence[ActionDataSample]) -> list[tuple[str, int]]:
    """What addresses each clip in the memory."""
    return [(sample.video_id, int(sample.timestamp)) for sample in data_samples]

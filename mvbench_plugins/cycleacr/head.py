"""From feature maps and person boxes to action scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmaction.registry import MODELS
from mmcv.ops import RoIAlign
from mmengine.model import BaseModule
from torch import Tensor, nn

from .cycle import CycleModeling, InstanceInteraction, PersonFeatures


@MODELS.register_module()
class CycleACRHead(BaseModule):
    """RoI features, cycle modelling, interaction with people and memory, classifier.

    Args:
        in_channels: width C of the backbone, both pathways together.
        num_classes: number of actions, without the unused column 0 of the labels (80 for AVA).
        num_frames: moments T of the context: frames of the longest feature map.
        loss: loss of this plugin, which also says how logits become scores.
        dim: inner width D, also that of the memory.
        depth: blocks of each relation of the cycle.
        instance_depth: rounds of interaction with people and memory.
        num_seconds: seconds of the memory.
        max_persons: people of a clip that each one looks at.
        hidden_dim: width of the classifier.
        featmap_stride: pixels per cell of the feature maps.
        roi_size: bins per side of a RoI.
        dropout: probability, in the cycle, the interaction and before the last layer.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_frames: int,
        loss: dict,
        dim: int = 1024,
        depth: int = 2,
        instance_depth: int = 2,
        num_seconds: int = 61,
        max_persons: int = 20,
        hidden_dim: int = 1024,
        featmap_stride: int = 16,
        roi_size: int = 7,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_frames = num_frames
        # Corners are taken as they are, without the half-pixel shift that is usual today.
        self.roi_align = RoIAlign(roi_size, 1 / featmap_stride, sampling_ratio=0, pool_mode='avg', aligned=False)
        self.cycle = CycleModeling(in_channels, dim, depth, num_frames, dropout)
        self.interaction = InstanceInteraction(dim, in_channels, instance_depth, num_seconds, max_persons, dropout)
        self.fc1 = nn.Linear(in_channels, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.cls_score = nn.Linear(hidden_dim, num_classes)
        self.loss = MODELS.build(loss)
        sizes = getattr(self.loss, 'sizes', [num_classes])
        if sum(sizes) != num_classes:
            raise ValueError(
                f'the groups of {type(self.loss).__name__} have {sizes} actions, {sum(sizes)} together, the head has '
                f'num_classes={num_classes}: make them agree'
            )

    def init_weights(self) -> None:
        """Kaiming uniform with a = 1 for the hidden layers, a small last layer, zero biases."""
        super().init_weights()
        for linear in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(linear.weight, a=1)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        for linear in (self.fc1, self.fc2, self.cls_score):
            nn.init.zeros_(linear.bias)

    def features(self, feats: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[PersonFeatures, Tensor]:
        """People cut out of the feature maps, and their features within their context ``[n, D]``.

        Args:
            feats: maps ``[B, C_i, T_i, h, w]`` of one pathway or two; the longest one sets the moments.
            boxes: of each clip, ``[n_i, 4]`` in pixels of the padded clip.

        Raises:
            ValueError: the longest map has another number of frames than the head was built for.
        """
        num_frames = max(feat.shape[2] for feat in feats)
        if num_frames != self.num_frames:
            raise ValueError(
                f'the feature maps have {num_frames} frames, the head was built for num_frames={self.num_frames}: '
                'clip_len of the pipeline, the backbone and the head must agree'
            )
        clip = torch.cat([box.new_full((len(box),), i) for i, box in enumerate(boxes)])
        rois = torch.cat([clip[:, None], torch.cat(list(boxes))], dim=1)
        still = torch.cat([feat.mean(2) for feat in feats], dim=1)
        pooled = self.roi_align(still.float().contiguous(), rois.float())  # it does not look at strides
        local = pooled.to(still.dtype).flatten(2).transpose(1, 2)  # [n, bins, C]
        context = torch.cat([_stretch(feat.amax((3, 4)), num_frames) for feat in feats], dim=1).transpose(1, 2)
        people = PersonFeatures(clip.long(), local, local.amax(1), context)
        return people, self.cycle(people)

    def classify(self, actors: Tensor, pooled: Tensor, clip: Tensor, memory: Tensor) -> Tensor:
        """Logits of the actions ``[n, num_classes]``.

        Args:
            actors: features within their context ``[n, D]``.
            pooled: RoI features ``[n, C]``.
            clip: ``[n]``, which clip each person is in, ascending.
            memory: ``[B, seconds * people per second, D]``.
        """
        fused = pooled + self.interaction(actors, clip, memory)
        hidden = self.fc2(self.fc1(fused).relu()).relu()
        return self.cls_score(self.dropout(hidden))


def _stretch(feat: Tensor, num_frames: int) -> Tensor:
    """``[B, C, T]`` to ``[B, C, num_frames]`` by the nearest earlier frame."""
    index = torch.arange(num_frames, device=feat.device) * feat.shape[2] // num_frames
    return feat[:, :, index]

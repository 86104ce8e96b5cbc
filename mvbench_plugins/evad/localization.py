"""Query-based localisation of people on the key frame (section 3.3 of the paper), as in Sparse R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmaction.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mvbench_plugins.common.precision import at_least_float32

#: A stage may change a side by the factor 6250: the clamp of released weights, far wider than mmdet's own.
_WH_RATIO_CLIP = 16 / 100000


class PersonPredictions(NamedTuple):
    """What one stage predicts.

    Attributes:
        person_logits: ``[B, N, 2]``; 0 is person, 1 is background.
        boxes: corner boxes ``[B, N, 4]`` in pixels, not clipped.
        queries: ``[B, N, C]``, what the next stage starts from.
    """

    person_logits: Tensor
    boxes: Tensor
    queries: Tensor


class PersonLocalizer(BaseModule):
    """Stages of mmdet's ``DIIHead``, each of which refines the boxes of the one before.

    Differs from mmdet's ``SparseRoIHead`` in that queries keep their gradient from stage to stage.

    Args:
        num_stages: stages; weights are not shared.
        stage: mmdet ``DIIHead`` with ``num_classes=1``.
        roi_extractor: mmdet RoI extractor of the pyramid.
    """

    def __init__(self, num_stages: int, stage: dict, roi_extractor: dict) -> None:
        super().__init__()
        self.roi_extractor = MODELS.build(roi_extractor)
        self.stages = ModuleList(MODELS.build(stage) for _ in range(num_stages))

    def forward(self, feats: Sequence[Tensor], boxes: Tensor, queries: Tensor) -> list[PersonPredictions]:
        """Run all stages.

        Args:
            feats: pyramid of the key frame.
            boxes: first corner boxes ``[B, N, 4]`` in pixels.
            queries: first queries ``[B, N, C]``.

        Returns:
            The predictions of each stage.

        Raises:
            ValueError: boxes are not finite.
        """
        # Places of half precision would be off by pixels, and mmcv's RoIAlign reads any map as if it were contiguous.
        feats = [at_least_float32(feat).contiguous() for feat in feats]
        clip = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        clip = clip[:, None].to(feats[0].dtype)
        outputs = []
        for stage in self.stages:
            regions = self.roi_extractor(feats, torch.cat([clip, boxes.flatten(0, 1)], dim=1))
            person_logits, deltas, queries, _ = stage(regions.to(queries.dtype), queries)
            decoded = stage.bbox_coder.decode(
                boxes.flatten(0, 1), at_least_float32(deltas).flatten(0, 1), wh_ratio_clip=_WH_RATIO_CLIP
            )
            outputs.append(PersonPredictions(person_logits, decoded.unflatten(0, boxes.shape[:2]), queries))
            boxes = outputs[-1].boxes.detach()
            _check_finite(boxes)
        return outputs


def _check_finite(boxes: Tensor) -> None:
    """Name what is wrong before RoIAlign asserts; a GPU, which must not be waited for, gets as far as the matching."""
    if boxes.device.type == 'cpu' and not boxes.isfinite().all():
        raise ValueError('the predicted boxes are not finite: training has diverged; lower lr')

"""From the predictions of queries, each of which may be one person, to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from .person_set_loss import PERSON


def set_person_detections(
    data_samples: Sequence[ActionDataSample],
    person_logits: Tensor,
    action_logits: Tensor,
    boxes: Tensor,
    person_score_thr: float,
    fallback_topk: int | None = None,
) -> list[ActionDataSample]:
    """Set ``pred_instances``: ``bboxes``, ``scores`` and ``person_scores`` of the queries that are people.

    Action scores are not multiplied by the person score; there is no suppression of duplicates.

    Args:
        data_samples: with metainfo ``img_shape``.
        person_logits: ``[B, N, 2]``; 0 is person, 1 is background.
        action_logits: ``[B, N, num_classes]``, before the sigmoid.
        boxes: corner boxes ``[B, N, 4]`` in pixels.
        person_score_thr: queries with a lower person score are left out.
        fallback_topk: so many of the best are given where none reaches it; default: all.

    Returns:
        The data samples. Boxes are relative to the clip, 0 to 1; ``scores`` is ``[n, num_classes + 1]`` (column =
        action id, column 0 is zero).
    """
    person_scores = person_logits.float().softmax(-1)[..., PERSON]
    action_scores = F.pad(action_logits.float().sigmoid(), (1, 0))
    for i, sample in enumerate(data_samples):
        height, width = sample.img_shape
        keep = (person_scores[i] >= person_score_thr).nonzero().flatten()
        if not len(keep):
            keep = torch.arange(len(person_scores[i]), device=keep.device)
            if fallback_topk is not None:
                keep = person_scores[i].topk(min(fallback_topk, len(keep))).indices
        box = boxes[i, keep]
        largest = box.new_tensor([width - 1, height - 1] * 2)
        sample.pred_instances = InstanceData(
            bboxes=torch.minimum(box.clamp(min=0), largest) / box.new_tensor([width, height] * 2),
            scores=action_scores[i, keep],
            person_scores=person_scores[i, keep],
        )
    return list(data_samples)

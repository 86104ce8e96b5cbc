"""From the queries' predictions to boxes."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.registry import TASK_UTILS
from torch import Tensor

from .boxes import decode_target_boxes, encode_query_boxes


@TASK_UTILS.register_module()
class SparseBEVBoxCoder:
    """Encodes annotated boxes as queries, and decodes predictions without any suppression.

    Args:
        pc_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)``, the range in metres that queries are relative to.
        post_center_range: likewise, the range in which the centres of detections must lie, its borders included.
        max_num: at most this many detections, the best (query, class) pairs; a query may count with several classes.
        score_threshold: only detections with a higher score.
    """

    def __init__(
        self,
        pc_range: Sequence[float],
        post_center_range: Sequence[float],
        max_num: int = 300,
        score_threshold: float = 0.05,
    ) -> None:
        self.pc_range = tuple(pc_range)
        self.post_center_range = tuple(post_center_range)
        self.max_num = max_num
        self.score_threshold = score_threshold

    def encode(self, boxes: Tensor) -> Tensor:
        """LiDAR boxes ``[n, 9]`` to query boxes ``[n, 10]``, see :mod:`mvbench_plugins.sparsebev.boxes`."""
        return encode_query_boxes(boxes, boxes.new_tensor(self.pc_range))

    def decode(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one sample, the best first.

        Args:
            logits: ``[Q, num_classes]``, before the sigmoid.
            targets: target boxes ``[Q, 10]``.

        Returns:
            LiDAR boxes ``[m, 9]``, scores ``[m]`` and labels ``[m]``.
        """
        scores, pair = logits.sigmoid().flatten().topk(min(self.max_num, logits.numel()))
        query, label = pair // logits.shape[1], pair % logits.shape[1]
        boxes = decode_target_boxes(targets[query])
        limits = boxes.new_tensor(self.post_center_range)
        centre = boxes[:, :3]
        kept = (scores > self.score_threshold) & ((centre >= limits[:3]) & (centre <= limits[3:])).all(1)
        return boxes[kept], scores[kept], label[kept]

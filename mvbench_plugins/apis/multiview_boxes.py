"""3D boxes as they are drawn: corners, colours, captions, and what of them a camera sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData

from mvbench_plugins.apis.draw_actions import Color, action_color

GROUND_TRUTH: Color = (255, 255, 255)
_NEAR = 0.2  # metres before the camera at which lines are cut off
#: Pairs of corners, in the order of ``LiDARInstance3DBoxes.corners``: the faces behind and in front, what joins them.
_BACK = ((0, 1), (1, 2), (2, 3), (3, 0))
_FRONT = ((4, 5), (5, 6), (6, 7), (7, 4))
_SIDES = ((0, 4), (1, 5), (2, 6), (3, 7))
FRONT_BOTTOM, BACK_BOTTOM = [4, 7], [0, 3]


@dataclass(frozen=True)
class DrawnBoxes:
    """Boxes to draw, in LiDAR coordinates (metres), the farthest first.

    Attributes:
        corners: ``[n, 8, 3]``; the last four are the front.
        velocities: metres per second ``[n, 2]``.
        colors: BGR.
        captions: text of each box, perhaps none.
        annotated: whether they are ground truth.
    """

    corners: np.ndarray
    velocities: np.ndarray
    colors: list[Color]
    captions: list[str]
    annotated: bool = False

    @property
    def headings(self) -> np.ndarray:
        """Lines ``[n, 2, 3]`` on the bottom, from the middle to the front."""
        return np.stack([self.corners[:, FRONT_BOTTOM + BACK_BOTTOM].mean(1), self.corners[:, FRONT_BOTTOM].mean(1)], 1)

    @property
    def edges(self) -> np.ndarray:
        """Lines ``[n, 13, 2, 3]``: those of the back and the sides, the heading, and the last four those in front."""
        lines = self.corners[:, [*_BACK, *_SIDES, *_FRONT]]
        return np.concatenate([lines[:, :8], self.headings[:, None], lines[:, 8:]], axis=1)


def predicted_boxes(instances: InstanceData, classes: Sequence[str], score_thr: float) -> DrawnBoxes:
    """Predictions with a colour for each class.

    Args:
        instances: ``pred_instances_3d`` on the CPU.
        classes: names by label.
        score_thr: what scores less is left out.
    """
    instances = instances[instances.scores_3d >= score_thr]
    labels, scores = instances.labels_3d.tolist(), instances.scores_3d.tolist()
    captions = [f'{classes[label]} {score:.2f}' for label, score in zip(labels, scores, strict=True)]
    return _drawn(instances.bboxes_3d, [action_color(label) for label in labels], captions)


def annotated_boxes(boxes: LiDARInstance3DBoxes) -> DrawnBoxes:
    """Ground truth: white, without captions."""
    return _drawn(boxes, [GROUND_TRUTH] * len(boxes), [''] * len(boxes), annotated=True)


def project_lines(lines: np.ndarray, lidar2img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a camera sees straight lines; what lies behind it is cut off.

    The projection of mmdet3d's visualizer moves corners behind the camera before it, which turns boxes beside the
    vehicle into lines across the picture.

    Args:
        lines: ends ``[..., 2, 3]`` in LiDAR coordinates.
        lidar2img: ``[4, 4]``.

    Returns:
        Pixels ``[..., 2, 2]`` (x, y), and whether there is anything before the camera ``[...]``.
    """
    ends = lines @ lidar2img[:3, :3].T + lidar2img[:3, 3]  # (u * depth, v * depth, depth)
    before = ends[..., 2] > _NEAR
    first, last = ends[..., 0, :], ends[..., 1, :]
    with np.errstate(divide='ignore', invalid='ignore'):
        share = (_NEAR - first[..., 2]) / (last[..., 2] - first[..., 2])
    crossing = first + np.where(before.any(-1) & ~before.all(-1), share, 0)[..., None] * (last - first)
    ends = np.where(before[..., None], ends, crossing[..., None, :])
    seen = before.any(-1)
    depth = np.where(seen[..., None], ends[..., 2], 1)
    return ends[..., :2] / depth[..., None], seen


def _drawn(
    boxes: LiDARInstance3DBoxes, colors: list[Color], captions: list[str], annotated: bool = False
) -> DrawnBoxes:
    corners = boxes.corners.numpy().astype(np.float64)
    tensor = boxes.tensor.numpy()
    order = np.argsort(-np.hypot(tensor[:, 0], tensor[:, 1]), kind='stable').tolist()
    return DrawnBoxes(
        corners[order],
        tensor[order, 7:9],
        [colors[index] for index in order],
        [captions[index] for index in order],
        annotated,
    )

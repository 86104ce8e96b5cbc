"""The picture of a moment: six views with their boxes, and beside them the scene from above."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.structures import InstanceData

from mvbench_plugins.apis.draw_actions import action_color
from mvbench_plugins.apis.draw_text import put_text
from mvbench_plugins.apis.multiview_bev import draw_bev
from mvbench_plugins.apis.multiview_boxes import annotated_boxes, predicted_boxes
from mvbench_plugins.apis.multiview_frames import MultiViewFrame
from mvbench_plugins.apis.multiview_views import draw_views


def draw_frame(
    frame: MultiViewFrame,
    instances: InstanceData,
    classes: Sequence[str],
    score_thr: float = 0.3,
    draw_gt: bool = False,
    view_width: int = 640,
) -> np.ndarray:
    """Draws one moment; its pictures are read from disk as they were taken.

    Args:
        frame: cameras, and perhaps annotations and LiDAR.
        instances: ``pred_instances_3d`` on the CPU.
        classes: names by label.
        score_thr: boxes that score less are left out.
        draw_gt: whether to draw annotated boxes, in white.
        view_width: width of a view in pixels.

    Returns:
        BGR picture.
    """
    layers = [predicted_boxes(instances, classes, score_thr)]
    if draw_gt and frame.gt_bboxes_3d is not None:
        layers.insert(0, annotated_boxes(frame.gt_bboxes_3d))
    images = [mmcv.imread(path) for path in frame.cameras.img_paths]
    views = draw_views(images, frame.lidar2img, layers, view_width)
    legend = {name: action_color(label) for label, name in enumerate(classes)}
    above = draw_bev(len(views), layers, frame.lidar_points(), legend)
    put_text(above, frame.name, (0, 0), (255, 255, 255), 0.6)
    return np.hstack([views, above])

"""Frame-mAP of JHMDB and UCF101-24, in the protocol of the ACT detector."""

from __future__ import annotations

import numpy as np

from .matching import frame_pairs, greedy_match, paired_iou, trapezoid_ap


def frame_ap(
    frames: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    gt_frames: np.ndarray,
    gt_boxes: np.ndarray,
    iou_thr: float = 0.5,
) -> float:
    """Compute the frame AP of one class.

    By falling score, each detection takes the annotated box of its frame that it overlaps most among those still free.

    Args:
        frames: [n] number of the detection's frame, over all videos.
        boxes: [n, 4] x1, y1, x2, y2 in pixels; x2, y2 are the last pixels inside.
        scores: [n].
        gt_frames: [m] frame of each annotated box.
        gt_boxes: [m, 4].
        iou_thr: least overlap of a true positive.

    Returns:
        area under the precision-recall curve (trapezoids), NaN without annotated boxes.
    """
    if not len(gt_boxes):
        return float('nan')
    rank = np.argsort(-scores, kind='stable')
    gt_order = np.argsort(gt_frames, kind='stable')
    gt_boxes = gt_boxes[gt_order]
    dets, gts = frame_pairs(frames[rank], gt_frames[gt_order])
    ious = paired_iou(boxes[rank][dets], gt_boxes[gts], extent=1)
    enough = ious >= iou_thr
    hits = greedy_match(dets[enough], gts[enough], ious[enough], len(scores), len(gt_boxes))
    return trapezoid_ap(hits, len(gt_boxes))

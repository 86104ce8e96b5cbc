"""What frame-mAP and video-mAP share: box overlap, greedy matching, average precision."""

from __future__ import annotations

import numpy as np


def paired_iou(boxes_a: np.ndarray, boxes_b: np.ndarray, extent: int = 0) -> np.ndarray:
    """Compute the IoU of boxes paired by position; shapes broadcast.

    Args:
        boxes_a: [..., 4] x1, y1, x2, y2.
        boxes_b: [..., 4], the same.
        extent: width of a box with x1 == x2: 0 for continuous coordinates (AVA), 1 where x2 is the last pixel inside
            the box (the tube protocol of JHMDB and UCF101-24).

    Returns:
        [...] overlap in [0, 1]; 0 for two boxes without area.
    """
    left_a, top_a, right_a, bottom_a = np.moveaxis(boxes_a, -1, 0)
    left_b, top_b, right_b, bottom_b = np.moveaxis(boxes_b, -1, 0)
    width = np.minimum(right_a, right_b) - np.maximum(left_a, left_b) + extent
    height = np.minimum(bottom_a, bottom_b) - np.maximum(top_a, top_b) + extent
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (right_a - left_a + extent) * (bottom_a - top_a + extent)
    area_b = (right_b - left_b + extent) * (bottom_b - top_b + extent)
    union = area_a + area_b - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def frame_pairs(det_frames: np.ndarray, gt_frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List every (detection, ground truth) pair of a common frame.

    Args:
        det_frames: [n] frame numbers of the detections.
        gt_frames: [m] frame numbers of the annotated boxes, ascending.

    Returns:
        two index arrays [pairs], by detection, then by ground truth.
    """
    first = np.searchsorted(gt_frames, det_frames, 'left')
    counts = np.searchsorted(gt_frames, det_frames, 'right') - first
    dets = np.repeat(np.arange(len(det_frames)), counts)
    within = np.arange(len(dets)) - np.repeat(np.cumsum(counts) - counts, counts)
    return dets, first[dets] + within


def greedy_match(dets: np.ndarray, gts: np.ndarray, ious: np.ndarray, num_dets: int, num_gts: int) -> np.ndarray:
    """Give each detection, in order of rank, the ground truth it overlaps most among those that are still free.

    Args:
        dets: [pairs] rank of the detection, 0 is served first. Only pairs that overlap enough are to be given.
        gts: [pairs] index of the ground truth.
        ious: [pairs] overlap; of equal ones the lower index of ground truth is taken.
        num_dets: number of detections.
        num_gts: number of annotated boxes.

    Returns:
        [num_dets] whether the detection is a true positive.
    """
    order = np.lexsort((gts, -ious, dets))
    hits, taken = np.zeros(num_dets, bool), np.zeros(num_gts, bool)
    for det, gt in zip(dets[order].tolist(), gts[order].tolist()):
        if not hits[det] and not taken[gt]:
            hits[det] = taken[gt] = True
    return hits


def first_choice(dets: np.ndarray, gts: np.ndarray, ious: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep of each detection's pairs the one of largest overlap (of equal ones the lowest index of ground truth)."""
    order = np.lexsort((gts, -ious, dets))
    best = order[np.unique(dets[order], return_index=True)[1]]
    return dets[best], gts[best], ious[best]


def interpolated_ap(hits: np.ndarray, num_gts: int) -> float:
    """Compute the area under the precision-recall curve whose precision was made monotone (Pascal VOC since 2010).

    Args:
        hits: [n] whether the detection is a true positive, by falling score.
        num_gts: number of annotated boxes, at least 1.

    Returns:
        average precision in [0, 1]; 0 without detections.
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by 1 / num_gts at each hit and nowhere else.
    return float(envelope[hits].sum() / num_gts)


def trapezoid_ap(hits: np.ndarray, num_gts: int) -> float:
    """Compute the area under the plain precision-recall curve by trapezoids, from (recall 0, precision 1).

    Args:
        hits: [n] whether the detection is a true positive, by falling score.
        num_gts: number of annotated boxes or tubes, at least 1.

    Returns:
        average precision in [0, 1]; 0 without detections.
    """
    precision = np.concatenate([[1.0], np.cumsum(hits) / np.arange(1, len(hits) + 1)])
    return float(((precision[1:] + precision[:-1]) / 2)[hits].sum() / num_gts)

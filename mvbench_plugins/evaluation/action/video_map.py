"""Video-mAP: tubes against annotated tubes, in the protocol of the ACT detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .linking import Tube
from .matching import greedy_match, paired_iou, trapezoid_ap


def temporal_iou(tube: np.ndarray, other: np.ndarray) -> float:
    """Compute the overlap in time of two tubes [k, 5] of consecutive frames, a bound of the whole overlap."""
    common = min(tube[-1, 0], other[-1, 0]) - max(tube[0, 0], other[0, 0]) + 1
    return float(common / (len(tube) + len(other) - common)) if common > 0 else 0.0


def tube_iou(tube: np.ndarray, other: np.ndarray) -> float:
    """Compute the spatio-temporal overlap: temporal IoU times the mean IoU of the boxes in the common frames.

    Args:
        tube: [k, 5] frame, x1, y1, x2, y2 in pixels; consecutive frames.
        other: [m, 5], the same.

    Returns:
        overlap in [0, 1].
    """
    in_time = temporal_iou(tube, other)
    if not in_time:
        return 0.0
    start, end = max(tube[0, 0], other[0, 0]), min(tube[-1, 0], other[-1, 0])
    part, other_part = (one[int(start - one[0, 0]) : int(end - one[0, 0]) + 1, 1:] for one in (tube, other))
    return float(paired_iou(part, other_part, extent=1).mean()) * in_time


def suppress_tubes(tubes: Sequence[Tube], iou_thr: float) -> list[Tube]:
    """Drop each tube that overlaps more than ``iou_thr`` with a kept one of higher score."""
    kept: list[Tube] = []
    for tube in sorted(tubes, key=lambda tube: -tube.score):
        # Time first: most pairs need no look at their boxes.
        if all(
            temporal_iou(tube.boxes, other.boxes) <= iou_thr or tube_iou(tube.boxes, other.boxes) <= iou_thr
            for other in kept
        ):
            kept.append(tube)
    return kept


def video_ap(
    tubes: Sequence[tuple[str, Tube]], truth: dict[str, list[np.ndarray]], iou_thrs: Sequence[float]
) -> list[float]:
    """Compute the video AP of one class.

    By falling score, each tube takes the annotated tube of its video that it overlaps most among those still free.

    Args:
        tubes: (video, tube) of all videos.
        truth: annotated tubes [k, 5] of each video.
        iou_thrs: least overlaps of a true positive.

    Returns:
        for each threshold the area under the precision-recall curve (trapezoids), NaN without annotated tubes.
    """
    first, total = {}, 0
    for video, annotated in truth.items():
        first[video], total = total, total + len(annotated)
    if not total:
        return [float('nan')] * len(iou_thrs)
    ranked = sorted(tubes, key=lambda item: -item[1].score)
    pairs = [
        (rank, first[video] + index, tube_iou(annotated, tube.boxes))
        for rank, (video, tube) in enumerate(ranked)
        for index, annotated in enumerate(truth.get(video, ()))
    ]
    dets, gts, ious = np.array(pairs, float).reshape(-1, 3).T
    dets, gts = dets.astype(int), gts.astype(int)
    precisions = []
    for iou_thr in iou_thrs:
        enough = ious >= iou_thr
        hits = greedy_match(dets[enough], gts[enough], ious[enough], len(ranked), total)
        precisions.append(trapezoid_ap(hits, total))
    return precisions

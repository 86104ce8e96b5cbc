"""Links the detections of single frames into action tubes: the online linking of the ACT detector, length 1.

V. Kalogeiton et al., Action Tubelet Detector for Spatio-Temporal Action Localization, ICCV 2017, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matching import paired_iou


@dataclass(frozen=True)
class LinkRule:
    """How detections become tubes; the defaults are those of the published evaluations.

    Attributes:
        nms_thr: overlap above which the lower of two detections of a frame and class is dropped.
        top_k: detections kept per frame and class.
        iou_thr: least overlap of a detection with the last box of the tube that it continues.
        max_gap: a tube ends when this many frames in a row do not continue it.
        min_score: least mean score of a tube.
        min_length: least number of frames from first to last box.
        tube_nms_thr: overlap above which the lower of two tubes of a video and class is dropped.
    """

    nms_thr: float = 0.3
    top_k: int = 10
    iou_thr: float = 0.2
    max_gap: int = 5
    min_score: float = 0.005
    min_length: int = 15
    tube_nms_thr: float = 0.3

    def __post_init__(self) -> None:
        # The candidates of a frame are the bits of one int64.
        if not 1 <= self.top_k <= 62 or self.max_gap < 1:
            raise ValueError(f'top_k must be from 1 to 62 and max_gap at least 1, found {self}')


@dataclass
class Tube:
    """An action of one person over consecutive frames.

    Attributes:
        score: mean score of its detections.
        boxes: [k, 5] frame number, x1, y1, x2, y2 in pixels, one row for each frame without gaps.
    """

    score: float
    boxes: np.ndarray


@dataclass
class _Open:
    """A tube that grows: the frames it has boxes in, which of the frame's kept detections, and the sum of scores."""

    frames: list[int]
    slots: list[int]
    total: float

    def mean(self) -> float:
        return self.total / len(self.frames)


def link_video(
    frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray, num_frames: int, rule: LinkRule, score_thr: float
) -> list[list[Tube]]:
    """Link the detections of a video, separately for each class.

    Args:
        frames: [n] frame number of each detection, from 1.
        boxes: [n, 4] x1, y1, x2, y2 in pixels.
        scores: [n, classes].
        num_frames: number of frames of the video.
        rule: parameters of the linking.
        score_thr: pairs of detection and class with a lower score are not used.

    Returns:
        for each class its tubes, by falling score; before non-maximum suppression of tubes.
    """
    frame_boxes, frame_scores = _by_frame(frames - 1, boxes, scores, num_frames)
    tubes = []
    for index, slots in enumerate(suppress(frame_boxes, frame_scores, rule, score_thr)):
        slots = slots[:, (slots >= 0).any(0)]
        valid = slots >= 0
        chosen = np.take_along_axis(frame_boxes, np.maximum(slots, 0)[..., None], 1)
        values = np.take_along_axis(frame_scores[index], np.maximum(slots, 0), 1).astype(float)
        found = _link_class(chosen, values, valid, rule)
        tubes.append(sorted((_filled(tube, chosen) for tube in found), key=lambda tube: -tube.score))
    return tubes


def _by_frame(
    frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay detections out as boxes [frames, slots, 4] and scores [classes, frames, slots], -inf where there is none."""
    order = np.argsort(frames, kind='stable')
    counts = np.bincount(frames, minlength=num_frames)
    slots = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = max(int(counts.max()), 1)
    frame_boxes = np.zeros((num_frames, size, 4))
    frame_scores = np.full((scores.shape[1], num_frames, size), -np.inf, np.float32)
    frame_boxes[frames[order], slots] = boxes[order]
    frame_scores[:, frames[order], slots] = scores[order].T
    return frame_boxes, frame_scores


def suppress(boxes: np.ndarray, scores: np.ndarray, rule: LinkRule, score_thr: float) -> np.ndarray:
    """Non-maximum suppression in all frames and classes at once.

    Args:
        boxes: [frames, n, 4].
        scores: [classes, frames, n], -inf where there is no detection.
        rule: its nms_thr and top_k.
        score_thr: least score.

    Returns:
        [classes, frames, min(top_k, n)] indices of the kept detections by falling score, then -1.
    """
    kept = np.full((*scores.shape[:2], min(rule.top_k, boxes.shape[1])), -1)
    # Overlaps of all pairs take memory: so many frames at a time that they stay below some 100 MB.
    step = max(1, 500_000 // boxes.shape[1] ** 2)
    for start in range(0, len(boxes), step):
        part = slice(start, start + step)
        overlaps = paired_iou(boxes[part, :, None], boxes[part, None], extent=1) > rule.nms_thr
        # A box that was picked is not picked again.
        overlaps |= np.eye(boxes.shape[1], dtype=bool)
        alive = np.where(scores[:, part] >= score_thr, scores[:, part], -np.inf)
        for place in range(kept.shape[2]):
            pick = alive.argmax(2)
            found = np.take_along_axis(alive, pick[..., None], 2)[..., 0] > -np.inf
            kept[:, part, place] = np.where(found, pick, -1)
            alive[overlaps[np.arange(len(overlaps)), pick]] = -np.inf
    return kept


def _link_class(boxes: np.ndarray, scores: np.ndarray, valid: np.ndarray, rule: LinkRule) -> list[_Open]:
    """Link the kept detections [frames, k] of one class, which are sorted by falling score in each frame.

    Bit s of ``continues[gap - 1][frame][t]`` says that detection s of the frame overlaps enough with detection t of
    ``gap`` frames before. With it the loop over frames and tubes touches no array.
    """
    bits = 1 << np.arange(boxes.shape[1])
    continues = []
    for gap in range(1, rule.max_gap + 1):
        near = np.zeros(valid.shape, np.int64)
        overlap = paired_iou(boxes[gap:, :, None], boxes[:-gap, None], extent=1) >= rule.iou_thr
        near[gap:] = (overlap * bits[:, None]).sum(1)
        continues.append(near.tolist())
    present = (valid * bits).sum(1).tolist()
    values = scores.tolist()

    current: list[_Open] = []
    finished: list[_Open] = []
    for frame, free in enumerate(present):
        staying = []
        for tube in sorted(current, key=lambda tube: -tube.mean()):
            gap = frame - tube.frames[-1]
            candidates = continues[gap - 1][frame][tube.slots[-1]] & free
            if candidates:
                # The lowest bit is the highest score.
                bit = candidates & -candidates
                free ^= bit
                slot = bit.bit_length() - 1
                tube.frames.append(frame)
                tube.slots.append(slot)
                tube.total += values[frame][slot]
            elif gap >= rule.max_gap:
                finished.append(tube)
                continue
            staying.append(tube)
        while free:
            bit = free & -free
            free ^= bit
            slot = bit.bit_length() - 1
            staying.append(_Open([frame], [slot], values[frame][slot]))
        current = staying
    return [
        tube
        for tube in finished + current
        if tube.mean() >= rule.min_score and tube.frames[-1] - tube.frames[0] + 1 >= rule.min_length
    ]


def _filled(tube: _Open, boxes: np.ndarray) -> Tube:
    """Give the tube a box in every frame: between two detections the coordinates run linearly."""
    frames = np.arange(tube.frames[0], tube.frames[-1] + 1)
    linked = boxes[tube.frames, tube.slots]
    if len(frames) > len(linked):
        linked = np.stack([np.interp(frames, tube.frames, side) for side in linked.T], 1)
    return Tube(tube.mean(), np.column_stack([frames + 1, linked]))

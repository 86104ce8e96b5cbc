"""From data samples to arrays: what the action metrics take from a model, and the checks on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.logging import MMLogger
from terminaltables import AsciiTable


@dataclass(frozen=True)
class KeyFrame:
    """The detections of one key frame.

    Attributes:
        video: name of the video.
        timestamp: second (AVA) or 1-based frame number (JHMDB, UCF101-24).
        boxes: [n, 4] float32 x1, y1, x2, y2, normalised to [0, 1].
        scores: [n, num_classes] float32, column = action id, column 0 unused.
    """

    video: str
    timestamp: int
    boxes: np.ndarray
    scores: np.ndarray


def read_sample(sample: dict, num_classes: int) -> KeyFrame:
    """Take the detections out of a data sample that a model returned.

    Args:
        sample: data sample as a dict, with ``video_id``, ``timestamp`` and ``pred_instances``.
        num_classes: expected number of score columns, with the unused column 0.

    Raises:
        ValueError: names the key frame and the field: missing, of wrong shape, or not finite.
    """
    missing = [name for name in ('video_id', 'timestamp', 'pred_instances') if name not in sample]
    if missing:
        raise ValueError(
            f'data sample without {", ".join(missing)} (it has {sorted(sample)}): video_id and timestamp come from '
            'meta_keys of PackActionInputs in the test pipeline, pred_instances from the model'
        )
    video, timestamp = str(sample['video_id']), int(sample['timestamp'])
    where = f'predictions of key frame {video},{timestamp:04d}'
    prediction = sample['pred_instances']
    absent = [name for name in ('bboxes', 'scores') if name not in prediction]
    if absent:
        raise ValueError(f'{where}: pred_instances has no {" and no ".join(absent)}; the model must predict both')
    boxes, scores = (_array(prediction[name]) for name in ('bboxes', 'scores'))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes), num_classes):
        raise ValueError(
            f'{where}: bboxes of shape {list(boxes.shape)} and scores of shape {list(scores.shape)}; expected [n, 4] '
            f'and [n, {num_classes}] (column = action id, column 0 unused). Do num_classes of the head and of the '
            'metric agree?'
        )
    for name, values in (('bboxes', boxes), ('scores', scores)):
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            raise ValueError(
                f'{where}: {name}[{bad.argmax()}] is not finite: {values[bad.argmax()].tolist()[:6]}. Has the '
                'training diverged (NaN loss), or is the checkpoint broken?'
            )
    return KeyFrame(video, timestamp, boxes, scores)


def _array(values: object) -> np.ndarray:
    values = values.detach().cpu().float().numpy() if hasattr(values, 'detach') else values
    return np.asarray(values, np.float32)


def unique_key_frames(results: Iterable[KeyFrame]) -> list[KeyFrame]:
    """Keep the first result of each key frame: distributed samplers repeat some to fill the last batch."""
    kept: dict[tuple[str, int], KeyFrame] = {}
    for frame in results:
        kept.setdefault((frame.video, frame.timestamp), frame)
    return list(kept.values())


def stack(frames: list[KeyFrame], num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Concatenate the detections of all key frames.

    Returns:
        index of the key frame [n], boxes [n, 4] float64, scores [n, num_classes] float32.
    """
    numbers = np.repeat(np.arange(len(frames)), [len(frame.boxes) for frame in frames])
    boxes = np.concatenate([np.zeros((0, 4)), *(frame.boxes for frame in frames)])
    scores = np.concatenate([np.zeros((0, num_classes), np.float32), *(frame.scores for frame in frames)])
    return numbers, boxes, scores


def log_table(rows: Sequence[Sequence[object]]) -> None:
    """Write a table to the log; its first row is the header, numbers get four decimals and NaN a dash."""
    MMLogger.get_current_instance().info('\n' + AsciiTable([[_text(cell) for cell in row] for row in rows]).table)


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return '-' if np.isnan(cell) else f'{cell:.4f}'
    return str(cell)

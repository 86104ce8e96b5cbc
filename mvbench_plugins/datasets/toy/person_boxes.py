"""Person boxes of a toy data set as a detector would give them: inexact, with some persons missed and some invented."""

import numpy as np

JITTER = 0.1  # largest shift of each side, in shares of the width or height
MISSED = 0.05  # share of the persons
SURE = 0.8  # the scores of persons begin here, where the usual threshold is
DOUBTFUL = 0.3  # chance that a key frame has a false box of a score below
WRONG = 0.05  # chance that it has one above
_SIDES = (0.1, 0.4)  # of false boxes, in shares of the image


def detected_persons(rng: np.random.Generator, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a detector makes of the persons of one key frame.

    Args:
        rng: Source of all randomness.
        boxes: ``(n, 4)``, x1, y1, x2, y2 in shares of the image.

    Returns:
        Boxes ``(m, 4)`` in the same form and their scores ``(m,)``, in no order.
    """
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noisy = np.clip(boxes + rng.uniform(-JITTER, JITTER, boxes.shape) * sizes, 0, 1)
    found = rng.random(len(boxes)) >= MISSED
    scores = rng.uniform(SURE, 1, len(boxes))
    is_false = rng.random(2) < (DOUBTFUL, WRONG)
    sides = rng.uniform(*_SIDES, (2, 2))
    corners = rng.uniform(0, 1 - sides)
    false_boxes = np.concatenate([corners, corners + sides], axis=1)
    false_scores = np.array([rng.uniform(0.05, SURE - 0.01), rng.uniform(SURE, 0.95)])
    return (
        np.concatenate([noisy[found], false_boxes[is_false]]),
        np.concatenate([scores[found], false_scores[is_false]]),
    )

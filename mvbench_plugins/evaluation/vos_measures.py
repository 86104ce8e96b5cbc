"""Region similarity J and contour accuracy F of one frame, all objects at once.

The definitions are those of the DAVIS toolkit. A frame is evaluated inside the bounding box of its labels only, and
four objects share the bits of one byte a pixel: bits 0 to 3 hold their predicted masks, bits 4 to 7 their true ones.
Boundaries, and all pixels within the tolerance of a boundary, then come from bitwise operations on whole images.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import cv2
import numpy as np

BOUND_SHARE = 0.008  # of the image's diagonal: how far apart two boundary pixels match
_GROUP = 4  # objects in one byte


class _Scratch(threading.local):
    """Memory that a thread uses again for every frame: new arrays of this size cost more than what is done to them."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)

    def take(self, count: int, size: int) -> np.ndarray:
        """``(count, size)`` bytes, of any content; valid until the next call in this thread."""
        if self.memory.size < count * size:
            self.memory = np.empty(count * size, np.uint8)
        return self.memory[: count * size].reshape(count, size)


_scratch = _Scratch()


def contour_tolerance(height: int, width: int) -> int:
    """Distance in pixels up to which boundary pixels match: 0.8 % of the image's diagonal, rounded up."""
    return math.ceil(BOUND_SHARE * math.hypot(height, width))


def frame_measures(
    prediction: np.ndarray, truth: np.ndarray, labels: Sequence[int], void: int | None = None
) -> np.ndarray:
    """Computes J and F of each object.

    J is the intersection over the union of the pixels, 1 if both masks are empty. F is the harmonic mean of the share
    of predicted boundary pixels that lie within :func:`contour_tolerance` of a true one, and the other way round; 1 if
    neither mask has a boundary, 0 if only one has.

    Args:
        prediction: Labels, uint8 ``(height, width)``.
        truth: True labels, uint8, of the same shape.
        labels: Labels of the objects, each from 1 to 255.
        void: Label of true pixels that count for no object.

    Returns:
        J and F, float64 ``(len(labels), 2)``.
    """
    if void is not None:
        ignored = truth == void
        prediction, truth = np.where(ignored, 0, prediction), np.where(ignored, 0, truth)
    x, y, columns, rows = cv2.boundingRect(cv2.bitwise_or(prediction, truth))
    # One more pixel on each side where there is one: the boundary of a mask lies on its outside as well.
    window = (slice(max(y - 1, 0), y + rows + 1), slice(max(x - 1, 0), x + columns + 1))
    radius = contour_tolerance(*truth.shape)
    prediction, truth = np.ascontiguousarray(prediction[window]), np.ascontiguousarray(truth[window])
    groups = [labels[start : start + _GROUP] for start in range(0, len(labels), _GROUP)]
    return np.concatenate([np.zeros((0, 2)), *(_group_measures(prediction, truth, group, radius) for group in groups)])


def _group_measures(prediction: np.ndarray, truth: np.ndarray, labels: Sequence[int], radius: int) -> np.ndarray:
    """J and F of up to four objects, ``(len(labels), 2)``."""
    rows, columns = truth.shape
    line_size = (rows + 2 * radius) * (columns + radius) + radius  # see _dilate
    memory = _scratch.take(8, line_size)
    planes, boundary, first, second, third = memory[:5, : truth.size].reshape(5, rows, columns)
    measures = np.ones((len(labels), 2))
    planes.fill(0)
    for bit, label in enumerate(labels):
        np.equal(prediction, label, out=first.view(bool))
        np.equal(truth, label, out=second.view(bool))
        union = cv2.countNonZero(np.bitwise_or(first, second, out=third))
        if union:
            measures[bit, 0] = (cv2.countNonZero(first) + cv2.countNonZero(second) - union) / union
        # Products in place of shifts, which NumPy does byte by byte.
        planes |= np.multiply(first, 1 << bit, out=first)
        planes |= np.multiply(second, 1 << (bit + _GROUP), out=second)
    _find_boundary(planes, (first, second, third), out=boundary)
    near = _dilate(boundary, radius, memory[5:])
    for bit in range(len(labels)):
        predicted, true = 1 << bit, 1 << (bit + _GROUP)
        shares = []  # precision and recall
        for own, other in ((predicted, true), (true, predicted)):
            np.bitwise_and(boundary, own, out=first)
            total = cv2.countNonZero(first)
            matched = np.minimum(first, np.bitwise_and(near, other, out=second), out=third)
            shares.append(cv2.countNonZero(matched) / total if total else None)
        measures[bit, 1] = _f_measure(*shares)
    return measures


def _f_measure(precision: float | None, recall: float | None) -> float:
    """Harmonic mean; None stands for a mask without a boundary."""
    if precision is None or recall is None:
        return float(precision is recall)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _find_boundary(planes: np.ndarray, spare: tuple[np.ndarray, ...], out: np.ndarray) -> None:
    """Sets the bits of pixels that differ from the one on the right, below, or right below.

    Pixels outside the image count as equal, as in the toolkit. ``spare`` are three arrays to work in.
    """
    some, every, below = spare
    np.bitwise_or(planes[:, :-1], planes[:, 1:], out=some[:, :-1])
    np.bitwise_and(planes[:, :-1], planes[:, 1:], out=every[:, :-1])
    some[:, -1] = every[:, -1] = planes[:, -1]
    np.bitwise_or(some[:-1], some[1:], out=out[:-1])
    out[:-1] ^= np.bitwise_and(every[:-1], every[1:], out=below[:-1])
    np.bitwise_xor(some[-1], every[-1], out=out[-1])


def _dilate(planes: np.ndarray, radius: int, memory: np.ndarray) -> np.ndarray:
    """Sets a bit wherever it is set within ``radius`` pixels (Euclidean distance, inclusive).

    Row by row a disc is a set of horizontal segments that widen from its top to its middle, hence each of them is
    grown from the one before: about ``4 * radius`` operations on the whole image, whatever the number of objects.

    Args:
        planes: uint8 ``(rows, columns)``.
        radius: In pixels.
        memory: Three lines to work in, of ``(rows + 2 * radius) * (columns + radius) + radius`` bytes each.

    Returns:
        uint8 ``(rows, columns)``, in the last of the lines.
    """
    rows, columns = planes.shape
    # Rows are stored one behind the other with room between them, so that a shift is an offset in one long line and
    # what leaves a row at its end falls into the room.
    stride = columns + radius
    begin, length = radius * stride + radius, rows * stride
    memory.fill(0)
    grown, spare, out = memory
    out = out[:length]
    grown[begin : begin + length].reshape(rows, stride)[:, :columns] = planes
    middle, half_width = slice(begin, begin + length), 0
    for offset in range(radius, -1, -1):  # rows from the middle of the disc
        wanted = math.isqrt(radius**2 - offset**2)
        while half_width < wanted:
            step = min(wanted - half_width, 2 * half_width + 1)
            np.bitwise_or(grown[begin - step : begin - step + length], grown[middle], out=spare[middle])
            spare[middle] |= grown[begin + step : begin + step + length]
            grown, spare = spare, grown
            half_width += step
        for shift in {offset * stride, -offset * stride}:
            out |= grown[begin + shift : begin + shift + length]
    return out.reshape(rows, stride)[:, :columns]

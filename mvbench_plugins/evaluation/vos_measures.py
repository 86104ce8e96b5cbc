"""Region similarity J and contour accuracy F of one frame, all objects at once.

The definitions are those of the DAVIS toolkit. A frame is evaluated inside the bounding box of its labels only, and
four objects share the bits of one byte a pixel: bits 0 to 3 hold their predicted masks, bits 4 to 7 their true ones.
Boundaries, and all pixels within the tolerance of a boundary, then come from bitwise operations on whole images, each
of them one pass over one line of memory.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence

import cv2
import numpy as np

BOUND_SHARE = 0.008  # of the image's diagonal: how far apart two boundary pixels match
_GROUP = 4  # objects in one byte
_PREDICTED = np.uint64(0x0F0F0F0F0F0F0F0F)  # the bits of predicted masks in eight pixels


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


class _Layout:
    """How a window of an image lies in a line of memory, so that moving the image is an offset in the line.

    The rows stand one behind the other, each followed by ``radius`` empty pixels, with ``radius`` empty rows above and
    below: what leaves a row at its end falls into this room.

    Attributes:
        stride: Bytes from a pixel to the one below.
        size: Bytes of a line, a multiple of 8.
    """

    def __init__(self, rows: int, columns: int, radius: int) -> None:
        self.rows, self.columns, self.radius = rows, columns, radius
        self.stride = columns + radius
        self.size = -(-((rows + 2 * radius) * self.stride + radius) // 8) * 8
        self._begin, self._end = radius * self.stride, (rows + radius) * self.stride

    def moved(self, line: np.ndarray, offset: int = 0) -> np.ndarray:
        """The part of a line that holds the rows, or what lies ``offset`` bytes behind each of their pixels."""
        return line[self._begin + offset : self._end + offset]

    def image(self, line: np.ndarray) -> np.ndarray:
        """The rows as ``(rows, stride)``: the pixels, and on the right the room."""
        return self.moved(line).reshape(self.rows, self.stride)


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
    groups = [labels[start : start + _GROUP] for start in range(0, len(labels), _GROUP)]
    measures = [_group_measures(prediction[window], truth[window], group, radius) for group in groups]
    return np.concatenate([np.zeros((0, 2)), *measures])


def _group_measures(prediction: np.ndarray, truth: np.ndarray, labels: Sequence[int], radius: int) -> np.ndarray:
    """J and F of up to four objects, ``(len(labels), 2)``."""
    rows, columns = truth.shape
    layout = _Layout(rows, columns, radius)
    lines = _scratch.take(6, layout.size)
    lines[:3].fill(0)
    predicted, true, planes, first, second, third = lines
    layout.image(predicted)[:, : layout.columns] = prediction
    layout.image(true)[:, : layout.columns] = truth
    measures = np.ones((len(labels), 2))
    for bit, label in enumerate(labels):
        np.equal(predicted, label, out=first.view(bool))
        np.equal(true, label, out=second.view(bool))
        union = _count(np.bitwise_or(first, second, out=third))
        if union:
            measures[bit, 0] = (_count(first) + _count(second) - union) / union
        # Products in place of shifts, which NumPy does byte by byte.
        planes |= np.multiply(first, 1 << bit, out=first)
        planes |= np.multiply(second, 1 << (bit + _GROUP), out=second)
    boundary, near = third, planes
    _find_boundary(layout, planes, (first, second), out=boundary)
    _dilate(layout, boundary, (first, second), out=near)
    # Few pixels are on a boundary: only they, by eights, are looked at.
    boundary, near = boundary.view(np.uint64), near.view(np.uint64)
    used = np.flatnonzero(boundary != 0)
    boundary, near = boundary[used], near[used]
    half = np.uint64(_GROUP)
    near_other = (near >> half) & _PREDICTED | (near & _PREDICTED) << half  # predicted pixels near true ones, and so on
    boundary, matched = boundary.view(np.uint8), (boundary & near_other).view(np.uint8)
    for bit in range(len(labels)):
        shares = []  # precision and recall
        for own in (1 << bit, 1 << (bit + _GROUP)):
            total = _count(boundary & own)
            shares.append(_count(matched & own) / total if total else None)
        measures[bit, 1] = _f_measure(*shares)
    return measures


def _count(line: np.ndarray) -> int:
    """Number of elements that are not zero."""
    return cv2.countNonZero(line[None])  # of one row: OpenCV would take a line for many rows of one pixel


def _f_measure(precision: float | None, recall: float | None) -> float:
    """Harmonic mean; None stands for a mask without a boundary."""
    if precision is None or recall is None:
        return float(precision is recall)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _find_boundary(layout: _Layout, planes: np.ndarray, spare: tuple[np.ndarray, np.ndarray], out: np.ndarray) -> None:
    """Sets the bits of pixels that differ from the one on the right, below, or right below.

    Pixels outside the image count as equal, as in the toolkit. Of all lines the room is empty before, and that of
    ``out`` afterwards.

    Args:
        layout: Of the lines.
        planes: Line of masks.
        spare: Two lines to work in.
        out: Line of boundaries.
    """
    right, below = spare
    inside = layout.moved(planes)
    np.bitwise_xor(inside, layout.moved(planes, 1), out=layout.moved(right))
    layout.image(right)[:, layout.columns - 1 :] = 0
    np.bitwise_xor(inside, layout.moved(planes, layout.stride), out=layout.moved(below))
    layout.image(below)[-1] = 0
    # Four pixels are equal if both pairs side by side are, and the left pair one below the other.
    found = np.bitwise_or(layout.moved(right), layout.moved(right, layout.stride), out=layout.moved(out))
    found |= layout.moved(below)


def _dilate(layout: _Layout, planes: np.ndarray, spare: tuple[np.ndarray, np.ndarray], out: np.ndarray) -> None:
    """Sets a bit wherever it is set within the layout's radius (Euclidean distance, inclusive).

    Row by row a disc is a set of horizontal segments that widen from its top to its middle, hence each of them is
    grown from the one before: about ``3 * radius`` operations on the whole image, whatever the number of objects.

    Args:
        layout: Of the lines.
        planes: Line of masks, its room empty.
        spare: Two lines to work in, empty in the room above the image.
        out: Line of the dilated masks; of any content in the room.
    """
    grown, width = planes, 1  # a pixel is set where one of the ``width`` pixels up to it, from the left, is
    lines = itertools.cycle(spare)
    out.fill(0)
    found = layout.moved(out)
    for offset in range(layout.radius, -1, -1):  # rows from the middle of the disc
        half = math.isqrt(layout.radius**2 - offset**2)
        while width < 2 * half + 1:
            step = min(2 * half + 1 - width, width)
            line = next(lines)
            np.bitwise_or(grown[step:], grown[:-step], out=line[step:])
            grown = line
            width += step
        for shift in {offset * layout.stride, -offset * layout.stride}:
            found |= layout.moved(grown, half + shift)

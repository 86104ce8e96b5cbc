"""Boxes and points that stand for masks: a convenience for objects of which nobody has drawn a mask.

A box becomes a filled rectangle and a point a disc. A segmenter takes these for what they are, masks: a box around a
thin or bent object gives background to the object, and a disc leaves most of it out. A drawn mask is always better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np

from mvbench_plugins.datasets.vos.index_masks import VOID

_MAX_LABEL = VOID - 1
_RADIUS = 0.05  # of a disc, in shorter sides of the frame

BoxPrompt = tuple[int, int, Sequence[float]]
PointPrompt = tuple[int, int, Sequence[float]]


@dataclass(frozen=True)
class Prompt:
    """A rectangle or a disc.

    Attributes:
        frame: 0-based index of the frame.
        label: label of the object, 1 to 254.
        place: x1, y1, x2, y2 of a rectangle or x, y of the middle of a disc, in pixels.
        radius: of a disc, in pixels.
    """

    frame: int
    label: int
    place: tuple[float, ...]
    radius: int

    def paint(self, index_map: np.ndarray) -> None:
        """Writes the label into an index map, uint8 ``[h, w]``; what reaches over its border is cut off."""
        if len(self.place) == 4:
            x1, y1, x2, y2 = (max(round(value), 0) for value in self.place)
            index_map[y1:y2, x1:x2] = self.label
        else:
            middle = tuple(int(value) for value in self.place)
            cv2.circle(index_map, middle, self.radius, self.label, cv2.FILLED)


def read_prompts(
    boxes: Iterable[BoxPrompt], points: Iterable[PointPrompt], radius: int | None, size: tuple[int, int]
) -> list[Prompt]:
    """Checks prompts as users give them.

    Args:
        boxes: (frame, label, (x1, y1, x2, y2)) in pixels.
        points: (frame, label, (x, y)) in pixels. Several points of one label at one frame make one object.
        radius: of the discs, in pixels; None: 5 % of the shorter side of the frame.
        size: (width, height) of the frames.

    Returns:
        Boxes, then points, each in the given order; later ones are painted over earlier ones.

    Raises:
        ValueError: one is malformed, or lies outside of the frame.
    """
    if radius is not None and radius < 1:
        raise ValueError(f'point_radius: found {radius}, expected 1 pixel or more')
    radius = radius or max(1, round(_RADIUS * min(size)))
    prompts = [_read(prompt, 'box', ('x1', 'y1', 'x2', 'y2'), radius) for prompt in boxes]
    prompts += [_read(prompt, 'point', ('x', 'y'), radius) for prompt in points]
    width, height = size
    for prompt in prompts:
        what = f'of label {prompt.label} at frame {prompt.frame}: found {prompt.place}, expected'
        if len(prompt.place) == 2:
            x, y = prompt.place
            if not (0 <= x < width and 0 <= y < height):
                raise ValueError(f'point {what} x, y inside of the frame of {width} x {height} pixels')
            continue
        x1, y1, x2, y2 = prompt.place
        if min(round(x2), width) <= max(round(x1), 0) or min(round(y2), height) <= max(round(y1), 0):
            raise ValueError(
                f'box {what} x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2, that overlaps the frame of {width} x '
                f'{height} pixels'
            )
    return prompts


def _read(prompt: Any, kind: str, names: tuple[str, ...], radius: int) -> Prompt:
    try:
        frame, label, place = prompt
        values = tuple(place)
    except (TypeError, ValueError):
        frame, label, values = None, None, ()
    numbers = len(values) == len(names) and all(map(_is_finite, values))
    if not (isinstance(frame, Integral) and isinstance(label, Integral) and numbers):
        raise ValueError(f'{kind}: found {prompt!r}, expected (frame, label, ({", ".join(names)}))')
    frame, label = int(frame), int(label)
    if frame < 0:
        raise ValueError(f'{kind} {prompt!r}: found frame {frame}, expected a 0-based index')
    if not 1 <= label <= _MAX_LABEL:
        raise ValueError(f'{kind} {prompt!r}: found label {label}, expected 1 to {_MAX_LABEL} (0 is the background)')
    return Prompt(frame, label, tuple(float(value) for value in values), radius)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False

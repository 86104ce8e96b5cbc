"""Draws people and what they do onto a frame."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_NO_ACTION = (160, 160, 160)
_OPACITY = 0.8

Color = tuple[int, int, int]
Area = tuple[int, int, int, int]


def draw_actions(image: np.ndarray, detections: Sequence[dict[str, Any]], max_actions: int = 4) -> np.ndarray:
    """Draws boxes, person scores and the best actions; letters and lines grow with the image.

    A small image is enlarged first, by :func:`enlargement`, since labels would hide all of it.

    Each action has a colour of its own; a box has that of its best action. Labels stand above their box if there is
    room in the image, that no other label takes, otherwise inside, below or beside it.

    Args:
        image: uint8 ``[h, w, 3]`` in BGR order; not modified.
        detections: ``box`` (x1, y1, x2, y2 in pixels), ``actions`` (``id``, ``name``, ``score``; best first) and, where
            the model has it, ``person_score``.
        max_actions: how many actions are written for each person, without explanations in brackets.

    Returns:
        The drawing.
    """
    factor = enlargement(image.shape[:2])
    image = enlarge(image, factor) if factor > 1 else image.copy()
    short = min(image.shape[:2])
    thickness = max(1, round(short / 320))
    boxes = [tuple(round(value * factor) for value in detection['box']) for detection in detections]
    for box, detection in zip(boxes, detections):
        best = detection['actions'][:1]
        color = action_color(best[0]['id']) if best else _NO_ACTION
        cv2.rectangle(image, box[:2], box[2:], color, thickness, cv2.LINE_AA)
    taken: list[Area] = []
    # From top to bottom, so that a label that gives way finds the room below.
    for box, detection in sorted(zip(boxes, detections), key=lambda pair: pair[0][1]):
        best = detection['actions'][:max_actions]
        lines = [(f'{_short(action["name"])} {action["score"]:.2f}', action_color(action['id'])) for action in best]
        if 'person_score' in detection:
            lines.insert(0, (f'person {detection["person_score"]:.2f}', _NO_ACTION))
        taken.append(_draw_label(image, box, lines, taken, max(0.36, short / 1000)))
    return image


def enlargement(shape: tuple[int, int]) -> int:
    """By which whole number an image of (height, width) is enlarged before it is drawn on; 1 from 240 pixels on."""
    short = min(shape)
    return 1 if short >= 240 else math.ceil(480 / short)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """The image, ``factor`` times as wide and as high, with its pixels as they are."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


@cache
def action_color(action: int) -> Color:
    """The colour (BGR) of an action id; neighbouring ids are far apart on the colour circle."""
    hue = action * 0.618034 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def _short(name: str) -> str:
    """Such as "talk to" of "talk to (e.g., self, a person, a group)"."""
    return name.split(' (')[0]


def _draw_label(
    image: np.ndarray, box: Area, lines: list[tuple[str, Color]], taken: Iterable[Area], scale: float
) -> Area:
    """Draws one line of text per entry, each on its colour, and returns the area (x1, y1, x2, y2)."""
    height, width = image.shape[:2]
    pad = max(2, round(4 * scale))
    letter = cv2.getTextSize('Ag', _FONT, scale, 1)
    row = letter[0][1] + letter[1] + pad
    # What does not fit into a tiny image is left out, the least actions first.
    lines = [(_fit(text, width - 2 * pad, scale), color) for text, color in lines[: height // row]]
    widths = [cv2.getTextSize(text, _FONT, scale, 1)[0][0] + 2 * pad for text, _ in lines]
    size = (max(widths, default=0), row * len(lines))
    x, y = _place(box, size, (width, height), taken)
    weight = max(1, round(scale * 1.6))
    for number, ((text, color), chip) in enumerate(zip(lines, widths)):
        top = y + number * row
        area = image[max(top, 0) : top + row, x : x + chip]
        area[:] = cv2.addWeighted(area, 1 - _OPACITY, np.full_like(area, color), _OPACITY, 0)
        dark = np.dot(color, (0.114, 0.587, 0.299)) > 130
        ink = (0, 0, 0) if dark else (255, 255, 255)
        cv2.putText(image, text, (x + pad, top + pad // 2 + letter[0][1]), _FONT, scale, ink, weight, cv2.LINE_AA)
    return x, y, x + size[0], y + size[1]


def _fit(text: str, width: int, scale: float) -> str:
    """Shortens the name in ``'name 0.12'`` until the text is no wider than ``width`` pixels."""
    name, score = text.rsplit(' ', 1)
    while len(name) > 1 and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > width:
        name = name[:-1]
        text = f'{name.rstrip()}. {score}'
    return text


def _place(box: Area, size: tuple[int, int], image_size: tuple[int, int], taken: Iterable[Area]) -> tuple[int, int]:
    """The first place for a label around its box that lies in the image and is free; else inside the box's top."""
    (x1, y1, x2, y2), (w, h) = box, size
    limits = max(image_size[0] - w, 0), max(image_size[1] - h, 0)
    inside = (min(max(x1, 0), limits[0]), min(max(y1, 0), limits[1]))
    columns = (inside[0], min(max(x2 - w, 0), limits[0]))
    places = [(x, y) for y in (y1 - h, inside[1], y2, y2 - h) for x in columns] + [(x2, inside[1]), (x1 - w, inside[1])]
    for x, y in places:
        free = all(x >= b[2] or x + w <= b[0] or y >= b[3] or y + h <= b[1] for b in taken)
        if 0 <= x <= limits[0] and 0 <= y <= limits[1] and free:
            return x, y
    return inside

"""A scene from above: 3D boxes with their velocities around the vehicle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from mvbench_plugins.apis.draw_actions import Color
from mvbench_plugins.apis.draw_text import put_text
from mvbench_plugins.apis.multiview_boxes import BACK_BOTTOM, FRONT_BOTTOM, GROUND_TRUTH, DrawnBoxes

_BACKGROUND = (26, 22, 20)
_RING, _RING_STEP = (70, 64, 60), 10  # metres
_VEHICLE = (190, 190, 190)
#: Outline of the car of nuScenes in LiDAR coordinates, with a nose; metres.
_OUTLINE = ((-0.87, -2.0), (-0.87, 1.6), (0.0, 2.4), (0.87, 1.6), (0.87, -2.0))
_LEAST_SPEED = 0.5  # metres per second; slower boxes have no arrow
_SHIFT = 4  # bits of the fraction of a pixel


def draw_bev(
    side: int,
    layers: Sequence[DrawnBoxes],
    points: np.ndarray | None = None,
    legend: Mapping[str, Color] | None = None,
    reach: float = 52.0,
    point_colors: np.ndarray | None = None,
    scores: bool = False,
) -> np.ndarray:
    """Draws boxes as seen from above; ahead is up.

    A line points from the middle of a box to its front, an arrow to where it will be one second later. There is a ring
    every ten metres. mmdet3d's ``draw_bev_bboxes`` shows what is ahead only, without velocities.

    Args:
        side: width and height in pixels.
        layers: boxes; later ones are drawn over earlier ones.
        points: LiDAR sweep ``[n, 3]`` in metres.
        legend: colours by name; that of annotated boxes is added.
        reach: metres from the LiDAR to the edge of the picture.
        point_colors: uint8 ``[n, 3]`` in BGR order; None: :func:`height_colors`.
        scores: whether to write the last word of captions, the score, beside boxes.

    Returns:
        uint8 ``[side, side, 3]`` in BGR order.
    """
    image = np.full((side, side, 3), _BACKGROUND, np.uint8)
    thin = max(1, round(side / 800))
    if points is not None:
        _draw_points(image, points, height_colors(points) if point_colors is None else point_colors, reach)
    middle = _pixels(np.zeros(2), side, reach).tolist()
    for radius in range(_RING_STEP, int(reach * 2**0.5), _RING_STEP):
        cv2.circle(image, middle, round(radius / reach * side / 2 * 2**_SHIFT), _RING, thin, cv2.LINE_AA, _SHIFT)
        if radius < reach and radius % (2 * _RING_STEP) == 0:
            x, y = (_pixels(np.array([0, radius]), side, reach) >> _SHIFT).tolist()
            put_text(image, f'{radius} m', (x, y), _VEHICLE, 0.6)
    outline = _pixels(np.array(_OUTLINE), side, reach)
    cv2.fillPoly(image, [outline], _VEHICLE, cv2.LINE_AA, _SHIFT)
    for boxes in layers:
        _draw_boxes(image, boxes, reach, thin)
        if scores:
            _write_scores(image, boxes, reach)
    if legend and any(boxes.annotated for boxes in layers):
        legend = {**legend, 'annotated': GROUND_TRUTH}
    for row, (name, color) in enumerate(reversed([*(legend or {}).items()])):
        put_text(image, name, (0, side - round((row + 1.5) * side / 36)), color, 0.6)
    return image


def _pixels(places: np.ndarray, side: int, reach: float) -> np.ndarray:
    """LiDAR coordinates ``[..., 2]`` as pixels (x, y) in fixed point with ``_SHIFT`` bits."""
    share = (places * (1, -1) / reach + 1) / 2
    fixed = np.rint((share * side).clip(-(2**16), 2**16) * 2**_SHIFT)
    return np.ascontiguousarray(fixed, np.int32)  # as OpenCV wants it


def height_colors(points: np.ndarray) -> np.ndarray:
    """Greys of points ``[n, 3]``, the brighter the higher: uint8 ``[n, 3]``."""
    bright = np.interp(points[:, 2], (-2, 2), (80, 200)).astype(np.uint8)
    return np.repeat(bright[:, None], 3, axis=1)


def _draw_points(image: np.ndarray, points: np.ndarray, colors: np.ndarray, reach: float) -> None:
    """Dots; of what shares a pixel, the highest."""
    side = len(image)
    columns, rows = (_pixels(points[:, :2], side, reach) >> _SHIFT).T
    inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    order = np.flatnonzero(inside)[np.argsort(points[inside, 2], kind='stable')]
    image[rows[order], columns[order]] = colors[order]


def _write_scores(image: np.ndarray, boxes: DrawnBoxes, reach: float) -> None:
    """Beside the boxes, without the classes, which colours tell: many boxes leave little room."""
    side = len(image)
    corners = _pixels(boxes.corners[..., :2], side, reach) >> _SHIFT  # [n, 8, 2]
    inside = ((corners >= 0) & (corners < side)).all((1, 2))
    for number in np.flatnonzero(inside).tolist():
        words = boxes.captions[number].split()
        put_text(image, ''.join(words[-1:]), corners[number].max(0).tolist(), boxes.colors[number], 0.4)


def _draw_boxes(image: np.ndarray, boxes: DrawnBoxes, reach: float, thin: int) -> None:
    side = len(image)
    bottoms = _pixels(boxes.corners[:, BACK_BOTTOM[:1] + FRONT_BOTTOM + BACK_BOTTOM[1:], :2], side, reach)
    lines = _pixels(boxes.headings[..., :2], side, reach)
    centres = boxes.headings[:, 0, :2]
    later = _pixels(centres + boxes.velocities, side, reach)
    moves = np.linalg.norm(boxes.velocities, axis=1) >= _LEAST_SPEED
    for number, color in enumerate(boxes.colors):
        cv2.polylines(image, [bottoms[number]], True, color, thin, cv2.LINE_AA, _SHIFT)
        start, end = lines[number].tolist()
        cv2.line(image, start, end, color, thin, cv2.LINE_AA, _SHIFT)
        if moves[number]:
            cv2.arrowedLine(image, start, later[number].tolist(), color, thin, cv2.LINE_AA, _SHIFT, 0.25)

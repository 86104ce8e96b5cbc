"""The picture of a LiDAR sweep: seen from behind the vehicle, and from above."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mvbench_plugins.apis.draw_actions import action_color
from mvbench_plugins.apis.draw_text import put_text
from mvbench_plugins.apis.multiview_bev import draw_bev, height_colors
from mvbench_plugins.apis.multiview_boxes import DrawnBoxes, project_lines

_BACKGROUND = (26, 22, 20)
_UNLABELLED = (110, 110, 110)
_LEAST_LUMINANCE = 60  # of a colour on the background; some of SemanticKITTI's are meant for white
_EYE, _TARGET = (0.0, -18.0, 11.0), (0.0, 8.0, -2.0)  # metres, ahead along y
_VIEW_ANGLE = 70.0  # degrees from the left to the right edge
_NEAR = 1.0  # metres; what is nearer to the eye is not drawn
_DOT = 0.12  # metres, edge of a point
_LARGEST_DOT = 4  # pixels
_SHIFT = 4  # bits of the fraction of a pixel


def draw_detections(
    points: np.ndarray, layers: Sequence[DrawnBoxes], classes: Sequence[str], side: int = 960
) -> np.ndarray:
    """Draws boxes with their points, which are the brighter the higher.

    Args:
        points: ``[n, 3]`` in metres, ahead along y.
        layers: boxes; later ones are drawn over earlier ones.
        classes: names by label.
        side: height in pixels.

    Returns:
        BGR picture, ``[side, 7 / 3 * side, 3]``: seen from behind, and from above with scores.
    """
    legend = {name: action_color(label) for label, name in enumerate(classes)}
    behind = draw_from_behind(points, height_colors(points), layers, (side * 4 // 3, side))
    return np.hstack([behind, draw_bev(side, layers, points, legend, scores=True)])


def draw_segmentation(
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    title: str = '',
    side: int = 960,
) -> np.ndarray:
    """Draws points in the colours of their classes; other labels than those of classes are grey.

    Args:
        points: ``[n, 3]`` in metres, ahead along y.
        labels: ``[n]`` integers.
        classes: names by label.
        palette: RGB by label, of which dark ones are drawn lighter; None: colours far apart.
        title: written into the upper left corner.
        side: height in pixels.

    Returns:
        BGR picture, ``[side, 7 / 3 * side, 3]``: seen from behind, and from above.
    """
    if palette is None:
        bgr = [action_color(label) for label in range(len(classes))]
    else:
        bgr = [_legible(*map(int, color)) for color in palette[: len(classes)]]
    known = (labels >= 0) & (labels < len(bgr))
    colors = np.array([*bgr, _UNLABELLED], np.uint8)[np.where(known, labels, len(bgr))]
    behind = draw_from_behind(points, colors, [], (side * 4 // 3, side))
    put_text(behind, title, (0, 0), (255, 255, 255))
    legend = dict(zip(classes, bgr, strict=True)) | {'unlabelled': _UNLABELLED}
    return np.hstack([behind, draw_bev(side, [], points, legend, point_colors=colors)])


def _legible(red: int, green: int, blue: int) -> tuple[int, int, int]:
    """BGR of the same hue, as much nearer to white as it takes to be seen."""
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    white = (_LEAST_LUMINANCE - luminance) / (255 - luminance) if luminance < _LEAST_LUMINANCE else 0.0
    blue, green, red = (round(part + white * (255 - part)) for part in (blue, green, red))
    return blue, green, red


def draw_from_behind(
    points: np.ndarray, colors: np.ndarray, layers: Sequence[DrawnBoxes], size: tuple[int, int]
) -> np.ndarray:
    """Draws points in perspective, the farthest first, and the edges of boxes over them.

    Args:
        points: ``[n, 3]`` in metres, ahead along y.
        colors: uint8 ``[n, 3]`` in BGR order.
        layers: boxes; later ones are drawn over earlier ones.
        size: (width, height) in pixels.

    Returns:
        BGR picture.
    """
    width, height = size
    image = np.full((height, width, 3), _BACKGROUND, np.uint8)
    projection = _projection(width, height)
    _draw_points(image, points @ projection[:3, :3].T + projection[:3, 3], colors, projection)
    thin = max(1, round(height / 600))
    for boxes in layers:
        pixels, seen = project_lines(boxes.edges, projection)
        for lines, drawn, color in zip(pixels, seen, boxes.colors, strict=True):
            for first, last in np.rint(lines[drawn].clip(-(2**16), 2**16) * 2**_SHIFT).astype(int).tolist():
                cv2.line(image, first, last, color, thin, cv2.LINE_AA, _SHIFT)
    return image


def _projection(width: int, height: int) -> np.ndarray:
    """``[4, 4]``: LiDAR coordinates to (u * depth, v * depth, depth, 1)."""
    ahead = np.subtract(_TARGET, _EYE)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.array([1.0, 0.0, 0.0])
    axes = np.stack([right, np.cross(ahead, right), ahead])  # x to the right, y down, z into the picture
    focal = width / 2 / np.tan(np.radians(_VIEW_ANGLE / 2))
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    projection = np.eye(4)
    projection[:3, :3] = camera @ axes
    projection[:3, 3] = -projection[:3, :3] @ _EYE
    return projection


def _draw_points(image: np.ndarray, projected: np.ndarray, colors: np.ndarray, projection: np.ndarray) -> None:
    """Squares, the larger the nearer.

    Args:
        image: to draw on.
        projected: (u * depth, v * depth, depth) of each point.
        colors: of the points.
        projection: what projected them.
    """
    height, width = image.shape[:2]
    seen = np.flatnonzero(projected[:, 2] > _NEAR)
    seen = seen[np.argsort(-projected[seen, 2], kind='stable')]
    depth = projected[seen, 2]
    columns, rows = np.floor(projected[seen, :2] / depth[:, None]).clip(-(2**16), 2**16).astype(int).T
    focal = np.linalg.norm(projection[0, :3] - width / 2 * projection[2, :3])
    edges = np.rint(_DOT * focal / depth).clip(1, _LARGEST_DOT).astype(int)  # ascending, as points come nearer
    for edge in range(1, _LARGEST_DOT + 1):
        these = edges == edge
        down, across = np.divmod(np.arange(edge**2), edge)
        # Point by point, so that a nearer one covers all of a farther one.
        row = (rows[these, None] + down).ravel()
        column = (columns[these, None] + across).ravel()
        color = np.repeat(colors[seen[these]], edge**2, axis=0)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        image[row[inside], column[inside]] = color[inside]

"""The six views around a vehicle, with 3D boxes projected into them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mvbench_plugins.apis.draw_text import FONT, put_text
from mvbench_plugins.apis.multiview_boxes import DrawnBoxes, project_lines
from mvbench_plugins.sparsebev.frames import CAMERAS

#: Front row, back row; what is to the left of the vehicle is on the left.
LAYOUT = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'),
    ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'),
)
_SHIFT = 4  # bits of the fraction of a pixel
_NUM_FRONT = 4  # edges of the front, the last ones of a box
_LEAST_HEIGHT = 0.03  # of a box with a caption, as a share of the height of the picture


def draw_views(
    images: Sequence[np.ndarray], lidar2img: np.ndarray, layers: Sequence[DrawnBoxes], width: int = 640
) -> np.ndarray:
    """Draws boxes into pictures of six cameras, and puts these together in two rows.

    Lines are as thick as fits the size of the drawing. The front of a box is drawn thicker, a line on its bottom points
    there. Lines are cut where they leave the field of view.

    Args:
        images: uint8 ``[h, w, 3]`` in BGR order, in the order of
            :data:`~mvbench_plugins.sparsebev.frames.CAMERAS`; not modified.
        lidar2img: projections into them, ``[6, 4, 4]``.
        layers: boxes; later ones are drawn over earlier ones.
        width: of one picture in the drawing, in pixels; even.

    Returns:
        The drawing, ``3 * width`` pixels wide.
    """
    views = {}
    for camera, image, projection in zip(CAMERAS, images, lidar2img, strict=True):
        view, scale = _resized(image, width)
        for boxes in layers:
            _draw_boxes(view, scale @ projection, boxes)
        put_text(view, camera.removeprefix('CAM_').replace('_', ' '), (0, 0), (255, 255, 255))
        views[camera] = view
    return np.vstack([np.hstack([views[camera] for camera in row]) for row in LAYOUT])


def _resized(image: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of even height, and the matrix that multiplies projections from the left."""
    height = 2 * round(image.shape[0] * width / image.shape[1] / 2)
    scale = np.diag([width / image.shape[1], height / image.shape[0], 1.0, 1.0])
    shrink = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR), scale


def _draw_boxes(view: np.ndarray, lidar2img: np.ndarray, boxes: DrawnBoxes) -> None:
    height, width = view.shape[:2]
    thin = max(1, round(height / 400))
    pixels, seen = project_lines(boxes.edges, lidar2img)
    for lines, drawn, color, caption in zip(pixels, seen, boxes.colors, boxes.captions, strict=True):
        inside = [
            drawn[number] and cv2.clipLine((0, 0, width, height), *line.round().astype(int).tolist())[0]
            for number, line in enumerate(lines)
        ]
        if not any(inside):
            continue
        for number, line in enumerate(lines):
            if inside[number]:
                front = number >= len(lines) - _NUM_FRONT
                first, last = np.rint(line * 2**_SHIFT).astype(int).tolist()
                cv2.line(view, first, last, color, 2 * thin if front else thin, cv2.LINE_AA, _SHIFT)
        corners = lines[drawn].reshape(-1, 2)
        top, bottom = corners[:, 1].min(), corners[:, 1].max()
        if caption and bottom - top > _LEAST_HEIGHT * height:
            row = cv2.getTextSize(caption, FONT, max(0.45, height / 800), 1)[0][1]
            put_text(view, caption, (int(corners[:, 0].min()), int(top) - 2 * row), color)

"""Draws the objects of an index map onto a frame."""

from __future__ import annotations

import cv2
import numpy as np

from mvbench_plugins.apis.draw_actions import enlarge, enlargement

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_objects(frame: np.ndarray, index_map: np.ndarray, palette: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Tints each object, traces its outline and writes its label onto its widest spot.

    A small frame is enlarged first, since labels would hide all of it.

    Args:
        frame: uint8 ``[h, w, 3]`` in BGR order; not modified.
        index_map: uint8 ``[h, w]``, 0 is the background.
        palette: uint8 ``[256, 3]``, RGB colours by label.
        opacity: of the tint.

    Returns:
        The drawing.
    """
    factor = enlargement(frame.shape[:2])
    if factor > 1:
        frame, index_map = enlarge(frame, factor), enlarge(index_map, factor)
    colors = np.ascontiguousarray(palette[:, ::-1])
    tint = np.take(colors, index_map, axis=0)
    picture = cv2.copyTo(cv2.addWeighted(frame, 1 - opacity, tint, opacity, 0), index_map, frame.copy())
    thickness = max(1, round(min(frame.shape[:2]) / 240))
    spots = []
    for label in (np.flatnonzero(np.bincount(index_map.ravel())[1:]) + 1).tolist():
        mask = cv2.compare(index_map, label, cv2.CMP_EQ)
        x, y, width, height = cv2.boundingRect(mask)
        part = mask[y : y + height, x : x + width]
        outlines, _ = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
        cv2.drawContours(picture, outlines, -1, _bright(colors[label]), thickness, cv2.LINE_AA)
        column, row = _widest_spot(part)
        spots.append((label, (x + column, y + row)))
    # Labels come last, so that no outline crosses one.
    for label, spot in spots:
        _write(picture, str(label), spot, colors[label])
    return picture


def _bright(color: np.ndarray) -> tuple[int, ...]:
    """The colour at full strength: that of an outline, to stand out from the tint."""
    strength = 255 / max(int(color.max()), 1)
    return tuple(round(value * strength) for value in color.tolist())


def _widest_spot(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from its border: inside of it, whatever its shape."""
    # What lies beyond the array is not of the object.
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return int(column) - 1, int(row) - 1


def _write(picture: np.ndarray, text: str, spot: tuple[int, int], color: np.ndarray) -> None:
    height, width = picture.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    weight = max(1, round(scale * 1.6))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, weight)
    pad = max(2, round(4 * scale))
    x = int(np.clip(spot[0] - text_width // 2, pad, max(width - text_width - pad, pad)))
    y = int(np.clip(spot[1] + text_height // 2, text_height + pad, max(height - pad, text_height + pad)))
    chip = (x - pad, y - text_height - pad), (x + text_width + pad, y + pad)
    cv2.rectangle(picture, *chip, tuple(color.tolist()), cv2.FILLED)
    dark = np.dot(color, (0.114, 0.587, 0.299)) < 130
    cv2.putText(picture, text, (x, y), _FONT, scale, (255, 255, 255) if dark else (0, 0, 0), weight, cv2.LINE_AA)

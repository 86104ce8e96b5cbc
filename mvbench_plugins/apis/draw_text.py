"""Letters on pictures."""

from __future__ import annotations

import cv2
import numpy as np

from mvbench_plugins.apis.draw_actions import Color

FONT = cv2.FONT_HERSHEY_SIMPLEX


def put_text(image: np.ndarray, text: str, corner: tuple[int, int], color: Color, size: float = 1.0) -> None:
    """Writes in letters that grow with the image, with a shadow.

    Args:
        image: to write on.
        text: one line.
        corner: upper left corner (x, y); moved into the image.
        color: BGR.
        size: factor for the letters.
    """
    height, width = image.shape[:2]
    scale = size * max(0.45, height / 800)
    weight = max(1, round(1.4 * scale))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, weight)
    margin = round(6 * scale)
    x = max(min(corner[0] + margin, width - text_width - margin), 0)
    y = max(min(corner[1] + margin, height - text_height - below - margin), 0) + text_height
    cv2.putText(image, text, (x + weight, y + weight), FONT, scale, (0, 0, 0), weight, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), FONT, scale, color, weight, cv2.LINE_AA)

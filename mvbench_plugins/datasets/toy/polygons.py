"""Exact polygons of a binary mask, in the convention of COCO."""

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outlines of a mask along the edges of its pixels.

    COCO polygons are filled and united, hence cannot have holes: a part with a hole is cut in two through the hole.
    Decoding the polygons gives the mask again, pixel for pixel.

    Args:
        mask: ``(height, width)``, non-zero inside.

    Returns:
        Polygons ``[x0, y0, x1, y1, ...]`` in pixels, where the first pixel spans 0 to 1; none for an empty mask.
    """
    polygons = []
    # 4-connected parts: an outline must not cross itself where two pixels touch at a corner only.
    count, labels = cv2.connectedComponents((np.asarray(mask) != 0).astype(np.uint8), connectivity=4)
    for label in range(1, count):
        part = (labels == label).astype(np.uint8)
        # Doubled, a pixel has an outline of its own: OpenCV's contours run through pixel centres.
        doubled = part.repeat(2, axis=0).repeat(2, axis=1)
        contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        holes = [contour for contour, (*_, parent) in zip(contours, hierarchy[0], strict=True) if parent >= 0]
        if holes:
            xs = holes[0][:, 0, 0] // 2
            cut = (int(xs.min()) + int(xs.max()) + 1) // 2
            for columns in (slice(None, cut), slice(cut, None)):
                half = np.zeros_like(part)
                half[:, columns] = part[:, columns]
                polygons += mask_to_polygons(half)
        else:
            # Sub-pixels 2i and 2i + 1 lie beside the edges i and i + 1.
            polygons.append(_corners((contours[0][:, 0] + 1) // 2).ravel().tolist())
    return polygons


def _corners(outline: np.ndarray) -> np.ndarray:
    """Drops the points of a closed axis-parallel outline, ``(n, 2)``, at which it does not turn."""
    outline = outline[np.any(outline != np.roll(outline, 1, axis=0), axis=1)]
    before, after = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    return outline[np.any(np.sign(before) != np.sign(after), axis=1)]

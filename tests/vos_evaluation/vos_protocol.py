"""J, F and the statistics of the DAVIS toolkit in plain loops, written from their definitions."""

from __future__ import annotations

import math

import numpy as np


def is_boundary(mask: np.ndarray, y: int, x: int) -> bool:
    """Whether a pixel differs from its right, lower, or lower right neighbour in the image."""
    height, width = mask.shape
    neighbours = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (1, 1)) if y + dy < height and x + dx < width]
    return any(mask[one] != mask[y, x] for one in neighbours)


def boundary_pixels(mask: np.ndarray) -> list[tuple[int, int]]:
    return [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if is_boundary(mask, y, x)]


def region(predicted: np.ndarray, true: np.ndarray) -> float:
    inside = union = 0
    for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
        inside += p and t
        union += p or t
    return inside / union if union else 1.0


def contour(predicted: np.ndarray, true: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.sqrt(predicted.shape[0] ** 2 + predicted.shape[1] ** 2))
    ours, theirs = boundary_pixels(predicted), boundary_pixels(true)
    if not ours or not theirs:
        return float(not ours and not theirs)

    def near(pixel, others):
        return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= radius**2 for y, x in others)

    precision = sum(near(pixel, theirs) for pixel in ours) / len(ours)
    recall = sum(near(pixel, ours) for pixel in theirs) / len(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values: list[float]) -> tuple[float, float, float]:
    """Mean, recall, decay."""
    count = len(values)
    edges = [round(1 + (count - 1) * quarter / 4 + 1e-10) - 1 for quarter in range(5)]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    recall = sum(value > 0.5 for value in values) / count
    return sum(values) / count, recall, sum(first) / len(first) - sum(last) / len(last)

"""Draws scenes at random: what is where, how large, and in which colours, such that every solid can be recognised."""

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.scene import Scene, Solid
from mvbench_plugins.datasets.toy.shapes import CLASSES

MAX_SOLIDS = 8
MIN_SIDE = 8  # pixels: the longer side of a solid's visible box is never smaller
MIN_VISIBLE = 0.4  # share of its own pixels that a solid shows at least
BACKGROUND_CONTRAST = 120.0  # distance of a solid's colour to the background around it, in BGR grey levels
MUTUAL_CONTRAST = 100.0  # the same between two solids that may touch
_TRIES = 60  # draws for each solid wanted, before the scene counts as full


def random_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draws a square still scene with 1 to 8 solids, each wholly inside the image.

    The longer side of a solid's box is uniform between 8 pixels and half the image. Solids hide each other, but each
    one shows at least 40 % of itself and at least 8 pixels along its longer side; one that would break this for
    itself or for another is drawn anew, as is one in the colour of its surroundings.

    Args:
        rng: Source of all randomness: equal states give equal scenes.
        size: Side of the image in pixels.

    Returns:
        The scene; its solids are ordered from the farthest to the nearest.
    """
    background = random_background(rng, size, size)
    wanted = int(rng.integers(1, MAX_SOLIDS + 1))
    solids: list[Solid] = []
    areas: list[int] = []  # pixels that each solid would show if nothing hid it
    ids = np.zeros((size, size), np.int32)  # 0 background, i + 1 where solids[i] is visible
    for _ in range(wanted * _TRIES):
        solid = _random_solid(rng, size, depth=float(-len(solids)))
        if not _stands_out(solid, background, solids):
            continue
        window, coverage = solid.coverage(size, size)
        mask = coverage >= 0.5
        candidate = ids.copy()
        candidate[window][mask] = len(solids) + 1
        candidate_areas = [*areas, int(mask.sum())]
        if _all_recognisable(candidate, candidate_areas):
            ids, areas = candidate, candidate_areas
            solids.append(solid)
        if len(solids) == wanted:
            break
    return Scene(background, tuple(solids), noise=rng.uniform(2, 8), noise_seed=int(rng.integers(2**31)))


def random_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A colour with a gradient across the image and blotches on it, float32 ``(height, width, 3)``, 0 to 255."""
    canvas = np.full((height, width, 3), rng.uniform(30, 225, 3), np.float32)
    for cells, amplitude in ((2, 20.0), (5, 10.0), (16, 8.0)):
        grid = rng.uniform(-amplitude, amplitude, (cells, cells, 3)).astype(np.float32)
        canvas += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(canvas, 0, 255)


def _random_solid(rng: np.random.Generator, size: int, depth: float) -> Solid:
    """A solid that lies inside a square image of side ``size``, its box at most half as large."""
    shape = CLASSES[rng.integers(len(CLASSES))]
    angle = rng.uniform(0, 2 * np.pi)
    # The outline of a solid of size 1 at the origin tells how far it reaches to either side at this angle.
    outline = Solid(shape, 1.0, (0.0, 0.0), angle, (0.0, 0.0, 0.0), 0.0).contours()[0]
    low, high = outline.min(0), outline.max(0)
    diameter = rng.uniform(MIN_SIDE, size / 2 - 1) / (high - low).max()  # a box on the pixel grid is up to 1 px longer
    position = rng.uniform(-diameter * low, size - diameter * high)
    colour = rng.uniform(0, 255, 3)
    ripple = rng.uniform(0, 2 * np.pi)
    return Solid(shape, diameter, tuple(position.tolist()), angle, tuple(colour.tolist()), depth, ripple=ripple)


def _stands_out(solid: Solid, background: np.ndarray, others: list[Solid]) -> bool:
    """Whether the colour of a solid differs from the background around it and from all solids within reach."""
    outline = solid.contours()[0]
    (left, top), (right, bottom) = np.floor(outline.min(0)).astype(int), np.ceil(outline.max(0)).astype(int)
    around = background[max(top, 0) : bottom, max(left, 0) : right].mean((0, 1))
    if np.linalg.norm(around - solid.colour) < BACKGROUND_CONTRAST:
        return False
    for other in others:
        distance = np.linalg.norm(np.subtract(solid.position, other.position))
        contrast = np.linalg.norm(np.subtract(solid.colour, other.colour))
        if distance < (solid.size + other.size) / 2 and contrast < MUTUAL_CONTRAST:
            return False
    return True


def _all_recognisable(ids: np.ndarray, areas: list[int]) -> bool:
    """Whether every solid shows enough of itself: a share of its area, and pixels along its longer side."""
    visible = np.bincount(ids.ravel(), minlength=len(areas) + 1)[1:]
    if np.any(visible < MIN_VISIBLE * np.asarray(areas)):
        return False
    for index in range(len(areas)):
        *_, columns, rows = cv2.boundingRect((ids == index + 1).view(np.uint8))
        if max(columns, rows) < MIN_SIDE:
            return False
    return True

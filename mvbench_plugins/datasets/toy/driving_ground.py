"""The ground of the driving world: a grid of streets, which repeats itself in both directions."""

from functools import cache

import cv2
import numpy as np

PERIOD = 48.0  # metres from one street to the next, in x and y; streets lie around multiples of it
ROAD, SIDEWALK, TERRAIN = range(3)
REFLECTANCES = (8.0, 22.0, 14.0)  # of road, sidewalk, terrain: intensity of a LiDAR return that meets it head-on
_KERB = 5.0  # metres from the middle of a street to its sidewalk
_EDGE = 7.5  # metres from there to the terrain
_DASH = 4.0  # length in metres of the dashes in the middle of a street and of the gaps between them
_COLOURS = ((95, 92, 90), (150, 150, 155), (60, 120, 80))  # of road, sidewalk, terrain: blue, green, red
_MARK = (225, 225, 225)
_TILE = 768  # pixels a side of the picture of one period


def ground_kinds(points: np.ndarray) -> np.ndarray:
    """What the ground is made of.

    Args:
        points: Positions ``(..., 2)`` in the world, in metres.

    Returns:
        :data:`ROAD`, :data:`SIDEWALK` or :data:`TERRAIN`, ``(...)``.
    """
    distance = np.abs((points + PERIOD / 2) % PERIOD - PERIOD / 2).min(-1)  # to the middle of the nearest street
    return (distance > _KERB).astype(int) + (distance > _EDGE)


@cache
def ground_tile() -> np.ndarray:
    """Picture of one period of the ground, ``(rows, columns, 3)``, float32, row along y and column along x.

    Streets have dashes in the middle; slabs of two metres and blotches make motion visible everywhere.
    """
    metres = (np.arange(_TILE) + 0.5) * PERIOD / _TILE
    x, y = np.meshgrid(metres, metres)
    tile = np.array(_COLOURS, np.float32)[ground_kinds(np.stack([x, y], axis=-1))]
    tile *= np.where((x // 2 + y // 2) % 2, 1.06, 0.94)[..., None]
    blotches = np.random.default_rng(0).uniform(0.85, 1.15, (24, 24)).astype(np.float32)
    tile *= cv2.resize(blotches, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)[..., None]
    for along, across in ((x, y), (y, x)):
        from_middle = np.minimum(across, PERIOD - across)
        at_crossing = np.minimum(along, PERIOD - along) < _KERB
        tile[(from_middle < 0.12) & (along % (2 * _DASH) < _DASH) & ~at_crossing] = _MARK
        tile[(np.abs(from_middle - _KERB + 0.3) < 0.1) & ~at_crossing] = _MARK
    return tile

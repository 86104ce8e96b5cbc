"""How the faces of a cuboid look: colour and stripes tell its class, a bright front and a dark rear its heading."""

from functools import cache

import numpy as np

from mvbench_plugins.datasets.toy.driving_kinds import Kind
from mvbench_plugins.datasets.toy.driving_rays import FACES

TEXELS = 32  # a side of each face's picture
_GLASS, _LAMP, _TAIL = (60, 50, 45), (220, 250, 255), (30, 30, 235)  # blue, green, red
_NORMALS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])  # of the upright faces, along x and y of the body


@cache
def face_pictures(kind: Kind) -> np.ndarray:
    """Pictures of the six faces, ``(6, rows, columns, 3)``, float32, 0 to 255, in the order of :data:`FACES`.

    Columns run along the body's y axis on front and rear, else along x; rows run down, on top and bottom against y.
    """
    grid = (np.arange(TEXELS) + 0.5) / TEXELS * 2 - 1
    across, up = np.meshgrid(grid, -grid)
    pictures = np.empty((FACES, TEXELS, TEXELS, 3), np.float32)
    pictures[:] = kind.colour
    front, rear, left, right, top, _ = pictures
    if kind.name == 'barrier':
        front[(across * 3 + up) % 1 < 0.5] = rear[(across * 3 + up) % 1 < 0.5] = _TAIL
        return pictures
    if kind.name == 'traffic_cone':
        pictures[:4, (grid > -0.3) & (grid < 0.2)] = 240
        return pictures
    front += 0.55 * (255 - front)
    rear *= 0.45
    for side in (left, right):
        side *= (1 + 0.2 * across)[..., None]  # brighter towards the front
        if kind.stripes:
            side[(across + 1) / 2 * kind.stripes % 1 > 0.65] *= 0.4
    top[across > 0.4] = front[across > 0.4]
    if kind.name == 'pedestrian':
        pictures[:4, grid > 0.1] *= 0.45  # trousers
        pictures[:4, grid < -0.7] = (45, 40, 40)  # hair
        front[(up > 0.55) & (up < 0.9) & (np.abs(across) < 0.6)] = (150, 180, 225)  # a face
        return pictures
    glass = (up > 0.15) & (up < 0.8) & (np.abs(across) < 0.8)
    front[glass] = _GLASS
    if kind.name in ('car', 'bus'):
        left[glass] = right[glass] = _GLASS
    lamps = (up < -0.2) & (up > -0.7) & (np.abs(across) > 0.45)
    front[lamps], rear[lamps] = _LAMP, _TAIL
    return pictures


def shaded_faces(kind: Kind, tint: tuple[float, float, float], sun: float) -> np.ndarray:
    """The pictures of one body in sunlight.

    Args:
        kind: Its class.
        tint: Factors on its colour ``(blue, green, red)``.
        sun: Direction of the sun relative to the body's heading, in radians.

    Returns:
        As of :func:`face_pictures`, at most 255.
    """
    light = np.full(FACES, 1.1, np.float32)
    light[:4] = 0.75 + 0.3 * np.maximum(_NORMALS @ [np.cos(sun), np.sin(sun)], 0)
    return np.minimum(face_pictures(kind) * np.array(tint, np.float32) * light[:, None, None, None], 255)


def look_up(pictures: np.ndarray, faces: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Colours ``(k, 3)`` of points on the faces.

    Args:
        pictures: Of the six faces.
        faces: Number of the face each point lies on, ``(k,)``.
        hits: The points along the body's axes, from -1 to 1, ``(k, 3)``.
    """
    texels = np.minimum((hits + 1) * (TEXELS / 2), TEXELS - 1).astype(np.int32)
    x, y, z = texels.T
    columns = np.where(faces < 2, y, x)
    rows = TEXELS - 1 - np.where(faces < 4, z, y)
    return pictures.reshape(-1, 3)[(faces * TEXELS + rows) * TEXELS + columns]

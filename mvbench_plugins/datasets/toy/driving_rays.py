"""Where rays meet the ground and the cuboids of the driving world: what cameras and the LiDAR see."""

import numpy as np

FACES = 6  # front, rear, left, right, top, bottom: +x, -x, +y, -y, +z, -z of a body


def ground_distance(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """How many lengths of its direction each ray runs until the ground, inf where it points upwards.

    Args:
        origin: Start of all rays ``(3,)``, above the ground.
        directions: ``(..., 3)``, of any length.
    """
    down = np.minimum(directions[..., 2], -1e-9)
    return np.where(directions[..., 2] < 0, -origin[2] / down, np.inf).astype(directions.dtype)


def hit_body(
    origin: np.ndarray, directions: np.ndarray, centre: np.ndarray, half: np.ndarray, yaw: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays enter an upright body.

    Args:
        origin: Start of all rays ``(3,)``, outside the body.
        directions: ``(m, 3)``, of any length.
        centre: Centre of the body ``(3,)``.
        half: Half its extents along its own axes ``(3,)``.
        yaw: Its heading in radians.

    Returns:
        The numbers of the rays that hit, ``(k,)``, how many lengths of its direction each of them runs until then,
        ``(k,)``, and where it hits, ``(k, 3)`` along the body's axes, from -1 to 1.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    # To the body's axes and in units of its half extents: there the body is the cube from -1 to 1.
    to_cube = (np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) / half).astype(directions.dtype)
    start = ((origin - centre) @ to_cube).astype(directions.dtype)
    along = directions @ to_cube
    inverse = 1 / np.where(along == 0, np.float32(1e-30), along)  # not 1 / 0: that times 0 is no number
    middle, reach = -start * inverse, np.abs(inverse)
    enter, leave = (middle - reach).max(1), (middle + reach).min(1)
    rays = np.flatnonzero((enter < leave) & (enter > 0))
    distance = enter[rays]
    return rays, distance, np.clip(start + distance[:, None] * along[rays], -1, 1)


def entered_faces(hits: np.ndarray) -> np.ndarray:
    """Number of the face (see :data:`FACES`) on which each of the points ``(k, 3)`` of :func:`hit_body` lies."""
    axis = np.abs(hits).argmax(1)
    return 2 * axis + (np.take_along_axis(hits, axis[:, None], 1)[:, 0] < 0)

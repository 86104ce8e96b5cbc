"""What a camera of the car sees: one ray for each sub-pixel, which meets the nearest body, the ground or the sky."""

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.driving_faces import look_up, shaded_faces
from mvbench_plugins.datasets.toy.driving_ground import PERIOD, ground_tile
from mvbench_plugins.datasets.toy.driving_rays import entered_faces, ground_distance, hit_body
from mvbench_plugins.datasets.toy.driving_rig import CameraMount
from mvbench_plugins.datasets.toy.driving_world import DrivingWorld

SUPERSAMPLING = 2  # sub-pixels a side
NEAR = 0.05  # metres before the camera from which on bodies are drawn
_HAZE = 40.0  # metres after which the ground fades to a third of its contrast
_HAZE_COLOUR, _ZENITH_COLOUR = np.float32((120, 125, 120)), np.float32((235, 190, 150))
_SKY_COLOUR = np.float32((230, 220, 210))  # at the horizon
_EDGES = np.array([[a, a | bit] for a in range(8) for bit in (1, 2, 4) if not a & bit])  # of a box, by its corners


class Camera:
    """One camera and all of its view that does not change while the car drives.

    Pixel ``(column i, row j)`` covers ``[i, i + 1) x [j, j + 1)``.

    Args:
        mount: How it is mounted.
        size: ``(width, height)`` of its images in pixels.
    """

    def __init__(self, mount: CameraMount, size: tuple[int, int]) -> None:
        self.mount = mount
        self.size = size
        self.intrinsic = mount.intrinsic(size)
        self._origin = np.array(mount.translation)
        width, height = self._fine_size = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
        columns, rows = np.meshgrid((np.arange(width) + 0.5) / SUPERSAMPLING, (np.arange(height) + 0.5) / SUPERSAMPLING)
        # The third component along the optical axis is 1, so distances along a ray are depths.
        rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(self.intrinsic).T
        self._directions = (rays @ mount.rotation.T).astype(np.float32)
        self._ground_depth = ground_distance(self._origin, self._directions)
        is_ground = np.isfinite(self._ground_depth)
        self._first_row = int(is_ground.any(1).argmax())  # of the ground
        depth = np.where(is_ground, self._ground_depth, 0)[self._first_row :, :, None]
        self._ground = self._origin[:2].astype(np.float32) + depth * self._directions[self._first_row :, :, :2]
        self._contrast = np.where(is_ground[self._first_row :, :, None], np.exp(-depth / _HAZE), 0).astype(np.float32)
        steepness = self._directions[..., 2:] / np.linalg.norm(self._directions, axis=-1, keepdims=True)
        sky = _SKY_COLOUR + np.clip(3 * steepness, 0, 1) * (_ZENITH_COLOUR - _SKY_COLOUR)
        self._backdrop = np.where(is_ground[..., None], _HAZE_COLOUR, sky).astype(np.float32)
        self._tile = np.pad(ground_tile(), ((0, 1), (0, 1), (0, 0)), mode='wrap')

    def render(self, world: DrivingWorld, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws the world as it is at time ``t`` (seconds).

        Returns:
            The image, uint8 ``(height, width, 3)`` in blue, green, red order; the map of instances, int32 ``(height,
            width)``, -1 for ground and sky, ``i`` where ``cuboids[i]`` is visible (in the first sub-pixel); and of
            how many sub-pixels each body is seen, and would be if nothing hid it, ``(2, n)``.
        """
        canvas = self._backdrop.copy()
        self._paint_ground(canvas, *world.drive.pose(t))
        depth, ids = self._ground_depth.copy(), np.full(canvas.shape[:2], -1, np.int32)
        bodies, heading = world.bodies(t), world.drive.pose(t)[1]
        covered = np.zeros(len(world.cuboids), int)
        for index, cuboid in enumerate(world.cuboids):
            window = self._window(bodies.corners[index])
            if window is None:
                continue
            directions, yaw = self._directions[window], bodies.yaws[index]
            rays, distances, hits = hit_body(
                self._origin, directions.reshape(-1, 3), bodies.centres[index], bodies.halves[index], yaw
            )
            covered[index] = len(rays)
            rows, columns = np.divmod(rays, directions.shape[1])
            rows, columns = rows + window[0].start, columns + window[1].start
            nearer = distances < depth[rows, columns]
            rows, columns, hits = rows[nearer], columns[nearer], hits[nearer]
            depth[rows, columns], ids[rows, columns] = distances[nearer], index
            pictures = shaded_faces(cuboid.kind, cuboid.tint, world.sun - heading - yaw)
            canvas[rows, columns] = look_up(pictures, entered_faces(hits), hits)
        visible = np.bincount(ids[ids >= 0], minlength=len(covered))
        image = cv2.resize(canvas * np.float32(world.brightness), self.size, interpolation=cv2.INTER_AREA)
        return cv2.convertScaleAbs(image), ids[::SUPERSAMPLING, ::SUPERSAMPLING], np.stack([visible, covered])

    def _paint_ground(self, canvas: np.ndarray, position: np.ndarray, heading: float) -> None:
        """Paints the streets below the horizon, as seen from a pose of the car."""
        cos, sin = np.cos(heading), np.sin(heading)
        scale = (self._tile.shape[0] - 1) / PERIOD
        x, y = self._ground[..., 0], self._ground[..., 1]
        period = np.float32(PERIOD * scale)
        columns = np.float32(cos * scale) * x - np.float32(sin * scale) * y + np.float32(position[0] % PERIOD * scale)
        rows = np.float32(sin * scale) * x + np.float32(cos * scale) * y + np.float32(position[1] % PERIOD * scale)
        for pixels in (columns, rows):
            pixels -= np.floor(pixels / period) * period  # several times faster than the modulo operator
        colours = cv2.remap(self._tile, columns, rows, cv2.INTER_LINEAR)
        part = canvas[self._first_row :]
        part += self._contrast * (colours - part)

    def _window(self, corners: np.ndarray) -> tuple[slice, slice] | None:
        """Rows and columns of sub-pixels among which all rays that hit a box are; None if it is out of view."""
        own = (corners - self._origin) @ self.mount.rotation
        start, end = own[_EDGES[:, 0]], own[_EDGES[:, 1]]
        crossing = (start[:, 2] > NEAR) != (end[:, 2] > NEAR)
        start, end = start[crossing], end[crossing]
        share = (NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
        outline = np.concatenate([own[own[:, 2] > NEAR], start + share * (end - start)])
        if not len(outline):
            return None
        pixels = outline @ self.intrinsic[:2].T / outline[:, 2:] * SUPERSAMPLING
        low = np.clip(np.floor(pixels.min(0)), 0, self._fine_size).astype(int)
        high = np.clip(np.ceil(pixels.max(0)), 0, self._fine_size).astype(int)
        if np.any(low == high):
            return None
        return slice(low[1], high[1]), slice(low[0], high[0])

"""The scene model of the toy world: solids that move in the image plane before a background, and how they are drawn."""

from dataclasses import dataclass

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.shapes import OUTLINES

SUPERSAMPLING = 4  # sub-pixels a side when the coverage of a pixel is measured
_FIXED_POINT_BITS = 4  # OpenCV takes polygon corners as integers with this many fractional bits


@dataclass(frozen=True)
class Solid:
    """One flat, rigid, opaque body.

    Pixel ``(column i, row j)`` covers ``[i, i + 1) x [j, j + 1)``; x points right, y down, time counts in frames.

    Attributes:
        shape: Class name, one of :data:`~mvbench_plugins.datasets.toy.shapes.CLASSES`.
        size: Diameter of the circumscribed circle in pixels.
        position: Centre ``(x, y)`` at time 0 in pixels.
        angle: Rotation at time 0 in radians, clockwise as seen in the image.
        colour: Mean colour ``(blue, green, red)``, 0 to 255.
        depth: Order of painting: a solid hides those of larger depth.
        velocity: ``(x, y)`` in pixels a frame.
        spin: Radians a frame.
        ripple: Phase in radians of the texture's ripples, so that equal solids look different.
    """

    shape: str
    size: float
    position: tuple[float, float]
    angle: float
    colour: tuple[float, float, float]
    depth: float
    velocity: tuple[float, float] = (0.0, 0.0)
    spin: float = 0.0
    ripple: float = 0.0

    def pose(self, t: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Centre ``(2,)`` in pixels and rotation ``(2, 2)`` at time ``t``: ``image = local @ rotation + centre``."""
        angle = self.angle + self.spin * t
        cos, sin = np.cos(angle), np.sin(angle)
        return np.add(self.position, np.multiply(self.velocity, t)), np.array([[cos, sin], [-sin, cos]])

    def contours(self, t: float = 0.0) -> list[np.ndarray]:
        """Closed contours in image coordinates (pixels), each ``(n, 2)``; inner ones are holes."""
        centre, rotation = self.pose(t)
        return [0.5 * self.size * outline @ rotation + centre for outline in OUTLINES[self.shape]]

    def coverage(self, height: int, width: int, t: float = 0.0) -> tuple[tuple[slice, slice], np.ndarray]:
        """Which share of each pixel the solid covers, as if nothing hid it.

        Returns:
            The ``(rows, columns)`` window of the image that holds all of the solid that lies inside the image (empty
            if none does), and the coverage in that window, float32 in [0, 1].
        """
        contours = self.contours(t)
        limits = np.array([width, height])
        low = np.clip(np.floor(contours[0].min(0)).astype(int), 0, limits)
        high = np.clip(np.ceil(contours[0].max(0)).astype(int), low, limits)
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        columns, rows = (high - low).tolist()
        if not rows or not columns:
            return window, np.zeros((rows, columns), np.float32)
        fine = np.zeros((rows * SUPERSAMPLING, columns * SUPERSAMPLING), np.uint8)
        # OpenCV's integer coordinates are centres of (sub-)pixels, ours are their corners: hence the half.
        corners = [((contour - low) * SUPERSAMPLING - 0.5) * 2**_FIXED_POINT_BITS for contour in contours]
        cv2.fillPoly(fine, [np.rint(points).astype(np.int32) for points in corners], 255, shift=_FIXED_POINT_BITS)
        coarse = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA)
        return window, coarse.astype(np.float32) / 255

    def paint(self, window: tuple[slice, slice], t: float = 0.0) -> np.ndarray:
        """Colours in a window, float32 ``(rows, columns, 3)``: a shaded, rippled surface that turns with the solid."""
        centre, rotation = self.pose(t)
        y, x = np.mgrid[window] + 0.5
        local = (np.stack([x, y], axis=-1) - centre) @ rotation.T / (0.5 * self.size)
        light = 1 + 0.12 * local[..., 0] + 0.05 * np.sin(6 * local[..., 1] + self.ripple)
        return (light[..., None] * self.colour).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scene:
    """Solids before a background.

    Attributes:
        background: Colours behind all solids, ``(height, width, 3)`` in blue, green, red order, float32, 0 to 255.
        solids: The bodies, in any order; who hides whom is a matter of their depth.
        noise: Standard deviation of the pixel noise, in grey levels.
        noise_seed: Seed of the pixel noise.
    """

    background: np.ndarray
    solids: tuple[Solid, ...]
    noise: float = 0.0
    noise_seed: int = 0

    def render(self, t: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Draws the scene as it is at time ``t`` (frames), the farthest solid first.

        Returns:
            The image, uint8 ``(height, width, 3)`` in blue, green, red order as ``mmcv.imread`` gives it, and the map
            of instances, int32 ``(height, width)``: 0 for background, ``i + 1`` where ``solids[i]`` is visible. A
            pixel belongs to the nearest solid that covers at least half of it.
        """
        height, width = self.background.shape[:2]
        canvas, ids = self.background.copy(), np.zeros((height, width), np.int32)
        for index in sorted(range(len(self.solids)), key=lambda i: -self.solids[i].depth):
            solid = self.solids[index]
            window, coverage = solid.coverage(height, width, t)
            canvas[window] += coverage[..., None] * (solid.paint(window, t) - canvas[window])
            ids[window][coverage >= 0.5] = index + 1
        grain = np.random.default_rng(self.noise_seed).standard_normal(canvas.shape, np.float32)
        return np.clip(np.rint(canvas + self.noise * grain), 0, 255).astype(np.uint8), ids

"""A scene over time: solids that do something new in each stretch of time, before a background that glides past."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.actions import Motion
from mvbench_plugins.datasets.toy.scene import Scene, Solid


@dataclass(frozen=True)
class Track:
    """The life of one solid: motions of equal length, one after the other, without a jump between them.

    Attributes:
        solid: The body at the beginning of the first motion; what its own velocity and spin say is not used.
        colours: Two colours (blue, green, red) that take turns where the solid blinks. Elsewhere the one that was
            shown last stays, so neither tells anything about the motion.
        motions: What the solid does.
        begin: Time at which the first motion begins, in frames.
        length: Frames that each motion lasts.
        seen: First frame in which the solid is in the scene and the one after the last, if not in all.
    """

    solid: Solid
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    motions: tuple[Motion, ...]
    begin: float
    length: int
    seen: tuple[int, int] | None = None

    def at(self, t: float) -> Solid:
        """The solid as it stands at time ``t`` (frames), with no motion of its own."""
        x, y = self.solid.position
        size, angle, switches = self.solid.size, self.solid.angle, 0
        for index, motion in enumerate(self.motions):
            elapsed = float(np.clip(t - self.begin - index * self.length, 0, self.length))
            x, y = x + motion.velocity[0] * elapsed, y + motion.velocity[1] * elapsed
            size *= np.exp(motion.growth * elapsed)
            angle += motion.spin * elapsed
            switches += motion.switches(elapsed)
        return replace(self.solid, position=(x, y), size=size, angle=angle, colour=self.colours[switches % 2])

    def motion(self, t: float) -> Motion:
        """What the solid does at time ``t`` (frames)."""
        return self.motions[int(np.clip((t - self.begin) // self.length, 0, len(self.motions) - 1))]

    @property
    def first_seen(self) -> int:
        """First frame in which the solid is in the scene."""
        return 0 if self.seen is None else self.seen[0]

    def is_seen(self, t: float) -> bool:
        """Whether the solid is in the scene at time ``t`` (frames)."""
        return self.seen is None or self.seen[0] <= t < self.seen[1]


@dataclass(frozen=True, eq=False)
class VideoScene:
    """Moving solids before a background that glides past.

    Attributes:
        canvas: The whole background, larger than the image, ``(rows, columns, 3)``, float32, 0 to 255.
        size: ``(width, height)`` of the image in pixels.
        corner: Where on the canvas the upper left corner of the image lies at time 0, ``(x, y)`` in pixels.
        pan: Velocity of that corner on the canvas, ``(x, y)`` in pixels a frame.
        tracks: The solids.
        noise: Standard deviation of the pixel noise, in grey levels.
        noise_seed: Seed of the pixel noise of frame 0; every frame has its own.
    """

    canvas: np.ndarray
    size: tuple[int, int]
    corner: tuple[float, float]
    pan: tuple[float, float]
    tracks: tuple[Track, ...]
    noise: float = 0.0
    noise_seed: int = 0

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws frame ``t``.

        Returns:
            The image, uint8 ``(height, width, 3)`` in blue, green, red order, and the map of instances, int32
            ``(height, width)``: 0 for background, ``i + 1`` where ``tracks[i]`` is visible.
        """
        middle = np.add(self.corner, np.multiply(self.pan, t)) + (np.array(self.size) - 1) / 2
        background = cv2.getRectSubPix(self.canvas, self.size, tuple(middle.tolist()))
        seen = [index for index, track in enumerate(self.tracks) if track.is_seen(t)]
        solids = tuple(self.tracks[index].at(t) for index in seen)
        image, ids = Scene(background, solids, self.noise, self.noise_seed + t).render()
        return image, np.array([0, *(index + 1 for index in seen)], np.int32)[ids]


def visible_box(ids: np.ndarray, index: int) -> tuple[int, int, int, int]:
    """Edges ``(x1, y1, x2, y2)`` of the visible part of ``tracks[index]``, in pixels from the image's corner.

    Args:
        ids: Map of instances, as :meth:`VideoScene.render` gives it.
        index: Which of the tracks.
    """
    x, y, columns, rows = cv2.boundingRect((ids == index + 1).view(np.uint8))
    return x, y, x + columns, y + rows

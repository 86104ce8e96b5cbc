"""The driving world of the toy data: a car that drives on a plane among cuboids which stand or move straight on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mvbench_plugins.datasets.toy.driving_kinds import Kind

SKIN = 0.03  # metres between a body and its box at the sides and on top, as people draw boxes


@dataclass(frozen=True)
class Cuboid:
    """One upright box on the ground.

    The world's x and y axes span the ground, z points up. Time counts in seconds, lengths in metres.

    Attributes:
        kind: Its class.
        size: Length (along its heading), width and height.
        position: Middle ``(x, y)`` at time 0.
        yaw: Heading in radians, counter-clockwise from the x axis.
        speed: Metres a second along its heading.
        tint: Factors on the colour ``(blue, green, red)``, so that equal kinds look different.
    """

    kind: Kind
    size: tuple[float, float, float]
    position: tuple[float, float]
    yaw: float
    speed: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def velocity(self) -> np.ndarray:
        """Velocity ``(x, y)`` in metres a second."""
        return self.speed * np.array([np.cos(self.yaw), np.sin(self.yaw)])

    @property
    def radius(self) -> float:
        """Radius of the circle around its footprint."""
        return float(np.hypot(*self.size[:2]) / 2)

    @property
    def half_body(self) -> np.ndarray:
        """Half the extent of the body ``(3,)``, which fills its box but for a skin at the sides and on top."""
        return np.array(self.size) / 2 - (SKIN, SKIN, SKIN / 2)

    def middle(self, t: float) -> np.ndarray:
        """Middle ``(x, y)`` of the footprint at time ``t``."""
        return self.position + self.velocity * t


@dataclass(frozen=True)
class Drive:
    """The motion of the car that carries the sensors: constant speed on a straight line or a circle.

    Attributes:
        start: Position ``(x, y)`` at time 0.
        heading: Heading at time 0 in radians, counter-clockwise from the x axis.
        speed: Metres a second.
        yaw_rate: Radians a second, positive to the left.
    """

    start: tuple[float, float]
    heading: float
    speed: float
    yaw_rate: float = 0.0

    def pose(self, t: float) -> tuple[np.ndarray, float]:
        """Position ``(x, y)`` and heading at time ``t``."""
        turn = self.yaw_rate * t
        # The chord of the arc: np.sinc(x) is sin(pi x) / (pi x), hence 1 on a straight line.
        chord, direction = self.speed * t * np.sinc(turn / 2 / np.pi), self.heading + turn / 2
        return self.start + chord * np.array([np.cos(direction), np.sin(direction)]), self.heading + turn


@dataclass(frozen=True)
class Bodies:
    """The bodies of all cuboids at one moment, as the car sees them: x ahead, y to its left, z up from the ground.

    Attributes:
        centres: ``(n, 3)`` in metres.
        halves: Half extents along each body's own axes, ``(n, 3)`` in metres.
        yaws: Headings relative to the car's, ``(n,)`` in radians.
    """

    centres: np.ndarray
    halves: np.ndarray
    yaws: np.ndarray

    @cached_property
    def corners(self) -> np.ndarray:
        """All corners, ``(n, 8, 3)``; bit 2, 1, 0 of a corner's number tells its side along x, y, z of the body."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        local = self.halves[:, None] * signs
        cos, sin = np.cos(self.yaws)[:, None], np.sin(self.yaws)[:, None]
        x, y, z = np.moveaxis(local, -1, 0)
        return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1) + self.centres[:, None]


@dataclass(frozen=True)
class DrivingWorld:
    """Everything that one scene shows.

    Attributes:
        drive: Motion of the car with the sensors.
        cuboids: All bodies, in any order.
        sun: Direction in which the sun stands, in radians from the x axis.
        brightness: Factor on all colours.
    """

    drive: Drive
    cuboids: tuple[Cuboid, ...]
    sun: float = 0.0
    brightness: float = 1.0

    def poses(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Middles ``(n, 2)`` and headings ``(n,)`` of all cuboids at time ``t``, in the frame of the car then."""
        position, heading = self.drive.pose(t)
        cos, sin = np.cos(heading), np.sin(heading)
        middles = np.array([cuboid.middle(t) for cuboid in self.cuboids]).reshape(-1, 2) - position
        return middles @ np.array([[cos, -sin], [sin, cos]]), np.array([c.yaw for c in self.cuboids]) - heading

    def bodies(self, t: float) -> Bodies:
        """The bodies at time ``t`` (seconds) in the frame of the car at that time."""
        middles, yaws = self.poses(t)
        halves = np.array([cuboid.half_body for cuboid in self.cuboids]).reshape(-1, 3)
        return Bodies(np.column_stack([middles, halves[:, 2]]), halves, yaws)

"""Draws driving worlds at random: all classes about equally often, near the car at some time, never in each other."""

import numpy as np

from mvbench_plugins.datasets.toy.driving_ground import PERIOD
from mvbench_plugins.datasets.toy.driving_kinds import KINDS, Kind
from mvbench_plugins.datasets.toy.driving_world import Cuboid, Drive, DrivingWorld

FEWEST, MOST = 14, 22  # cuboids in a world
NEAREST = 4.0  # metres from the middle of the car to that of a cuboid when they meet
GAP = 0.4  # metres between two cuboids, at least
CAR_GAP = 3.5  # metres between a cuboid and the middle of the car
SITE = (120.0, 280.0)  # where drives begin, along both axes, in metres
MAX_SPEED = 8.0  # of the car, in metres a second
MAX_YAW_RATE = 0.25  # radians a second
_MOVING = 0.6  # share of the cuboids of a kind that can move which do
_TRIES = 60  # draws for each cuboid wanted, before the world counts as full


def random_world(rng: np.random.Generator, duration: float) -> DrivingWorld:
    """Draws the world of one scene.

    The car starts on a street and along it; half the drives turn. Headings of cuboids are uniform, and those that move
    go straight on at constant speed. How a cuboid looks does not depend on its speed.

    Args:
        rng: Source of all randomness: equal states give equal worlds.
        duration: Length of the scene in seconds.
    """
    drive = _random_drive(rng)
    times = np.linspace(0, duration, max(2, int(duration * 4) + 1))
    car = np.array([drive.pose(t)[0] for t in times])
    wanted = int(rng.integers(FEWEST, MOST + 1))
    cuboids: list[Cuboid] = []
    tracks: list[np.ndarray] = []  # of their middles
    for _ in range(wanted * _TRIES):
        # The kind is drawn by what is wanted next: large kinds, which fit less often, would get rare otherwise.
        cuboid = _random_cuboid(rng, KINDS[(len(cuboids) + wanted) % len(KINDS)], drive, rng.uniform(0, duration))
        track = cuboid.middle(times[:, None])
        clear = np.linalg.norm(track - car, axis=1).min() > cuboid.radius + CAR_GAP
        if clear and all(
            np.linalg.norm(track - other_track, axis=1).min() > cuboid.radius + other.radius + GAP
            for other, other_track in zip(cuboids, tracks, strict=True)
        ):
            cuboids.append(cuboid)
            tracks.append(track)
        if len(cuboids) == wanted:
            break
    return DrivingWorld(drive, tuple(cuboids), sun=rng.uniform(0, 2 * np.pi), brightness=rng.uniform(0.75, 1.1))


def _random_drive(rng: np.random.Generator) -> Drive:
    """A drive that begins on a street, right of its middle, along one of the axes."""
    heading = np.pi / 2 * rng.integers(4)
    along, ahead = rng.uniform(*SITE), np.array([np.cos(heading), np.sin(heading)])
    right = np.array([ahead[1], -ahead[0]])
    street = PERIOD * np.rint(rng.uniform(*SITE) / PERIOD)
    start = along * np.abs(ahead) + street * np.abs(right) + 2.0 * right
    yaw_rate = rng.uniform(-MAX_YAW_RATE, MAX_YAW_RATE) if rng.uniform() < 0.5 else 0.0
    return Drive(tuple(start.tolist()), float(heading), rng.uniform(0, MAX_SPEED), yaw_rate)


def _random_cuboid(rng: np.random.Generator, kind: Kind, drive: Drive, met: float) -> Cuboid:
    """A cuboid that is within reach of the car at time ``met``."""
    distance = rng.uniform(NEAREST, kind.reach)
    direction, yaw = rng.uniform(0, 2 * np.pi, 2)
    speed = rng.uniform(*kind.speed) if kind.speed is not None and rng.uniform() < _MOVING else 0.0
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    position = drive.pose(met)[0] + distance * np.array([np.cos(direction), np.sin(direction)]) - met * speed * ahead
    size = np.array(kind.size) * rng.uniform(0.92, 1.08, 3)
    tint = rng.uniform(0.8, 1.1) * rng.uniform(0.93, 1.07, 3)
    return Cuboid(kind, tuple(size.tolist()), tuple(position.tolist()), yaw, speed, tuple(tint.tolist()))

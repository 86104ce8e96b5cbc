"""Sweeps of a LiDAR with 32 beams through the driving world: every ray returns from the first thing that it meets."""

from dataclasses import dataclass

import numpy as np

from mvbench_plugins.datasets.toy.driving_ground import REFLECTANCES, ground_kinds
from mvbench_plugins.datasets.toy.driving_kinds import KINDS
from mvbench_plugins.datasets.toy.driving_rays import entered_faces, ground_distance, hit_body
from mvbench_plugins.datasets.toy.driving_rig import LIDAR
from mvbench_plugins.datasets.toy.driving_world import DrivingWorld

ELEVATIONS = np.radians(-30.67 + 4 / 3 * np.arange(32))  # of the beams, from ring 0 up
MAX_RANGE = 70.0  # metres
RANGE_NOISE = 0.02  # metres by which a range is wrong at most
#: Names of the labels that :func:`point_labels` gives.
LABELS = ('road', 'sidewalk', 'terrain', *(kind.name for kind in KINDS))


@dataclass(frozen=True)
class Sweep:
    """The returns of one turn of the LiDAR.

    Attributes:
        points: x, y, z in metres in the frame of the LiDAR (x to the right, y ahead, z up), intensity from 0 to 255
            and number of the ring; ``(n, 5)``, float32.
        instances: Index of the cuboid that each point lies on, -1 for the ground; ``(n,)``, int32.
        ground: What the ground at each point is made of, -1 for a point on a cuboid; ``(n,)``, int32.
    """

    points: np.ndarray
    instances: np.ndarray
    ground: np.ndarray


def lidar_sweep(world: DrivingWorld, t: float, rng: np.random.Generator, azimuths: int) -> Sweep:
    """Casts the rays of one turn, as if all were cast at once.

    Args:
        world: What is around the car.
        t: Time in seconds.
        rng: Source of the noise and of the direction in which the turn begins.
        azimuths: Number of directions that each beam is cast in during a turn.
    """
    turns = (np.arange(azimuths) + rng.uniform()) * 2 * np.pi / azimuths
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(turns, ELEVATIONS))
    flat = np.cos(elevation)
    rays = np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    origin, directions = np.array(LIDAR.translation), rays @ LIDAR.rotation.T
    distance = ground_distance(origin, directions)
    slant = np.abs(directions[:, 2])  # cosine between the ray and the normal of what it meets
    instance = np.full(len(rays), -1, np.int32)
    bodies = world.bodies(t)
    for index in range(len(world.cuboids)):
        hit, distances, hits = hit_body(
            origin, directions, bodies.centres[index], bodies.halves[index], bodies.yaws[index]
        )
        nearer = distances < distance[hit]
        hit = hit[nearer]
        distance[hit], instance[hit] = distances[nearer], index
        axis = entered_faces(hits[nearer]) // 2
        yaw = bodies.yaws[index]
        normals = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        slant[hit] = np.abs((directions[hit] * normals[axis]).sum(1))
    distance += np.clip(rng.normal(0, RANGE_NOISE / 2, len(rays)), -RANGE_NOISE, RANGE_NOISE)
    returned = np.flatnonzero(distance < MAX_RANGE)
    distance, instance = distance[returned], instance[returned]
    ground = _ground_under(world, t, origin + distance[:, None] * directions[returned])
    ground[instance >= 0] = -1
    reflectance = np.array([*REFLECTANCES, *(cuboid.kind.reflectance for cuboid in world.cuboids)])
    strength = reflectance[np.where(instance < 0, ground, instance + len(REFLECTANCES))]
    intensity = strength * (0.3 + 0.7 * slant[returned]) * rng.uniform(0.8, 1.2, len(returned))
    ring = returned // azimuths
    points = np.column_stack([distance[:, None] * rays[returned], np.rint(intensity), ring]).astype(np.float32)
    return Sweep(points, instance, ground.astype(np.int32))


def point_labels(world: DrivingWorld, sweep: Sweep) -> np.ndarray:
    """For each point of a sweep the index of its name in :data:`LABELS`, ``(n,)``, int32."""
    kinds = [KINDS.index(cuboid.kind) for cuboid in world.cuboids]
    of_cuboids = np.array([*kinds, 0], np.int32) + len(REFLECTANCES)  # the last one for the ground: not used
    return np.where(sweep.instances < 0, sweep.ground, of_cuboids[sweep.instances]).astype(np.int32)


def points_in_boxes(world: DrivingWorld, t: float, points: np.ndarray) -> np.ndarray:
    """How many points of a sweep at time ``t`` lie in the box of each cuboid, edges included, ``(n,)``.

    Args:
        world: The world that was swept.
        t: Time in seconds.
        points: ``(m, 3)`` or more columns, in the frame of the LiDAR.
    """
    of_car = points[:, :3].astype(float) @ LIDAR.rotation.T + LIDAR.translation
    counts = []
    for centre, yaw, cuboid in zip(*world.poses(t), world.cuboids, strict=True):
        cos, sin = np.cos(yaw), np.sin(yaw)
        own = (of_car[:, :2] - centre) @ np.array([[cos, -sin], [sin, cos]])
        length, width, height = cuboid.size
        inside = (np.abs(own) <= (length / 2, width / 2)).all(1) & (of_car[:, 2] >= 0) & (of_car[:, 2] <= height)
        counts.append(np.count_nonzero(inside))
    return np.array(counts, int)


def _ground_under(world: DrivingWorld, t: float, points: np.ndarray) -> np.ndarray:
    """What the ground below points ``(n, 3)`` in the frame of the car is made of."""
    position, heading = world.drive.pose(t)
    cos, sin = np.cos(heading), np.sin(heading)
    return ground_kinds(points[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + position)

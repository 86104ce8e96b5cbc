"""The toy world of driving: what cameras and LiDAR see of it, and what random worlds hold."""

import numpy as np
import pytest
from pyquaternion import Quaternion

from mvbench_plugins.datasets.toy.driving_cameras import Camera
from mvbench_plugins.datasets.toy.driving_ground import ROAD, TERRAIN, ground_kinds
from mvbench_plugins.datasets.toy.driving_kinds import KINDS
from mvbench_plugins.datasets.toy.driving_lidar import LABELS, lidar_sweep, point_labels
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import CAMERAS, LIDAR
from mvbench_plugins.datasets.toy.driving_world import Cuboid, Drive, DrivingWorld

SIZE = (160, 90)


@pytest.fixture(scope='module')
def cameras() -> dict[str, Camera]:
    return {mount.channel: Camera(mount, SIZE) for mount in CAMERAS}


STANDING = Drive((0.0, 0.0), 0.0, 0.0)


def cuboid(name: str, position: tuple[float, float], yaw: float = 0.0, **fields) -> Cuboid:
    kind = next(kind for kind in KINDS if kind.name == name)
    return Cuboid(kind, kind.size, position, yaw, **fields)


def test_what_stands_behind_is_hidden_from_lidar_and_cameras(cameras):
    bus, person = cuboid('bus', (10.0, 0.0), np.pi / 2), cuboid('pedestrian', (14.0, 0.0))
    rng = np.random.default_rng
    for cuboids, is_hidden in (((bus, person), True), ((person,), False)):
        world = DrivingWorld(STANDING, cuboids)
        last = len(cuboids) - 1
        assert ((lidar_sweep(world, 0.0, rng(0), 360).instances == last).sum() == 0) == is_hidden
        _, ids, (seen, covered) = cameras['CAM_FRONT'].render(world, 0.0)
        assert (seen[last] == 0) == is_hidden and covered[last] > 100
        assert (last in ids) != is_hidden


def test_points_are_labelled_by_what_they_lie_on():
    world = random_world(np.random.default_rng(2), 2.0)
    t = 1.0
    sweep = lidar_sweep(world, t, np.random.default_rng(0), 240)
    labels = np.array(LABELS)[point_labels(world, sweep)]
    assert len(labels) == len(sweep.points)
    assert {'road', 'sidewalk', 'terrain'} < set(labels)
    for index in np.unique(sweep.instances[sweep.instances >= 0]):
        assert set(labels[sweep.instances == index]) == {world.cuboids[index].kind.name}
    np.testing.assert_array_equal(sweep.ground < 0, sweep.instances >= 0)
    # The ground as the world has it at the place of the point.
    (x, y), heading = world.drive.pose(t)
    car = sweep.points[:, :3] @ LIDAR.rotation.T + LIDAR.translation
    where = car @ Quaternion(axis=(0, 0, 1), radians=heading).rotation_matrix.T + (x, y, 0)
    on_ground = sweep.instances < 0
    assert np.all(np.abs(where[on_ground, 2]) < 0.03)
    names = np.array(LABELS[:3])[ground_kinds(where[on_ground, :2])]
    assert (names == labels[on_ground]).mean() > 0.999
    # Reflectances differ, so that intensities tell classes apart.
    assert np.median(sweep.points[labels == 'road', 3]) < 10 < np.median(sweep.points[~on_ground, 3])


def test_cameras_and_lidar_see_the_same_streets(cameras):
    """LiDAR points on terrain fall onto green pixels and those on roads onto grey ones, while the car turns."""
    agreement = []
    for seed in range(3):
        world = random_world(np.random.default_rng(seed), 4.0)
        sweep = lidar_sweep(world, 3.0, np.random.default_rng(0), 360)
        car = sweep.points[:, :3] @ LIDAR.rotation.T + LIDAR.translation
        for camera in cameras.values():
            image, ids, _ = camera.render(world, 3.0)
            own = (car - camera.mount.translation) @ camera.mount.rotation
            columns, rows = (own @ camera.intrinsic.T)[:, :2].T // own[:, 2]
            seen = (own[:, 2] > 1) & (own[:, 2] < 20) & (columns >= 0) & (columns < 160) & (rows >= 0) & (rows < 90)
            seen &= np.isin(sweep.ground, (ROAD, TERRAIN))
            rows, columns, ground = rows[seen].astype(int), columns[seen].astype(int), sweep.ground[seen]
            free = ids[rows, columns] < 0
            _, green, red = np.moveaxis(image[rows, columns].astype(int), -1, 0)
            agreement += ((green - red > 12) == (ground == TERRAIN))[free].tolist()
    assert len(agreement) > 3000 and np.mean(agreement) > 0.97


def test_front_and_rear_look_different_and_a_body_beside_the_camera_is_drawn_whole(cameras):
    camera = cameras['CAM_FRONT']
    for name in ('car', 'truck', 'bus', 'motorcycle', 'bicycle', 'trailer', 'construction_vehicle'):
        means = []
        for yaw in (np.pi, 0.0):  # it faces the camera, it shows its rear
            image, ids, _ = camera.render(DrivingWorld(STANDING, (cuboid(name, (12.0, 0.0), yaw),), sun=np.pi / 2), 0.0)
            means.append(image[ids == 0].mean())
        assert means[0] > 1.4 * means[1], name
    # A bus that reaches behind the image plane: its part in view begins at the edge of the image.
    for side in (-1, 1):
        _, ids, _ = camera.render(DrivingWorld(STANDING, (cuboid('bus', (5.0, 4.0 * side)),)), 0.0)
        columns = np.flatnonzero((ids == 0).any(0))
        assert len(columns) > 20 and (0 if side > 0 else SIZE[0] - 1) in columns
    _, ids, (seen, covered) = camera.render(DrivingWorld(STANDING, (cuboid('bus', (-12.0, 0.0)),)), 0.0)
    assert not (ids == 0).any() and not seen.any() and not covered.any()  # behind the camera


def test_windows_lose_no_pixel(cameras, monkeypatch):
    world = random_world(np.random.default_rng(5), 2.0)
    images = [camera.render(world, 1.0)[0] for camera in cameras.values()]
    monkeypatch.setattr(Camera, '_window', lambda self, corners: (slice(0, 180), slice(0, 320)))
    for image, camera in zip(images, cameras.values(), strict=True):
        np.testing.assert_array_equal(camera.render(world, 1.0)[0], image)


def test_random_worlds_keep_clear_and_show_all_kinds():
    counts, distances = dict.fromkeys(KINDS, 0), []
    for seed in range(40):
        world = random_world(np.random.default_rng(seed), 4.5)
        for each in world.cuboids:
            counts[each.kind] += 1
        for t in np.linspace(0, 4.5, 10):
            middles, _ = world.poses(t)
            radii = np.array([each.radius for each in world.cuboids])
            gaps = np.linalg.norm(middles[:, None] - middles, axis=-1) - radii - radii[:, None]
            assert gaps[~np.eye(len(radii), dtype=bool)].min() > 0.2
            assert (np.linalg.norm(middles, axis=1) - radii).min() > 3
            distances += np.linalg.norm(middles, axis=1).tolist()
    assert min(counts.values()) > 0.7 * max(counts.values()) and min(counts.values()) > 40
    assert np.percentile(distances, 90) < 40


def test_the_car_moves_where_it_heads():
    drive = Drive((100.0, 50.0), 2.0, speed=6.0, yaw_rate=-0.3)
    for t in np.linspace(0, 20, 9):
        (before, _), (after, _), heading = drive.pose(t - 1e-4), drive.pose(t + 1e-4), drive.pose(t)[1]
        assert heading == pytest.approx(2.0 - 0.3 * t)
        velocity = (after - before) / 2e-4
        np.testing.assert_allclose(velocity, (6 * np.cos(heading), 6 * np.sin(heading)), atol=1e-5)

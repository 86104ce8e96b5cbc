"""The driving world and its nuScenes writer: the devkit opens it, sensors and boxes agree, stock tools run on it."""

import importlib.util
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import mmdet3d
import numpy as np
import pytest
import torch
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.transforms import LoadMultiViewImageFromFiles, LoadPointsFromFile, LoadPointsFromMultiSweeps
from mmdet3d.evaluation.metrics import NuScenesMetric
from nuscenes import NuScenes
from nuscenes.utils import splits
from nuscenes.utils.data_classes import Box, LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box, view_points
from pyquaternion import Quaternion

from mvbench_plugins.datasets.toy import nuscenes as writer
from mvbench_plugins.datasets.toy import write_nuscenes
from mvbench_plugins.datasets.toy.driving_cameras import Camera
from mvbench_plugins.datasets.toy.driving_ground import ROAD, TERRAIN, ground_kinds
from mvbench_plugins.datasets.toy.driving_kinds import KINDS
from mvbench_plugins.datasets.toy.driving_lidar import LABELS, lidar_sweep, point_labels
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import CAMERAS, LIDAR
from mvbench_plugins.datasets.toy.driving_world import SKIN, Cuboid, Drive, DrivingWorld
from mvbench_plugins.datasets.toy.nuscenes import TRAIN_SCENES, VAL_SCENES

SIZE = (160, 90)
SMALL = {'seed': 6, 'num_train': 1, 'num_val': 1, 'size': SIZE, 'key_frames': 4, 'sweeps': 2}
TINY = {'num_train': 2, 'num_val': 1, 'size': (64, 36), 'key_frames': 2, 'sweeps': 0, 'azimuths': 16}
DURATION = 1.5  # seconds, of the scenes of SMALL
CHANNELS = [mount.channel for mount in (*CAMERAS, LIDAR)]
TOOL = Path(__file__).parents[1] / 'tools' / 'make_toy_data.py'
STANDING = Drive((0.0, 0.0), 0.0, 0.0)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def world_of(stream: int) -> DrivingWorld:
    """The world of the training (0) or validation (1) scene of SMALL."""
    return random_world(np.random.default_rng([SMALL['seed'], stream, 0]), DURATION)


def cuboid(name: str, position: tuple[float, float], yaw: float = 0.0, **fields) -> Cuboid:
    kind = next(kind for kind in KINDS if kind.name == name)
    return Cuboid(kind, kind.size, position, yaw, **fields)


def to_global(nusc: NuScenes, data: dict, points: np.ndarray) -> np.ndarray:
    """Points ``(n, 3)`` in the frame of a sensor, moved to the world with the devkit's records."""
    for record in (
        nusc.get('calibrated_sensor', data['calibrated_sensor_token']),
        nusc.get('ego_pose', data['ego_pose_token']),
    ):
        points = points @ Quaternion(record['rotation']).rotation_matrix.T + record['translation']
    return points


def read_points(nusc: NuScenes, data: dict) -> np.ndarray:
    """Points ``(n, 5)`` of a LiDAR file."""
    return np.fromfile(Path(nusc.dataroot) / data['filename'], np.float32).reshape(-1, 5)


@pytest.fixture(scope='module')
def toy_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'new' / 'nuscenes'
    assert write_nuscenes(folder, **SMALL)
    return folder


@pytest.fixture(scope='module')
def nusc(toy_set) -> NuScenes:
    return NuScenes(version='v1.0-trainval', dataroot=str(toy_set), verbose=False)


@pytest.fixture(scope='module')
def cameras() -> dict[str, Camera]:
    return {mount.channel: Camera(mount, SIZE) for mount in CAMERAS}


@pytest.fixture
def run_tool(monkeypatch):
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_the_devkit_reads_scenes_key_frames_and_sweeps(toy_set, nusc):
    assert len(list((toy_set / 'v1.0-trainval').glob('*.json'))) == len(nusc.table_names) == 13
    assert [scene['name'] for scene in nusc.scene] == [TRAIN_SCENES[0], VAL_SCENES[0]]
    assert set(TRAIN_SCENES) <= set(splits.train) and set(VAL_SCENES) <= set(splits.val)
    assert len(set(TRAIN_SCENES + VAL_SCENES)) == len(TRAIN_SCENES) + len(VAL_SCENES)
    assert len(nusc.sample) == 2 * 4 and len(nusc.sample_data) == 2 * 10 * 7
    assert sorted(sensor['channel'] for sensor in nusc.sensor) == sorted(CHANNELS)
    for table in nusc.table_names:
        tokens = [record['token'] for record in getattr(nusc, table)]
        assert tokens and len(set(tokens)) == len(tokens)
    for scene in nusc.scene:
        first = nusc.get('sample', scene['first_sample_token'])
        samples = chain(nusc, 'sample', first)
        assert len(samples) == scene['nbr_samples'] and samples[-1]['token'] == scene['last_sample_token']
        assert np.all(np.diff([sample['timestamp'] for sample in samples]) == 500_000)
        for channel in CHANNELS:
            assert_chain_of_sensor(nusc, chain(nusc, 'sample_data', nusc.get('sample_data', first['data'][channel])))
    assert nusc.map[0]['mask'].mask().min() == 255
    for pose in nusc.ego_pose:
        assert nusc.map[0]['mask'].is_on_mask(*pose['translation'][:2]).all()


def chain(nusc: NuScenes, table: str, record: dict) -> list[dict]:
    """A record and all that follow it; checks that each knows its predecessor."""
    assert record['prev'] == ''
    records = [record]
    while records[-1]['next']:
        records.append(nusc.get(table, records[-1]['next']))
        assert records[-1]['prev'] == records[-2]['token']
    return records


def assert_chain_of_sensor(nusc: NuScenes, files: list[dict]) -> None:
    assert [data['is_key_frame'] for data in files] == [index % 3 == 0 for index in range(10)]
    assert np.all(np.abs(np.diff([data['timestamp'] for data in files]) - 500_000 / 3) < 2)
    for data in files:
        sample = nusc.get('sample', data['sample_token'])
        # The key frame itself, or one less than half a second before it; cameras fire shortly before the LiDAR.
        before = sample['timestamp'] - data['timestamp']
        assert 0 <= before < (50_000 if data['is_key_frame'] else 500_000)
        assert data['filename'].startswith('samples/' if data['is_key_frame'] else 'sweeps/')
        assert nusc.get('ego_pose', data['ego_pose_token'])['timestamp'] == data['timestamp']
        path = Path(nusc.get_sample_data_path(data['token']))
        if data['channel'] == LIDAR.channel:
            assert data['timestamp'] == sample['timestamp'] or not data['is_key_frame']
            assert LidarPointCloud.from_file(str(path)).points.shape[1] > 3000
        else:
            assert cv2.imread(str(path)).shape == (data['height'], data['width'], 3) == (90, 160, 3)


def test_annotations_are_the_cuboids_of_the_world(nusc):
    for stream, scene in enumerate(nusc.scene):
        world = world_of(stream)
        start = nusc.get('sample', scene['first_sample_token'])['timestamp']
        instances = [instance for instance in nusc.instance if scene_of(nusc, instance) == scene['token']]
        assert len(instances) == len(world.cuboids)
        for instance, expected in zip(instances, world.cuboids, strict=True):
            assert nusc.get('category', instance['category_token'])['name'] == expected.kind.category
            records = chain(
                nusc, 'sample_annotation', nusc.get('sample_annotation', instance['first_annotation_token'])
            )
            assert len(records) == instance['nbr_annotations'] == 4
            assert records[-1]['token'] == instance['last_annotation_token']
            for record in records:
                t = (nusc.get('sample', record['sample_token'])['timestamp'] - start) * 1e-6
                np.testing.assert_allclose(record['translation'][:2], expected.middle(t), atol=1e-6)
                assert record['translation'][2] == expected.size[2] / 2
                assert tuple(record['size']) == (expected.size[1], expected.size[0], expected.size[2])
                ahead = Quaternion(record['rotation']).rotate([1, 0, 0])
                np.testing.assert_allclose(ahead, (np.cos(expected.yaw), np.sin(expected.yaw), 0), atol=1e-9)
                velocity = nusc.box_velocity(record['token'])
                np.testing.assert_allclose(velocity, (*expected.velocity, 0), atol=1e-6)
                names = [nusc.get('attribute', token)['name'] for token in record['attribute_tokens']]
                assert len(names) == (expected.kind.speed is not None)
                if names:
                    assert (names[0].endswith(('.moving', '.with_rider'))) == (np.linalg.norm(velocity) > 0.2)
    moving = [np.linalg.norm(nusc.box_velocity(record['token'])) > 0.2 for record in nusc.sample_annotation]
    assert 0.2 < np.mean(moving) < 0.8


def scene_of(nusc: NuScenes, instance: dict) -> str:
    annotation = nusc.get('sample_annotation', instance['first_annotation_token'])
    return nusc.get('sample', annotation['sample_token'])['scene_token']


def test_boxes_at_sweeps_are_where_the_cuboids_are(nusc):
    """The devkit interpolates between the key frame before and the one that the sweep belongs to."""
    for stream, scene in enumerate(nusc.scene):
        start = nusc.get('sample', scene['first_sample_token'])['timestamp']
        files = [data for data in nusc.sample_data if f'-{scene["name"]}_' in data['filename']]
        for data in files:
            if data['is_key_frame']:
                continue
            boxes = nusc.get_boxes(data['token'])
            expected = [each.middle((data['timestamp'] - start) * 1e-6) for each in world_of(stream).cuboids]
            np.testing.assert_allclose([box.center[:2] for box in boxes], expected, atol=1e-5)


def test_pictures_show_the_cuboids_inside_their_projected_boxes_as_far_as_their_visibility_says(nusc, cameras):
    overlaps, pixels = [], {}
    for data in nusc.sample_data:
        if not data['is_key_frame'] or data['channel'] == LIDAR.channel:
            continue
        sample = nusc.get('sample', data['sample_token'])
        scene = nusc.get('scene', sample['scene_token'])
        world = world_of(nusc.scene.index(scene))
        t = (data['timestamp'] - nusc.get('sample', scene['first_sample_token'])['timestamp']) * 1e-6
        image, ids, (seen, covered) = cameras[data['channel']].render(world, t)
        stored = cv2.imread(nusc.get_sample_data_path(data['token']))
        assert np.abs(stored.astype(int) - image).mean() < 4
        for index, token in enumerate(sample['anns']):
            pixels[token] = pixels.get(token, 0) + np.array([seen[index], covered[index]])
            if seen[index] != covered[index] or covered[index] < 400:
                continue  # another one hides it, or it is small for a comparison of pixels
            box = nusc.get_box(token)
            # Cameras fire before the key frame, at which the boxes are annotated.
            box.translate(nusc.box_velocity(token) * (data['timestamp'] - sample['timestamp']) * 1e-6)
            body = Box(box.center - (0, 0, SKIN / 2), box.wlh - (2 * SKIN, 2 * SKIN, SKIN), box.orientation)
            of_box, of_body = (project(nusc, data, each) for each in (box, body))
            if of_box is None:
                continue
            drawn = ids == index
            assert not np.any(drawn & ~cv2.dilate(of_box, np.ones((3, 3), np.uint8)).astype(bool))
            overlaps.append((drawn & (of_body == 1)).sum() / (drawn | (of_body == 1)).sum())
    assert len(overlaps) > 30
    assert np.mean(overlaps) > 0.96 and min(overlaps) > 0.85
    levels = []
    for token, (seen, covered) in pixels.items():
        level = nusc.get('visibility', nusc.get('sample_annotation', token)['visibility_token'])['level']
        low, high = map(int, level.removeprefix('v').split('-'))
        assert low <= 100 * seen / max(covered, 1) <= high
        levels.append(level)
    assert {'v0-40', 'v80-100'} <= set(levels)


def project(nusc: NuScenes, data: dict, box: Box) -> np.ndarray | None:
    """Pixels that a box in the world covers in a picture, 0 or 1; None if it reaches behind the camera."""
    mount = nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
    box = box.copy()
    for record in (nusc.get('ego_pose', data['ego_pose_token']), mount):
        box.translate(-np.array(record['translation']))
        box.rotate(Quaternion(record['rotation']).inverse)
    if box.corners()[2].min() < 0.1:
        return None
    corners = view_points(box.corners(), np.array(mount['camera_intrinsic']), normalize=True)[:2].T
    fine = np.zeros((data['height'] * 8, data['width'] * 8), np.uint8)
    cv2.fillConvexPoly(fine, cv2.convexHull(np.rint((corners * 8 - 0.5) * 16).astype(np.int32)), 1, shift=4)
    return fine[2::8, 2::8]  # near the middle of the first of the four sub-pixels that are drawn


def test_lidar_points_lie_on_the_ground_and_on_the_boxes_which_count_them(nusc):
    on_boxes = 0
    for sample in nusc.sample:
        data = nusc.get('sample_data', sample['data'][LIDAR.channel])
        points = read_points(nusc, data)
        assert np.all((points[:, 3] >= 0) & (points[:, 3] <= 255)) and set(points[:, 4]) <= set(range(32))
        _, boxes, _ = nusc.get_sample_data(data['token'])
        world_points = to_global(nusc, data, points[:, :3])
        on_ground = np.abs(world_points[:, 2]) < 0.03
        is_explained = on_ground.copy()
        for box, token in zip(boxes, sample['anns'], strict=True):
            inside = points_in_box(box, points[:, :3].T)
            assert inside.sum() == nusc.get('sample_annotation', token)['num_lidar_pts']
            # From the box's point of view: how far inside the nearest face?
            own = (points[inside, :3] - box.center) @ box.rotation_matrix
            depth = (box.wlh[[1, 0, 2]] / 2 - np.abs(own)).min(1)
            assert np.all(depth < 0.08)
            is_explained |= inside
            on_boxes += inside.sum()
        assert is_explained.mean() > 0.999
    assert on_boxes > 1000


def test_standing_cuboids_stay_where_they_are_in_all_sweeps(nusc):
    """Ego poses and calibration bring the points of all sweeps of a drive that turns together in the world."""
    world = world_of(0)
    assert world.drive.speed > 1 and world.drive.yaw_rate != 0
    standing = [each for each in world.cuboids if each.speed == 0]
    files = [data for data in nusc.sample_data if f'{TRAIN_SCENES[0]}__{LIDAR.channel}' in data['filename']]
    clouds = [to_global(nusc, data, read_points(nusc, data)[:, :3]) for data in files]
    assert len(clouds) == 10
    seen_in = []
    for each in standing:
        turn = Quaternion(axis=(0, 0, 1), radians=each.yaw)
        box = Box((*each.middle(0), each.size[2] / 2), np.array(each.size)[[1, 0, 2]], turn)
        core = Box(box.center, box.wlh - 0.2, turn)
        assert not any(points_in_box(core, cloud.T).any() for cloud in clouds)  # all lie at the surface
        seen_in.append(sum(points_in_box(box, cloud.T).any() for cloud in clouds))
    assert len(seen_in) >= 5 and np.median(seen_in) == 10


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


def test_attributes_are_those_that_the_stock_metric_gives():
    for kind in KINDS:
        by_default = NuScenesMetric.DefaultAttribute[kind.name] or None
        standing = {'bus': 'vehicle.stopped', 'pedestrian': 'pedestrian.standing'}
        assert kind.attribute(moves=False) == standing.get(kind.name, by_default)
        if kind.speed is not None:
            moving = {
                'pedestrian': 'pedestrian.moving',
                'bicycle': 'cycle.with_rider',
                'motorcycle': 'cycle.with_rider',
            }
            assert kind.attribute(moves=True) == moving.get(kind.name, 'vehicle.moving')
    assert [kind.name for kind in KINDS] == list(NuScenesDataset.METAINFO['classes'])


def stock_tool(name: str):
    """A module of the data set converters that come with mmdet3d."""
    path = Path(mmdet3d.__file__).parent / '.mim' / 'tools' / 'dataset_converters' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings('ignore:img_intersection is not an object')  # a box that a corner of the image cuts
def test_stock_converter_data_set_and_metric(toy_set, tmp_path, monkeypatch):
    """Ground truth that goes through mmdet3d's infos and comes back as predictions is perfect."""
    monkeypatch.chdir(tmp_path)  # update_infos_to_v2 looks for the tables in ./data/nuscenes only
    root = Path('data/nuscenes')
    shutil.copytree(toy_set, root)
    stock_tool('nuscenes_converter').create_nuscenes_infos(str(root), 'nuscenes', version='v1.0-trainval')
    update = stock_tool('update_infos_to_v2').update_pkl_infos
    for split in ('train', 'val'):
        update('nuscenes', out_dir=str(root), pkl_path=str(root / f'nuscenes_infos_{split}.pkl'))
    prefix = {channel: f'samples/{channel}' for channel in CHANNELS if channel != LIDAR.channel}
    dataset = NuScenesDataset(
        data_root=str(root),
        ann_file='nuscenes_infos_val.pkl',
        data_prefix=prefix | {'pts': f'samples/{LIDAR.channel}', 'sweeps': f'sweeps/{LIDAR.channel}'},
        modality={'use_camera': True, 'use_lidar': True},
        use_valid_flag=True,
        test_mode=True,
        pipeline=[
            LoadPointsFromFile('LIDAR', load_dim=5, use_dim=5),
            LoadPointsFromMultiSweeps(sweeps_num=5, test_mode=True),
            LoadMultiViewImageFromFiles(num_views=6),
        ],
    )
    assert len(dataset) == 4
    item = dataset[3]
    assert len(item['img']) == 6 and item['img'][0].shape == (90, 160, 3)
    assert len(item['points']) > 5 * len(np.fromfile(item['lidar_path'], np.float32)) / 5
    metric = NuScenesMetric(str(root), str(root / 'nuscenes_infos_val.pkl'))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        truth = dataset.get_data_info(index)['eval_ann_info']
        boxes, labels = truth['gt_bboxes_3d'], torch.from_numpy(truth['gt_labels_3d'])
        found = {'bboxes_3d': boxes, 'labels_3d': labels, 'scores_3d': torch.ones(len(labels))}
        sample = {'pred_instances_3d': found, 'pred_instances': {}, 'sample_idx': index}
        metric.process({}, [sample])
    result = metric.evaluate(len(dataset))
    prefix = 'NuScenes metric/pred_instances_3d_NuScenes'
    assert result[f'{prefix}/mAP'] == pytest.approx(1)
    assert result[f'{prefix}/NDS'] > 0.999
    assert result[f'{prefix}/mAAE'] == 0


def test_same_seed_same_bytes_and_scenes_do_not_depend_on_the_length_of_the_set(tmp_path):
    sets = {}
    for name, change in (('one', {}), ('two', {}), ('short', {'num_train': 1}), ('other', {'seed': 7})):
        assert write_nuscenes(tmp_path / name, **TINY | change)
        sets[name] = contents(tmp_path / name)
    assert sets['one'] == sets['two']
    files = [name for name in sets['short'] if name.startswith(('samples/', 'sweeps/'))]
    assert len(files) == 2 * 2 * 7
    assert all(sets['short'][name] == sets['one'][name] for name in files)
    assert sets['other'].keys() == sets['one'].keys()
    assert not [name for name in files if sets['other'][name] == sets['one'][name]]
    # Neither do the splits repeat each other.
    fronts = [content for name, content in sets['short'].items() if name.startswith('samples/CAM_FRONT/')]
    assert len(set(fronts)) == len(fronts) == 4


def test_complete_set_is_left_alone_and_unfinished_ones_are_made_anew(tmp_path, monkeypatch):
    calls = []

    def interrupted_world(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return random_world(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, 'random_world', interrupted_world)
        with pytest.raises(KeyboardInterrupt):
            write_nuscenes(tmp_path, **TINY)
    (tmp_path / 'sweeps' / 'CAM_FRONT' / 'half.jpg').write_bytes(b'')
    assert write_nuscenes(tmp_path, **TINY)
    before = contents(tmp_path)
    assert not [name for name in before if 'half' in name]
    # What the converter leaves beside the tables does not make the set another one.
    (tmp_path / 'nuscenes_infos_train.pkl').write_bytes(b'infos')
    stamp = (tmp_path / 'toy.json').stat().st_mtime_ns
    assert not write_nuscenes(tmp_path, **TINY)
    assert (tmp_path / 'toy.json').stat().st_mtime_ns == stamp
    next((tmp_path / 'samples' / LIDAR.channel).iterdir()).unlink()
    assert write_nuscenes(tmp_path, **TINY)
    assert contents(tmp_path) == before | {'nuscenes_infos_train.pkl': b'infos'}


def test_foreign_and_other_sets_are_refused_and_untouched(toy_set, tmp_path):
    (tmp_path / 'samples').mkdir()
    (tmp_path / 'samples' / 'real.jpg').write_bytes(b'precious')
    with pytest.raises(FileExistsError, match='no toy data set'):
        write_nuscenes(tmp_path, **TINY)
    assert contents(tmp_path) == {'samples/real.jpg': b'precious'}
    before = contents(toy_set)
    with pytest.raises(FileExistsError, match=r"'sweeps': 2.*'sweeps': 1.*delete this one"):
        write_nuscenes(toy_set, **SMALL | {'sweeps': 1})
    assert contents(toy_set) == before


def test_tool_writes_the_set_and_says_so(run_tool, tmp_path, capsys):
    options = ['--num-train', 1, '--num-val', 1, '--size', 64, 36, '--key-frames', 2, '--sweeps', 1, '--azimuths', 16]
    for _ in range(2):
        run_tool('nuscenes', '--out', tmp_path, '--seed', 3, *options)
    lines = capsys.readouterr().out.splitlines()
    assert '1 training and 1 validation scenes with 2 key frames each, written' in lines[0]
    assert 'left as it is' in lines[1]
    assert len(list((tmp_path / 'samples' / 'CAM_BACK').iterdir())) == 2 * 2
    assert len(list((tmp_path / 'sweeps' / LIDAR.channel).iterdir())) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--key-frames', 1], 'key_frames: found 1, expected an integer of at least 2'),
        (['--size', 320, 20], 'height: found 20, expected an integer of at least 36'),
        (['--azimuths', 0], 'azimuths: found 0'),
        (['--sweeps', -1], 'sweeps: found -1'),
        (['--num-val', 0], 'num_val: found 0'),
        (['--num-train', 900], r'num_train: found 900, expected at most 127'),
    ],
)
def test_tool_refuses_bad_numbers(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool('nuscenes', '--out', tmp_path / 'set', *arguments)
    assert not (tmp_path / 'set').exists()

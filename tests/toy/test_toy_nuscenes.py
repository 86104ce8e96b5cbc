"""The driving world and its nuScenes writer: the devkit opens it, sensors and boxes agree, stock tools run on it."""

import importlib.util
import shutil
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
from toy_folders import contents

from mvbench_plugins.datasets.toy import write_nuscenes
from mvbench_plugins.datasets.toy.driving_cameras import Camera
from mvbench_plugins.datasets.toy.driving_kinds import KINDS
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import CAMERAS, LIDAR
from mvbench_plugins.datasets.toy.driving_world import SKIN, DrivingWorld
from mvbench_plugins.datasets.toy.nuscenes import TRAIN_SCENES, VAL_SCENES

SIZE = (160, 90)
SMALL = {'seed': 6, 'num_train': 1, 'num_val': 1, 'size': SIZE, 'key_frames': 4, 'sweeps': 2}
TINY = {'num_train': 2, 'num_val': 1, 'size': (64, 36), 'key_frames': 2, 'sweeps': 0, 'azimuths': 16}
DURATION = 1.5  # seconds, of the scenes of SMALL
CHANNELS = [mount.channel for mount in (*CAMERAS, LIDAR)]


def world_of(stream: int) -> DrivingWorld:
    """The world of the training (0) or validation (1) scene of SMALL."""
    return random_world(np.random.default_rng([SMALL['seed'], stream, 0]), DURATION)


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

"""The data set: frames of the own scene only, boxes where the devkit has them, and a perfect score for the truth."""

from __future__ import annotations

import copy
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmdet3d.evaluation.metrics import NuScenesMetric
from mmdet3d.structures import LiDARInstance3DBoxes
from nuscenes import NuScenes
from nuscenes.eval.detection.config import config_factory
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from mvbench_plugins.evaluation.nuscenes_metric import NuScenesDetectionMetric
from mvbench_plugins.sparsebev.dataset import CLASSES
from mvbench_plugins.sparsebev.frames import CAMERAS
from mvbench_plugins.sparsebev.transforms import LoadMultiFrameImages, ResizeCropFlipImages, RotateScaleScene


def earlier_names(nusc: NuScenes, token: str) -> list[str]:
    """Files of the front camera before a sample, newest first."""
    record, names = nusc.get('sample_data', nusc.get('sample', token)['data']['CAM_FRONT']), []
    while record['prev']:
        record = nusc.get('sample_data', record['prev'])
        names.append(Path(record['filename']).name)
    return names


def names_of(sets: list) -> list[str]:
    return [Path(each.img_paths[0]).name for each in sets]


def test_lists_reach_over_the_own_scene_and_no_further(make_dataset, nusc, toy_root):
    dataset = make_dataset('train')
    assert len(dataset) == 6
    for index in range(6):
        item = dataset.get_data_info(index)
        place = index % 3
        assert (len(item['past']), len(item['future'])) == (3 * place, 3 * (2 - place))
        assert names_of(item['past']) == earlier_names(nusc, item['token'])
        scene_end = dataset.get_data_info(index + 2 - place)
        ahead = [*names_of([scene_end['key_frame']]), *names_of(scene_end['past'])]
        assert names_of(item['future']) == ahead[: 3 * (2 - place)][::-1]
        times = [each.timestamps for each in (*item['past'][::-1], item['key_frame'], *item['future'])]
        assert np.all(np.diff(times, axis=0) > 0.1) and np.all(np.diff(times, axis=0) < 0.2)
        for each in (item['key_frame'], *item['past'], *item['future']):
            assert [Path(path).parent.name for path in each.img_paths] == list(CAMERAS)
            assert all(path.startswith(f'{toy_root}/s') and Path(path).is_file() for path in each.img_paths)
    short = make_dataset('train', num_key_intervals=1)
    assert [len(short.get_data_info(2)[name]) for name in ('past', 'future')] == [3, 0]
    assert names_of(short.get_data_info(2)['past']) == names_of(dataset.get_data_info(2)['past'])[:3]


@pytest.mark.parametrize('serialize', [True, False])
def test_a_part_of_the_samples_keeps_the_frames_around_them(make_dataset, serialize):
    whole = make_dataset('train')
    wanted = {item['token']: item for item in map(whole.get_data_info, range(6))}
    options = {'serialize_data': serialize}
    parts = {
        (2, 3, 5): make_dataset('train', indices=[2, 3, 5], **options),
        (0, 1): make_dataset('train', indices=2, **options),
        (5, 1): make_dataset('train', **options).get_subset([5, 1]),
        (4, 5): make_dataset('train', lazy_init=True, indices=-2, **options),
    }
    for positions, part in parts.items():
        items = [part.get_data_info(index) for index in range(len(part))]
        assert [item['token'] for item in items] == [list(wanted)[position] for position in positions]
        for item in items:
            for name in ('past', 'future'):
                expected = wanted[item['token']][name]
                assert [each.img_paths for each in item[name]] == [each.img_paths for each in expected]
            assert item['key_frame'].img_paths == wanted[item['token']]['key_frame'].img_paths


def test_labels_are_in_the_order_of_released_checkpoints(make_dataset, nusc):
    order = 'car truck construction_vehicle bus trailer barrier motorcycle bicycle pedestrian traffic_cone'
    assert ' '.join(CLASSES) == order
    dataset = make_dataset('val')
    assert dataset.metainfo['classes'] == CLASSES and dataset.metainfo['version'] == 'v1.0-trainval'
    for index in range(len(dataset)):
        item = dataset.get_data_info(index)
        names = []
        for token in nusc.get('sample', item['token'])['anns']:
            record = nusc.get('sample_annotation', token)
            if record['num_lidar_pts'] + record['num_radar_pts'] > 0:
                names.append(NuScenesMetric.NameMapping[record['category_name']])
        assert [CLASSES[label] for label in item['eval_ann_info']['gt_labels_3d']] == names


def project_with_devkit(nusc: NuScenes, path: str, points: np.ndarray) -> np.ndarray:
    """Pixels and depth ``[3, n]`` of points in the world in the picture of that name, by the devkit's records."""
    record = next(each for each in nusc.sample_data if each['filename'].endswith(Path(path).name))
    mount = nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
    for each in (nusc.get('ego_pose', record['ego_pose_token']), mount):
        points = Quaternion(each['rotation']).rotation_matrix.T @ (points - np.array(each['translation'])[:, None])
    return np.concatenate([view_points(points, np.array(mount['camera_intrinsic']), normalize=True)[:2], points[2:]])


def project(lidar2img: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The same of points ``[n, 3]`` in the coordinates of the LiDAR, by our matrix."""
    found = lidar2img[:3] @ np.concatenate([centers, np.ones((len(centers), 1))], 1).T
    return np.concatenate([found[:2] / found[2], found[2:]])


def test_centres_land_where_the_devkit_projects_them_in_all_frames(make_dataset, nusc):
    """Also into pictures of other times: what stands still in the world is seen there through another pose."""
    dataset = make_dataset('val')
    load = LoadMultiFrameImages(num_frames=3, test_mode=True)
    compared, moved = 0, []
    for index in range(3):
        item = load(dataset.get_data_info(index))
        boxes = item['eval_ann_info']['gt_bboxes_3d']
        tokens = [
            token
            for token in nusc.get('sample', item['token'])['anns']
            if nusc.get('sample_annotation', token)['num_lidar_pts'] > 0
        ]
        world = np.array([nusc.get('sample_annotation', token)['translation'] for token in tokens]).T
        pixels = []
        for path, matrix in zip(item['img_path'], item['lidar2img'], strict=True):
            ours = project(matrix, boxes.gravity_center.numpy().astype(np.float64))
            theirs = project_with_devkit(nusc, path, world)
            ahead = theirs[2] > 0.5
            np.testing.assert_allclose(ours[:, ahead], theirs[:, ahead], atol=0.02)
            inside = (theirs[:2] > 0).all(0) & (theirs[0] < 160) & (theirs[1] < 90) & ahead
            compared += inside.sum()
            pixels.append(np.where(inside, theirs[:2], np.nan))
        moved += [np.nanmax(np.abs(pixels[camera] - pixels[12 + camera])) for camera in range(6) if index]
    assert compared > 30 and max(moved) > 3  # the car drives: other frames are other views


def test_augmentation_moves_boxes_and_projections_together(make_dataset, nusc):
    dataset = make_dataset('train', test_mode=False, filter_empty_gt=False)
    item = LoadMultiFrameImages(num_frames=2)(dataset.get_data_info(2))
    item['gt_bboxes_3d'] = item['ann_info']['gt_bboxes_3d']
    before = [project(matrix, item['gt_bboxes_3d'].gravity_center.double().numpy()) for matrix in item['lidar2img']]
    corners = [
        project(matrix, item['gt_bboxes_3d'].corners.double().numpy().reshape(-1, 3)) for matrix in item['lidar2img']
    ]
    images = ResizeCropFlipImages((48, 120), ratio_range=(0.8, 1.0))
    ratio, place, flip = 0.9, 13.7, True
    image = item['img'][0]
    item['lidar2img'] = images.matrix((90, 160), ratio, place, flip) @ item['lidar2img']
    velocity = item['gt_bboxes_3d'].tensor[:, 7:9].norm(dim=1)
    item = RotateScaleScene().apply(item, angle=0.3, scale=1.04)
    torch.testing.assert_close(item['gt_bboxes_3d'].tensor[:, 7:9].norm(dim=1), velocity * 1.04)
    for matrix, expected, expected_corners in zip(item['lidar2img'], before, corners, strict=True):
        for points, want in (
            (item['gt_bboxes_3d'].gravity_center, expected),
            (item['gt_bboxes_3d'].corners.reshape(-1, 3), expected_corners),
        ):
            got = project(matrix, points.double().numpy())
            ahead = want[2] > 0.5
            # 81 x 144 pixels, of which the lowest 48 rows and 120 columns from the 13th on are left, mirrored.
            want = np.stack([120 - (want[0] * 0.9 - 13), want[1] * 0.9 - 33, want[2]])
            np.testing.assert_allclose(got[:, ahead], want[:, ahead], rtol=1e-5, atol=0.05)
    # A bright spot goes where the matrix says.
    spot = np.zeros_like(image)
    spot[60:63, 100:103] = 255
    moved = images.apply(spot, ratio, place, flip)[..., 0].astype(float)
    rows, columns = np.indices(moved.shape) + 0.5
    found = (moved * columns).sum() / moved.sum(), (moved * rows).sum() / moved.sum()
    matrix = images.matrix((90, 160), ratio, place, flip)
    np.testing.assert_allclose(matrix[:2, :3] @ (101.5, 61.5, 1), found, atol=0.3)


def is_evaluated(nusc: NuScenes, record: dict) -> bool:
    """Whether the metric looks at an annotation: it has points and is near enough for its class."""
    lidar = nusc.get('sample_data', nusc.get('sample', record['sample_token'])['data']['LIDAR_TOP'])
    car = nusc.get('ego_pose', lidar['ego_pose_token'])['translation']
    reach = config_factory('detection_cvpr_2019').class_range[NuScenesMetric.NameMapping[record['category_name']]]
    return record['num_lidar_pts'] > 0 and np.hypot(*np.subtract(record['translation'], car)[:2]) < reach


def test_the_truth_scores_perfectly(make_dataset, info_dir, toy_root, nusc):
    dataset = make_dataset('val')
    metric = NuScenesDetectionMetric(str(toy_root), str(info_dir / 'nuscenes_multiview_infos_val.pkl'))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        truth = dataset.get_data_info(index)['eval_ann_info']
        labels = torch.from_numpy(truth['gt_labels_3d'])
        found = {'bboxes_3d': truth['gt_bboxes_3d'], 'labels_3d': labels, 'scores_3d': torch.ones(len(labels))}
        metric.process({}, [{'pred_instances_3d': found, 'pred_instances': {}, 'sample_idx': index}])
    result = metric.evaluate(len(dataset))
    prefix = 'NuScenes metric/pred_instances_3d_NuScenes'
    in_reach = {
        NuScenesMetric.NameMapping[record['category_name']]
        for item in map(dataset.get_data_info, range(len(dataset)))
        for record in (nusc.get('sample_annotation', token) for token in nusc.get('sample', item['token'])['anns'])
        if is_evaluated(nusc, record)
    }
    assert len(in_reach) >= 8
    assert result[f'{prefix}/mAP'] == pytest.approx(len(in_reach) / 10, abs=1e-3)
    for name in in_reach:
        for error in ('trans', 'scale', 'orient', 'vel'):
            assert not result[f'{prefix}/{name}_{error}_err'] > 0.01, (name, error)  # NaN: not defined for cones


def test_results_without_any_box_score_zero(make_dataset, info_dir, toy_root):
    """mmdet3d's own metric ends with ``Invalid box type: None`` there, and the training of a young model with it."""
    dataset = make_dataset('val')
    metric = NuScenesDetectionMetric(str(toy_root), str(info_dir / 'nuscenes_multiview_infos_val.pkl'))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        boxes = LiDARInstance3DBoxes(torch.empty(0, 9), box_dim=9)
        found = {'bboxes_3d': boxes, 'labels_3d': torch.empty(0, dtype=torch.int64), 'scores_3d': torch.empty(0)}
        metric.process({}, [{'pred_instances_3d': found, 'pred_instances': {}, 'sample_idx': index}])
    result = metric.evaluate(len(dataset))
    prefix = 'NuScenes metric/pred_instances_3d_NuScenes'
    assert result[f'{prefix}/NDS'] == result[f'{prefix}/mAP'] == 0
    assert result[f'{prefix}/mAVE'] == 1


def edited(info_dir: Path, tmp_path: Path, edit) -> str:
    """An info file in which ``edit(metainfo, data_list)`` has changed something."""
    content = copy.deepcopy(mmengine.load(info_dir / 'nuscenes_multiview_infos_train.pkl'))
    edit(content['metainfo'], content['data_list'])
    mmengine.dump(content, tmp_path / 'edited.pkl')
    return str(tmp_path / 'edited.pkl')


def later_scene_again(metainfo, data_list):
    data_list.insert(0, data_list.pop())


def no_pose(metainfo, data_list):
    del data_list[2]['camera_sweeps'][0]['CAM_BACK']['cam2global']


def negative_focal_length(metainfo, data_list):
    data_list[4]['camera_sweeps'][0]['CAM_BACK']['cam2img'][0][0] *= -1


def mirrored_pose(metainfo, data_list):
    entry = data_list[4]['camera_sweeps'][1]['CAM_FRONT_LEFT']
    entry['cam2global'] = (np.array(entry['cam2global']) @ np.diag([-1, 1, 1, 1])).tolist()


def mirrored_lidar(metainfo, data_list):
    data_list[0]['lidar_points']['lidar2ego'] = np.diag([1.0, -1, 1, 1]).tolist()


def transposed_pose(metainfo, data_list):
    entry = data_list[4]['images']['CAM_BACK']
    entry['cam2global'] = np.transpose(entry['cam2global']).tolist()


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (later_scene_again, ('goes on after another scene', 'in a row')),
        (negative_focal_length, ('camera_sweeps[0].CAM_BACK.cam2img', 'fx and fy above 0')),
        (mirrored_pose, ('camera_sweeps[1].CAM_FRONT_LEFT.cam2global', 'singular, a reflection or no pose')),
        (mirrored_lidar, ('lidar_points.lidar2ego', 'a reflection')),
        (transposed_pose, ('images.CAM_BACK.cam2global', 'expected [[R, t], [0, 0, 0, 1]]')),
        (no_pose, ('camera_sweeps[0].CAM_BACK', 'no cam2global')),
        (lambda metainfo, data_list: data_list[1].pop('camera_sweeps'), ('no camera_sweeps', 'file of mmdet3d itself')),
        (lambda metainfo, data_list: metainfo.pop('image_size'), ('metainfo lacks', 'image_size')),
    ],
)  # fmt: skip
def test_wrong_info_files_are_refused_when_they_are_read(make_dataset, info_dir, tmp_path, edit, words):
    file = edited(info_dir, tmp_path, edit)
    with pytest.raises(ValueError) as error:
        make_dataset('train', ann_file=file)
    assert all(word in str(error.value) for word in (file, *words)), error.value

"""Pictures of point clouds: through mmdet3d's inferencers and its visualization hook, without a display."""

from __future__ import annotations

from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from link_inferencers import det_inferencer, seg_inferencer, sweep
from mmdet3d.apis import LidarDet3DInferencer, LidarSeg3DInferencer
from mmdet3d.registry import HOOKS, VISUALIZERS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes, PointData
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from mvbench_plugins.apis.draw_actions import action_color
from mvbench_plugins.apis.lidar_pictures import draw_from_behind, draw_segmentation

KITTI = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg'
SIDE = 960
CLASSES = ('car', 'road')
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green, blue
PALETTE = [[255, 0, 0], [0, 128, 255]]  # RGB


@pytest.fixture(scope='module')
def detect(config_dir, own_scope, tmp_path_factory) -> LidarDet3DInferencer:
    return det_inferencer(config_dir, tmp_path_factory.mktemp('detect'))


@pytest.fixture(scope='module')
def segment(config_dir, own_scope, tmp_path_factory) -> LidarSeg3DInferencer:
    return seg_inferencer(config_dir, tmp_path_factory.mktemp('segment'), KITTI)


def has(picture: np.ndarray, color: tuple[int, ...]) -> np.ndarray:
    """Where a picture has exactly this colour."""
    return (picture == color).all(-1)


def test_an_inferencer_draws_the_file_it_is_given(detect, tmp_path):
    sweep(500).tofile(tmp_path / 'sweep.bin')
    inputs = dict(points=str(tmp_path / 'sweep.bin'))
    (found,) = detect(inputs, out_dir=str(tmp_path / 'out'), pred_score_thr=0.0)['predictions']
    assert sorted(path.name for path in (tmp_path / 'out').rglob('*.*')) == ['sweep.json', 'sweep.png']
    drawn = mmcv.imread(str(tmp_path / 'out' / 'vis_lidar' / 'sweep.png'))
    assert drawn.shape == (SIDE, SIDE * 7 // 3, 3)
    detect(inputs, out_dir=str(tmp_path / 'none'), pred_score_thr=1.0)
    empty = mmcv.imread(str(tmp_path / 'none' / 'vis_lidar' / 'sweep.png'))
    behind, above = slice(0, SIDE * 4 // 3), slice(SIDE * 4 // 3, None)
    for color in {action_color(label) for label in found['labels_3d']}:
        assert has(drawn[:, behind], color).sum() > has(empty[:, behind], color).sum() == 0
    changed = (drawn != empty).any(-1)
    assert changed[:, behind].any() and changed[:, above].any()
    detect(inputs, out_dir=str(tmp_path / 'words'), no_save_vis=True)
    assert [path.name for path in (tmp_path / 'words').rglob('*.*')] == ['sweep.json']


def test_each_of_several_inputs_has_one_answer_and_one_picture(segment, tmp_path):
    clouds = [sweep(200 + 50 * seed, seed)[:, :4] for seed in range(3)]
    first = segment.num_visualized_frames
    inputs = [dict(points=cloud) for cloud in clouds]
    found = segment(inputs, batch_size=2, out_dir=str(tmp_path))['predictions']
    assert [len(answer['pts_semantic_mask']) for answer in found] == [200, 250, 300]
    assert [answer['pts_semantic_mask'] for answer in found] == [
        segment(one, no_save_pred=True)['predictions'][0]['pts_semantic_mask'] for one in inputs
    ]
    names = [f'{number:08d}.png' for number in range(first, first + 3)]
    assert sorted(path.name for path in (tmp_path / 'vis_lidar').iterdir()) == names
    assert len(list((tmp_path / 'preds').iterdir())) == 3


def test_points_have_the_colours_of_their_classes(segment, tmp_path):
    cloud = sweep(400)[:, :4]
    (found,) = segment(dict(points=cloud), out_dir=str(tmp_path))['predictions']
    (path,) = (tmp_path / 'vis_lidar').iterdir()
    picture = mmcv.imread(str(path))
    behind = picture[:, : SIDE * 4 // 3]
    palette = segment.visualizer.dataset_meta['palette']
    bright = [label for label, color in enumerate(palette) if np.dot(color, LUMINANCE) > 60]
    for label in bright:
        seen = has(behind, tuple(palette[label][::-1])).any()
        assert seen == (label in found['pts_semantic_mask'])
    assert len(bright) < len(palette)  # the others are the business of the next test


def test_dark_colours_are_made_lighter():
    points = np.array([[0.0, 3.0, 0.0], [1.0, 5.0, 0.0]], np.float32)
    picture = draw_segmentation(points, np.array([0, 1]), CLASSES, [[75, 0, 75], [0, 0, 0]], side=120)
    drawn = np.unique(picture[:, :160].reshape(-1, 3), axis=0).astype(int)
    assert len(drawn) == 3  # the background, and two that keep apart
    luminance = np.sort(drawn @ LUMINANCE[::-1])
    assert luminance[0] < 30 and luminance[1] > 55


def test_an_empty_cloud_gives_a_picture(segment, tmp_path):
    np.zeros(0, np.float32).tofile(tmp_path / 'empty.bin')
    segment(dict(points=str(tmp_path / 'empty.bin')), out_dir=str(tmp_path))
    assert mmcv.imread(str(tmp_path / 'vis_lidar' / 'empty.png')).shape == (SIDE, SIDE * 7 // 3, 3)


@pytest.mark.parametrize(('ahead', 'point'), [('x', (25.0, 0.0)), ('y', (0.0, 25.0))])
def test_what_is_ahead_is_up(ahead, point, tmp_path):
    visualizer = VISUALIZERS.build(dict(type='LidarPictureVisualizer', name=f'ahead-{ahead}', ahead=ahead))
    visualizer.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    boxes = LiDARInstance3DBoxes(torch.tensor([[*point, -1.0, 4.0, 2.0, 1.5, 0.0, 0.0, 0.0]]), box_dim=9)
    sample = Det3DDataSample(pred_pts_seg=PointData(pts_semantic_mask=torch.tensor([1])))
    sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([1]))
    points = np.array([[*point, -1.0, 0.0]], np.float32)
    middle, up = SIDE // 2, SIDE // 2 - round(25 / 52 * SIDE / 2)
    for task, color in [('lidar_seg', (255, 128, 0)), ('lidar_det', action_color(1))]:
        visualizer.add_datasample('one', dict(points=points), sample, vis_task=task, out_file=str(tmp_path / 'one.png'))
        above = mmcv.imread(str(tmp_path / 'one.png'))[:, SIDE * 4 // 3 :]
        near = above[up - 20 : up + 20, middle - 30 : middle + 30].astype(int)
        assert (abs(near - color).max(-1) < 90).any()  # thin lines mix with what is below them
    assert torch.equal(sample.pred_instances_3d.bboxes_3d.tensor, boxes.tensor)  # only the drawing is turned


def test_infinite_boxes_are_left_out(tmp_path):
    visualizer = VISUALIZERS.build(dict(type='LidarPictureVisualizer', name='infinite'))
    visualizer.dataset_meta = dict(classes=CLASSES)
    boxes = torch.tensor([[25.0, 0.0, -1.0, 4.0, 2.0, 1.5, 0.0, 0.0, 0.0]]).repeat(3, 1)
    boxes[0, 3], boxes[1, 4] = np.inf, 1e30
    instances = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), scores_3d=torch.ones(3), labels_3d=torch.tensor([1, 1, 0])
    )
    points = np.zeros((1, 3), np.float32)
    visualizer.add_datasample(
        'one', dict(points=points), Det3DDataSample(pred_instances_3d=instances), out_file=str(tmp_path / 'one.png')
    )
    assert has(mmcv.imread(str(tmp_path / 'one.png')), action_color(0)).any()


def test_another_axis_is_refused():
    with pytest.raises(ValueError, match="ahead: found 'z', expected one of x, y"):
        VISUALIZERS.build(dict(type='LidarPictureVisualizer', name='wrong', ahead='z'))


def test_near_points_cover_far_ones():
    points = np.array([[0.0, 8.0, -2.0], [0.0, 34.0, -15.0]])  # both on the line of sight
    for order in ([0, 1], [1, 0]):
        colors = np.array([[0, 0, 255], [255, 0, 0]], np.uint8)
        picture = draw_from_behind(points[order], colors[order], [], (200, 100))
        assert has(picture, (0, 0, 255)).any() and not has(picture, (255, 0, 0)).any()


def test_unlabelled_points_are_grey():
    points = np.array([[0.0, 8.0, -2.0]])
    picture = draw_segmentation(points, np.array([2]), CLASSES, PALETTE, side=90)[:, :120]
    found = np.unique(picture.reshape(-1, 3), axis=0).tolist()
    assert [110, 110, 110] in found and [0, 0, 255] not in found and [255, 0, 0] not in found


@pytest.mark.parametrize('name', ['link_det_toy', 'linkunet_cosx-2x3_4xb16-80e_nus-seg', KITTI])
def test_the_hook_of_a_test_draws(name, config_dir, tmp_path):
    """As ``tools/test.py --show-dir`` sets it."""
    cfg = Config.fromfile(config_dir / 'link' / f'{name}.py')
    Visualizer._instance_dict.pop('visualizer', None)
    visualizer = VISUALIZERS.build(cfg.visualizer)
    visualizer.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    hook = HOOKS.build(dict(cfg.default_hooks.visualization, draw=True, test_out_dir='pictures'))
    sweep(100).tofile(tmp_path / '7.pcd.bin')
    sample = Det3DDataSample(metainfo=dict(lidar_path=str(tmp_path / '7.pcd.bin'), num_pts_feats=5))
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.arange(100) % 3)
    box = torch.tensor([[5.0, 8.0, -1.0, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0]])
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(box, box_dim=9), scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([1])
    )
    hook.after_test_iter(SimpleNamespace(work_dir=str(tmp_path), timestamp='now'), 0, {}, [sample])
    picture = mmcv.imread(str(tmp_path / 'now' / 'pictures' / '7.png'))
    color = action_color(1) if name == 'link_det_toy' else (255, 128, 0)
    assert has(picture[:, : SIDE * 4 // 3], color).any()

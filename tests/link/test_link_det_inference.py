"""A detector through mmdet3d's inferencer and through mmengine's test-time augmentation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet3d.apis import LidarDet3DInferencer
from mmdet3d.registry import HOOKS, MODELS, TRANSFORMS
from mmdet3d.structures import LiDARInstance3DBoxes, LiDARPoints
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

RANGE = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0]
META = dict(box_type_3d=LiDARInstance3DBoxes)


@pytest.fixture
def small_config(config_dir) -> Config:
    """The toy network on a small range, which takes the first boxes that come."""
    cfg = Config.fromfile(config_dir / 'link' / 'link_det_toy.py')
    model = cfg.model
    model.data_preprocessor.voxel_layer.point_cloud_range = RANGE
    model.pts_middle_encoder.sparse_shape = [41, 128, 128]
    model.pts_bbox_head.bbox_coder.update(pc_range=RANGE[:2], score_threshold=0.01)
    model.train_cfg.pts.update(point_cloud_range=RANGE, grid_size=[128, 128, 40])
    model.test_cfg.pts.update(score_threshold=0.01, pre_max_size=100)
    return cfg


def sweep(count: int) -> np.ndarray:
    """x, y, z, intensity, ring."""
    rng = np.random.default_rng(0)
    return (rng.random((count, 5)) * [20, 20, 4, 255, 31] - [10, 10, 3, 0, 0]).astype(np.float32)


def test_files_and_arrays_give_the_same_boxes(small_config, tmp_path):
    path = tmp_path / 'sweep.bin'
    sweep(500).tofile(path)
    small_config.dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    weights = MODELS.build(small_config.model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=small_config.metainfo.to_dict())), tmp_path / 'w.pth')
    inferencer = LidarDet3DInferencer(str(tmp_path / 'config.py'), str(tmp_path / 'w.pth'), device='cpu')
    assert all(torch.equal(value, weights[key]) for key, value in inferencer.model.state_dict().items())
    from_file = inferencer(dict(points=str(path)), no_save_vis=True)['predictions'][0]
    from_array = inferencer(dict(points=sweep(500)), no_save_vis=True)['predictions'][0]
    assert len(from_file['scores_3d']) > 0 and from_file['box_type_3d'] == 'LiDAR'
    assert from_file['bboxes_3d'] == from_array['bboxes_3d']
    nothing = inferencer(dict(points=np.zeros((0, 5), np.float32)), no_save_vis=True)['predictions'][0]
    assert len(nothing['scores_3d']) == len(nothing['bboxes_3d'])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r'sweep\.bin: found 9996 bytes'):
        inferencer(dict(points=str(path)), no_save_vis=True)
    damaged = sweep(500)
    damaged[7, 1] = np.nan
    damaged.tofile(path)
    with pytest.raises(ValueError, match=r'sweep\.bin: 1 of 500 points .* the first is point 7'):
        inferencer(dict(points=str(path)), no_save_vis=True)


def test_the_tta_config_wraps_a_detector(small_config, config_dir):
    tta = Config.fromfile(config_dir / 'link' / 'link_det_voxel0075-flip-tta_4xb2-cyclic-20e_nus-3d.py')
    torch.manual_seed(0)
    runner = SimpleNamespace(model=MODELS.build(small_config.model).eval())
    HOOKS.build(tta.custom_hooks[-1]).before_test(runner)
    augment = TRANSFORMS.build(tta.test_dataloader.dataset.pipeline[-1])
    cloud = torch.from_numpy(sweep(500))
    item = dict(points=LiDARPoints(cloud.clone(), points_dim=5), **META)
    mirrored = dict(points=LiDARPoints(cloud * torch.tensor([1, -1, 1, 1, 1]), points_dim=5), **META)
    with torch.no_grad():
        (one,) = runner.model.test_step(pseudo_collate([augment(item)]))
        (other,) = runner.model.test_step(pseudo_collate([augment(mirrored)]))
    one, other = one.pred_instances_3d, other.pred_instances_3d
    assert len(one.scores_3d) > 0
    # The four views of a mirrored sample are those of the sample: so are the detections, mirrored. (Of those with
    # nearly the same score, one or another may be left over.)
    centres = one.bboxes_3d.gravity_center * torch.tensor([1.0, -1.0, 1.0])
    apart = (centres[:, None] - other.bboxes_3d.gravity_center).abs().amax(-1)
    assert len(one.scores_3d) == len(other.scores_3d)
    assert (apart.amin(1) < 1e-4).float().mean() > 0.95

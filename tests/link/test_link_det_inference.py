"""A detector through mmdet3d's inferencer and through mmengine's test-time augmentation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from link_inferencers import det_inferencer, small_det_config, sweep
from mmdet3d.registry import HOOKS, MODELS, TRANSFORMS
from mmdet3d.structures import LiDARInstance3DBoxes, LiDARPoints
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

META = dict(box_type_3d=LiDARInstance3DBoxes)


@pytest.fixture
def small_config(config_dir) -> Config:
    return small_det_config(config_dir)


def test_files_and_arrays_give_the_same_boxes(config_dir, tmp_path):
    path = tmp_path / 'sweep.bin'
    sweep(500).tofile(path)
    inferencer = det_inferencer(config_dir, tmp_path)
    weights = torch.load(tmp_path / 'weights.pth')['state_dict']
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

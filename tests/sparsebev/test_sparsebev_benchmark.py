"""Random inputs of the benchmark: what the detector takes, of cameras that look around."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mvbench_plugins.common.random_inputs import make_inputs


def test_cameras_look_around(build):
    """A ring of points at eye level, 20 m away: each camera sees some, ahead only the front one."""
    (sample,) = make_inputs(build(), 1, (90, 160), False, Config())['data_samples']
    turn = np.deg2rad(np.arange(0, 360, 5))
    ring = np.stack([20 * np.cos(turn), 20 * np.sin(turn), np.full_like(turn, 1.5), np.ones_like(turn)])
    u, v, depth, _ = np.moveaxis(sample.lidar2img @ ring, 1, 0)
    seen = (depth > 0) & (u > 0) & (u < 160 * depth) & (v > 0) & (v < 90 * depth)
    assert seen.shape == (12, 72) and seen.any(1).all() and seen.any(0).all()
    assert seen[:, 0].nonzero()[0].tolist() == [0, 6]


@pytest.mark.parametrize('train', [True, False])
def test_step_runs(build, train):
    model = build().train(train)
    data = make_inputs(model, 2, (50, 100), train, Config())
    assert [tuple(images.shape) for images in data['inputs']['img']] == [(12, 3, 50, 100)] * 2
    data = model.data_preprocessor(data, train)
    if train:
        losses = model(**data, mode='loss')
        assert sum(losses.values()).isfinite() and losses['loss_bbox'] > 0
    else:
        with torch.no_grad():
            assert all(len(sample.pred_instances_3d) for sample in model(**data, mode='predict'))


def test_online_step_extracts_one_frame(build, monkeypatch):
    model = build(test_cfg=dict(online=True)).eval()
    seen, backbone = [], model.img_backbone.forward
    monkeypatch.setattr(model.img_backbone, 'forward', lambda x: seen.append(len(x)) or backbone(x))
    data = make_inputs(model, 1, (48, 96), False, Config())
    for _ in range(2):
        with torch.no_grad():
            model.test_step(data)
    assert seen == [6, 6]

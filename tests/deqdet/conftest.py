"""A DEQDet small enough to run a training step in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from deqdet_batches import make_batch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from torch import nn

import mvbench_plugins.deqdet  # noqa: F401  registers


@pytest.fixture(scope='session', autouse=True)
def registered() -> None:
    register_all_modules(init_default_scope=False)


@pytest.fixture(scope='session')
def toy_config(config_dir) -> Config:
    return Config.fromfile(config_dir / 'deqdet' / 'deqdet_r18_toy.py')


@pytest.fixture(scope='session')
def small_model(toy_config) -> Config:
    """A model config for tests: that of the toy config, smaller still."""
    plugin = dict(imports=['mvbench_plugins.deqdet'])
    cfg = Config(dict(default_scope='mmdet', custom_imports=plugin, model=toy_config.model.to_dict()))
    layer = dict(content_dim=64, in_points=16)
    head = dict(bbox_head=layer, refinement_steps=6, supervision_position=[1, 3, 6])
    queries = dict(num_proposals=20, proposal_feature_channel=64)
    test = dict(rcnn=dict(max_per_img=20))
    cfg.merge_from_dict(dict(model=dict(rpn_head=queries, roi_head=head, test_cfg=test)))
    return cfg


@pytest.fixture
def build(small_model) -> Callable[..., nn.Module]:
    """``build(**options)`` makes the small model with these options of its RoI head and fixed random weights."""

    def make(test_rcnn: dict | None = None, **roi_head) -> nn.Module:
        torch.manual_seed(0)
        cfg = small_model.copy()
        cfg.merge_from_dict(dict(model=dict(roi_head=roi_head, test_cfg=dict(rcnn=test_rcnn or {}))))
        model = MODELS.build(ConfigDict(cfg.model))
        model.init_weights()
        for layer in model.roi_head.bbox_head:  # off the start, where nothing moves
            nn.init.normal_(layer.fc_reg.weight, std=0.02)
            nn.init.normal_(layer.mixing.parameter_generator.weight, std=0.02)
        return model

    return make


@pytest.fixture
def batch() -> dict:
    """Two images of different size with 3 and 1 objects, as the data loader hands them over."""
    return make_batch([3, 1])

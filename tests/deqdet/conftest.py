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
    register_all_modules()


@pytest.fixture(scope='session')
def toy_config(config_dir) -> Config:
    return Config.fromfile(config_dir / 'deqdet' / 'deqdet_r18_toy.py')


@pytest.fixture
def build(toy_config) -> Callable[..., nn.Module]:
    """``build(**options)`` makes the toy model with these options of its RoI head and fixed random weights."""

    def make(test_rcnn: dict | None = None, **roi_head) -> nn.Module:
        torch.manual_seed(0)
        cfg = Config(dict(model=toy_config.model.to_dict()))
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

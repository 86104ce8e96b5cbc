"""An STMixer small enough to run a training step in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from stmixer_batches import make_batch
from torch import nn

import mvbench_plugins.stmixer  # noqa: F401  registers


@pytest.fixture(scope='session')
def small_model(config_dir) -> Config:
    """A model config for tests: that of the toy config, smaller still."""
    toy = Config.fromfile(config_dir / 'stmixer' / 'stmixer_r18_toy.py')
    plugin = dict(imports=['mvbench_plugins.stmixer'])
    cfg = Config(dict(default_scope='mmaction', custom_imports=plugin, model=toy.model.to_dict()))
    stage = dict(embed_dims=64, num_points=8, feedforward_channels=64)
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(base_channels=8),
                neck=dict(in_channels=[8, 16, 32, 64], out_channels=64),
                head=dict(num_queries=10, num_stages=3, stage=stage),
            )
        )
    )
    return cfg


@pytest.fixture
def build(small_model) -> Callable[..., nn.Module]:
    """``build(**options)`` makes the small model with these options of its head and fixed random weights."""

    def make(**head) -> nn.Module:
        torch.manual_seed(0)
        cfg = small_model.copy()
        cfg.merge_from_dict(dict(model=dict(head=head)))
        model = MODELS.build(ConfigDict(cfg.model))
        model.init_weights()
        for stage in model.head.stages:  # off the start, where boxes stay and all queries mix alike
            nn.init.normal_(stage.box_head[-1].weight, std=0.05)
            nn.init.normal_(stage.sampling_offset.weight, std=0.02)
            for branch in (stage.spatial, stage.temporal):
                nn.init.normal_(branch.mixing.parameter_generator.weight, std=0.02)
        return model

    return make


@pytest.fixture
def batch() -> dict:
    """Two clips of different size with 3 people and 1, as the data loader hands them over."""
    return make_batch([3, 1])

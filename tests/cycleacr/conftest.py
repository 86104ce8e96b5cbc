"""A CycleACR small enough to run a training step in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from torch import nn

import mvbench_plugins.cycleacr  # noqa: F401  registers

# The released configs with narrow layers.
NARROW = {
    'slowfast-r50': """
model = dict(
    backbone=dict(slow_pathway=dict(base_channels=8), fast_pathway=dict(base_channels=1), pretrained=None),
    head=dict(in_channels=288, dim=24, hidden_dim=16, num_classes=80),
)
""",
    'swin-b': """
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])),
    head=dict(in_channels=128, dim=128, hidden_dim=16, num_frames=8),
)
""",
    'vit-b': """
model = dict(
    backbone=dict(embed_dims=48, depth=2, num_heads=2, init_cfg=None),
    head=dict(in_channels=48, dim=24, hidden_dim=16),
)
""",
}


@pytest.fixture(scope='session')
def small_model(config_dir) -> Config:
    """A model config for tests: that of the toy config, smaller still, but with two blocks of each kind."""
    toy = Config.fromfile(config_dir / 'cycleacr' / 'cycleacr_r18_toy.py')
    cfg = Config(dict(model=toy.model.to_dict()))
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(base_channels=4, num_stages=2, spatial_strides=(1, 2), temporal_strides=(1, 1)),
                head=dict(in_channels=8, dim=12, hidden_dim=16, depth=2, instance_depth=2),
                memory=dict(before=2, after=3),
            )
        )
    )
    cfg.model.backbone.update(dilations=(1, 1), inflate=(1, 1), out_indices=(1,))
    return cfg


@pytest.fixture
def build(small_model) -> Callable[..., nn.Module]:
    """``build(**options)`` makes the small model, with these options of its head, off the start.

    Blocks begin as the identity; here they do something.
    """

    def make(train_cfg: dict | None = None, **head) -> nn.Module:
        torch.manual_seed(0)
        cfg = small_model.copy()
        cfg.merge_from_dict(dict(model=dict(head=head, train_cfg=train_cfg or {})))
        model = MODELS.build(ConfigDict(cfg.model))
        model.init_weights()
        for name, param in model.head.named_parameters():
            # Weak queries keep the attention spread over all that is looked at.
            weak = any(part in name for part in ('query', 'key', 'bias', 'position'))
            nn.init.normal_(param, std=0.1 if weak else 0.4)
        return model

    return make


@pytest.fixture(scope='session')
def base_configs(config_dir) -> dict[str, Path]:
    """Files of the model configs by backbone."""
    return {name: config_dir / 'cycleacr' / '_base_' / f'cycleacr_{name}.py' for name in NARROW}


@pytest.fixture
def narrow(base_configs, tmp_path) -> Callable[[str], Path]:
    """``narrow('vit-b')`` writes one of the narrow configs."""

    def write(name: str) -> Path:
        path = tmp_path / f'{name}.py'
        path.write_text(f"_base_ = {str(base_configs[name])!r}\ndefault_scope = 'mmaction'\n{NARROW[name]}")
        return path

    return write

"""Every config of SparseBEV with its model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from official_models import NARROW

import mvbench_plugins.sparsebev  # noqa: F401  registers


@pytest.fixture(scope='package')
def models(config_dir) -> dict:
    """``{name: (config, model)}``, without memory for the weights."""
    built = {}
    with DefaultScope.overwrite_default_scope('mmdet3d'), torch.device('meta'):
        for path in sorted((config_dir / 'sparsebev').glob('*.py')):
            cfg = Config.fromfile(path)
            built[path.stem] = cfg, MODELS.build(cfg.model)
    return built


@pytest.fixture(scope='session')
def narrow(config_dir, tmp_path_factory) -> Callable[[str], Path]:
    """``narrow(kind)`` is the config file of a small model with that backbone."""
    folder = tmp_path_factory.mktemp('sparsebev')

    def path(kind: str = 'r50') -> Path:
        config, base = folder / f'{kind}.py', config_dir / 'sparsebev' / '_base_' / f'sparsebev_{kind}.py'
        config.write_text(f'_base_ = {str(base)!r}\nmodel = dict({NARROW[kind]})\n')
        return config

    return path

"""Every config of SparseBEV with its model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mvbench_plugins.sparsebev  # noqa: F401  registers


@pytest.fixture(scope='package', autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        yield


@pytest.fixture(scope='package')
def models(config_dir, scope) -> dict:
    """``{name: (config, model)}``, without memory for the weights."""
    built = {}
    with torch.device('meta'):
        for path in sorted((config_dir / 'sparsebev').glob('*.py')):
            cfg = Config.fromfile(path)
            built[path.stem] = cfg, MODELS.build(cfg.model)
    return built

"""Shared by all tests: importable parity adapters and small toy data, made once per run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests' / 'parity'))
torch.set_num_threads(1 if 'PYTEST_XDIST_WORKER' in os.environ else 2)  # two cores, whoever shares them
# A run in the background of a shell starts with Ctrl-C ignored, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: Default scope of the tests in each folder, which configs name and runners set; of the other folders none.
SCOPES = {
    'mmaction': ('cycleacr', 'datasets', 'evad', 'evaluation', 'stmixer'),
    'mmdet': ('deqdet', 'jointformer', 'vos_data', 'vos_evaluation'),
    'mmdet3d': ('link', 'sparsebev', 'sparsebev_backbones', 'sparsebev_configs', 'sparsebev_data'),
}


@pytest.fixture(scope='module', autouse=True)
def own_scope(request: pytest.FixtureRequest) -> Iterator[None]:
    """The default scope is global, too: what the runs of one module set would decide what the next one finds."""
    outside = DefaultScope._instance_dict
    DefaultScope._instance_dict = outside.copy()
    for scope, folders in SCOPES.items():
        if request.path.parent.name in folders:
            DefaultScope.get_instance(request.node.nodeid, scope_name=scope)
    yield
    DefaultScope._instance_dict = outside


@pytest.fixture(scope='module', autouse=True)
def own_visualizers() -> Iterator[None]:
    """Visualizers are global by name, and configs all use one: an inferencer's would take the records of later runs."""
    yield
    kinds = [Visualizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


@pytest.fixture(scope='session')
def config_dir() -> Path:
    return ROOT / 'configs'


@pytest.fixture(scope='session')
def toy_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy COCO data set of 32 training and 8 validation images of 64 px."""
    from mvbench_plugins.datasets.toy import write_coco

    out = tmp_path_factory.mktemp('toy') / 'coco'
    write_coco(out, seed=0, num_train=32, num_val=8, size=64)
    return out

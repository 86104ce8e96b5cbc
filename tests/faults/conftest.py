"""Toy data of all formats, made once, and the process that forks training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fault_process
import pytest
from fault_configs import PLUGINS, make_config
from mmengine.config import Config

from mvbench_plugins.datasets.toy import write_ava, write_davis, write_nuscenes, write_semantic_kitti


@pytest.fixture(scope='session', autouse=True)
def runs() -> None:
    """On the CPU, with one thread each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        patch.setenv('OMP_NUM_THREADS', '1')
        fault_process.prepare()


@pytest.fixture(scope='session')
def toy_ava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(out, num_train=3, num_val=1, size=(64, 48), seconds=5)
    return out


@pytest.fixture(scope='session')
def toy_davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('toy') / 'davis'
    write_davis(out, num_train=5, num_val=1, size=(64, 64))
    return out


@pytest.fixture(scope='session')
def toy_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mvbench_plugins.sparsebev.sweeps import write_infos

    out = tmp_path_factory.mktemp('toy') / 'nuscenes'
    write_nuscenes(out, num_train=2, num_val=1, size=(160, 90), key_frames=3, sweeps=1, azimuths=32)
    write_infos(str(out), 'v1.0-trainval', str(out), 'nuscenes_multiview', False)
    return out


@pytest.fixture(scope='session')
def toy_kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('toy') / 'semantickitti'
    write_semantic_kitti(out, num_train=1, num_val=1, scans=6, azimuths=32)
    return out


@pytest.fixture
def small_config(request: pytest.FixtureRequest) -> Callable[[str], Config]:
    """``small_config(plugin)``: a config of eight iterations."""
    return lambda name: make_config(PLUGINS[name], request.getfixturevalue(PLUGINS[name].data))

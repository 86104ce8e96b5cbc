"""The toy segmentation config on toy SemanticKITTI."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from mmdet3d.registry import DATASETS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mvbench_plugins.datasets.toy import write_semantic_kitti

SCANS = {'num_train': 2, 'num_val': 1, 'scans': 4, 'azimuths': 32}


@pytest.fixture(scope='module')
def toy_kitti(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'semantickitti'
    write_semantic_kitti(folder, **SCANS)
    return folder


def _config(config_dir: Path) -> Config:
    return Config.fromfile(config_dir / 'link' / 'link_seg_toy.py')


def test_the_rate_follows_the_length_of_the_toy_set(config_dir):
    """It rises in the first of all iterations on the tool's default set, and ends near 0 with the last."""
    cfg, default = _config(config_dir), inspect.signature(write_semantic_kitti).parameters
    scans = default['num_train'].default * default['scans'].default
    total = cfg.train_cfg.max_epochs * math.ceil(scans / cfg.train_dataloader.batch_size)
    wrapper = build_optim_wrapper(nn.Linear(2, 2), cfg.optim_wrapper)
    optimizer = wrapper.optimizer
    schedulers = [PARAM_SCHEDULERS.build(dict(spec, optimizer=optimizer)) for spec in cfg.param_scheduler]
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(cfg.optim_wrapper.optimizer.lr, rel=0.01)
    assert 0.02 * total < top < 0.2 * total and rates[0] < 0.1 * rates[top]
    assert all(before >= after for before, after in zip(rates[top:], rates[top + 1 :]))
    assert rates[-1] < 1e-3 * rates[top]


def test_intensities_are_scaled_and_nothing_else_is(toy_kitti, config_dir):
    """In training and in tests; beyond them, only what the released configs do happens to the points."""
    cfg = _config(config_dir)
    released = Config.fromfile(config_dir / 'link' / 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg.py')
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        kinds = [step.type for step in dataset.pipeline]
        assert kinds.count('ScaleIntensity') == 1
        kinds.remove('ScaleIntensity')
        assert kinds == [step.type for step in released[f'{split}_dataloader'].dataset.pipeline]
    dataset.data_root = str(toy_kitti) + '/'
    item = DATASETS.build(dataset)[1]
    points = np.fromfile(toy_kitti / 'sequences' / '08' / 'velodyne' / '000001.bin', np.float32).reshape(-1, 4)
    np.testing.assert_allclose(item['inputs']['points'], points * (1, 1, 1, 255), rtol=1e-6)


def test_it_trains_on_toy_files_and_measures(toy_kitti, config_dir, tmp_path):
    """From the files through the stock runner to the metric: the loss falls, and roads are known after some steps."""
    cfg = _config(config_dir)
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.dataset.data_root = str(toy_kitti) + '/'
        loader.num_workers, loader.persistent_workers = 0, False
    cfg.model.backbone.channels = cfg.model.decode_head.channels = 8
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', dataset=cfg.train_dataloader.dataset, times=12)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = [float(loss) for loss in runner.message_hub.get_scalar('train/loss').data[0]]
    assert len(losses) == 12 * 2 and all(map(math.isfinite, losses))
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    metrics = {name: runner.message_hub.get_scalar(f'val/{name}').current() for name in ('miou', 'road', 'acc')}
    assert metrics['road'] > 0.6 and metrics['acc'] > 0.5 and 0.05 < metrics['miou'] < 1
    assert (tmp_path / 'epoch_1.pth').is_file() and list(tmp_path.glob('best_miou_*.pth'))
    checkpoint = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
    assert checkpoint['meta']['dataset_meta']['classes'][8] == 'road'

"""Hooks of the detectors' runs: pasted objects after a resume, and info files without sweeps."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import mmengine
import pytest
from mmdet3d.datasets import CBGSDataset, NuScenesDataset
from mmdet3d.registry import HOOKS, TRANSFORMS
from mmengine.config import Config

CLASSES = ['car', 'truck']


def make_dataset(folder: Path, sweeps: list[int], pipeline: list[dict]) -> CBGSDataset:
    """Samples with so many sweeps each; nothing but their info file is there."""
    infos = [
        dict(
            sample_idx=number,
            lidar_points=dict(lidar_path=f'{number}.bin', num_pts_feats=5),
            lidar_sweeps=[dict(lidar_points=dict(lidar_path='s.bin'))] * count,
            instances=[],
        )
        for number, count in enumerate(sweeps)
    ]
    mmengine.dump(
        dict(metainfo=dict(categories={name: i for i, name in enumerate(CLASSES)}), data_list=infos),
        folder / 'infos.pkl',
    )
    dataset = NuScenesDataset(
        data_root=str(folder),
        ann_file='infos.pkl',
        data_prefix=dict(pts='', sweeps=''),
        metainfo=dict(classes=CLASSES),
        pipeline=pipeline,
        test_mode=True,
    )
    wrapped = CBGSDataset.__new__(CBGSDataset)  # there is no object to balance by
    wrapped.dataset = dataset
    return wrapped


def paste(folder: Path) -> object:
    """A transform that pastes objects of an empty database."""
    mmengine.dump({name: [] for name in CLASSES}, folder / 'db.pkl')
    sampler = dict(
        type='DataBaseSampler',
        data_root=str(folder),
        info_path=str(folder / 'db.pkl'),
        rate=1.0,
        prepare={},
        classes=CLASSES,
        sample_groups=dict(car=1),
        points_loader=dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5),
    )
    return TRANSFORMS.build(dict(type='ObjectSampleIntoScene', db_sampler=sampler))


@pytest.mark.parametrize(('start', 'pasted'), [(0, [0, 1, 2]), (2, [2]), (3, []), (4, [])])
def test_a_run_resumed_late_pastes_no_objects(start, pasted, config_dir, tmp_path):
    cfg = Config.fromfile(config_dir / 'link' / 'link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py')
    (hook,) = [HOOKS.build({**hook, 'disable_after_epoch': 3}) for hook in cfg.custom_hooks]
    transform = paste(tmp_path)
    dataset = make_dataset(tmp_path, [1], [])
    dataset.dataset.pipeline.transforms.append(transform)
    loader = SimpleNamespace(dataset=dataset, persistent_workers=False)
    logger = logging.getLogger('resume')
    runner = SimpleNamespace(epoch=start, train_dataloader=loader, model=None, logger=logger)
    hook.before_train(runner)
    seen = []
    for runner.epoch in range(start, 6):
        hook.before_train_epoch(runner)
        if not transform.disabled:
            seen.append(runner.epoch)
    assert seen == pasted


@pytest.mark.parametrize(('sweeps', 'wanted', 'warnings'), [([0, 0, 0], 9, 1), ([0, 1, 0], 9, 0), ([0, 0, 0], 0, 0)])
def test_an_info_file_without_sweeps_is_named_once(sweeps, wanted, warnings, tmp_path, caplog, config_dir):
    cfg = Config.fromfile(config_dir / 'link' / 'link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py')
    hook = HOOKS.build(cfg.default_hooks.sweeps)
    dataset = make_dataset(tmp_path, sweeps, [dict(cfg.load_sweeps, sweeps_num=wanted)])
    loader = SimpleNamespace(dataset=dataset)
    logger = logging.getLogger('sweeps')
    runner = SimpleNamespace(train_dataloader=loader, val_dataloader=loader, test_dataloader=loader, logger=logger)
    hook.before_train(runner)
    hook.before_val(runner)
    hook.before_test(runner)
    messages = [record.getMessage() for record in caplog.records if record.name == 'sweeps']
    assert len(messages) == warnings
    assert all('infos.pkl: none of its 3 samples has lidar_sweeps' in message for message in messages)

"""The toy config through the stock runner, the published metrics and the inferencer."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mvbench_plugins.apis import ActionDetInferencer
from mvbench_plugins.datasets.toy import JHMDB, UCF101_24, write_ava, write_tubes

EPOCHS = 8


@pytest.fixture(scope='module')
def toy_ava(tmp_path_factory) -> Path:
    """Four training videos and two validation videos with three key frames each."""
    out = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(out, num_train=4, num_val=2, size=(64, 48), seconds=6)
    return out


def _lighten(cfg: Config, small_model: Config) -> None:
    """A model and pipelines that train within seconds, no worker processes."""
    cfg.model = small_model.model.copy()
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers, loader.persistent_workers, loader.batch_size = 0, False, 6
        loader.dataset.pipeline = _toy_pipeline()


def _toy_pipeline() -> list[dict]:
    toy = Config.fromfile(Path(__file__).parents[2] / 'configs' / 'stmixer' / 'stmixer_r18_toy.py')
    for step in toy.train_pipeline:
        if step.type == 'ResizeShortSide':
            step.scale = 48
    return toy.train_pipeline


@pytest.fixture(scope='module')
def trained(config_dir, small_model, toy_ava, tmp_path_factory) -> tuple[Config, str]:
    """Config and checkpoint after a few epochs: enough to see losses fall, not to detect."""
    cfg = Config.fromfile(config_dir / 'stmixer' / 'stmixer_r18_toy.py')
    _lighten(cfg, small_model)
    cfg.work_dir = str(tmp_path_factory.mktemp('work'))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(toy_ava)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        for key in ('ann_file', 'exclude_file', 'label_file'):
            evaluator[key] = evaluator[key].replace('data/toy_ava', str(toy_ava))
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = EPOCHS
    cfg.param_scheduler[0].end, cfg.param_scheduler[1].T_max = 4, EPOCHS
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = EPOCHS
    Runner.from_cfg(cfg).train()
    return cfg, f'{cfg.work_dir}/epoch_{EPOCHS}.pth'


def test_training_learns_and_validates(trained):
    (path,) = Path(trained[0].work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    losses = [entry['loss'] for entry in entries if 'loss' in entry]
    assert len(losses) == EPOCHS * 2 and np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])
    assert any('mAP/overall' in entry for entry in entries)


def test_resumed_training_goes_on(trained, tmp_path):
    cfg, checkpoint = trained
    cfg = cfg.copy()
    cfg.work_dir, cfg.load_from, cfg.resume = str(tmp_path), checkpoint, True
    cfg.train_cfg.max_epochs = EPOCHS + 1
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == (EPOCHS + 1) * 2


def test_test_loop_writes_the_published_csv(trained, tmp_path):
    cfg, checkpoint = trained
    cfg = cfg.copy()
    cfg.work_dir, cfg.load_from = str(tmp_path), checkpoint
    cfg.test_evaluator.out_csv = str(tmp_path / 'detections.csv')
    metrics = Runner.from_cfg(cfg).test()
    assert 0 <= metrics['mAP/overall'] <= 1
    rows = [line.split(',') for line in (tmp_path / 'detections.csv').read_text().splitlines()]
    assert {row[1] for row in rows} == {'0902', '0903', '0904'} and {row[0] for row in rows} == {'val_0001', 'val_0002'}
    assert {int(row[6]) for row in rows} == set(range(1, 9))
    assert all(len(row[7].partition('.')[2]) == 5 for row in rows)


def test_inferencer_runs_from_the_checkpoint_alone(trained, toy_ava, tmp_path):
    """Names of the actions and the config come out of the checkpoint; every frame comes back annotated."""
    inferencer = ActionDetInferencer(weights=trained[1], device='cpu', show_progress=False)
    video = toy_ava / 'videos' / 'val_0001.mp4'
    result = inferencer(str(video), out=str(tmp_path / 'out.mp4'), batch_size=2, action_thr=0.0, pred_score_thr=0.0)
    assert [round(frame['time'], 3) for frame in result['predictions']] == [0, 1, 2, 3, 4, 5]
    people = [person for frame in result['predictions'] for person in frame['detections']]
    written = cv2.VideoCapture(str(tmp_path / 'out.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 180
    assert people and {len(person['actions']) for person in people} == {8}
    assert {'moving left', 'turning'} <= {action['name'] for person in people for action in person['actions']}


@pytest.mark.parametrize(
    ('layout', 'config'),
    [
        (JHMDB, 'stmixer_vit-b-k400-pre_8xb1-16x4x1-12e_jhmdb-rgb.py'),
        (UCF101_24, 'stmixer_vit-b-k400-pre_8xb1-16x4x1-12e_ucf101-24-rgb.py'),
    ],
    ids=['jhmdb', 'ucf101_24'],
)
def test_tube_data_sets(layout, config, config_dir, small_model, tmp_path):
    """Data set and metric of the released layouts: one training step, and a test of two dozen frames."""
    data = tmp_path / 'data'
    write_tubes(layout, data, num_train=1, num_val=1, size=(64, 48))
    cfg = Config.fromfile(config_dir / 'stmixer' / config)
    _lighten(cfg, small_model)
    cfg.work_dir = str(tmp_path / 'work')
    for loader, number in ((cfg.train_dataloader, 6), (cfg.val_dataloader, 6), (cfg.test_dataloader, 24)):
        loader.dataset.update(data_root=str(data), num_classes=9, indices=number)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(data / cfg.ann_file)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    metrics = runner.test()
    assert set(metrics) >= {'frame_mAP@0.5', 'video_mAP@0.2', 'video_mAP@0.5:0.95'}
    assert runner.train_dataloader.dataset.metainfo['classes'][0] == 'moving_left'

"""Two passes over toy data: against passes by hand, in one process and two, killed and resumed; training."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from mmaction.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from torch import Tensor, nn

from mvbench_plugins.cycleacr import MemoryBankHook, MemoryTestLoop
from mvbench_plugins.datasets.toy import write_ava

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 4
Scores = dict[tuple[str, int], Tensor]


@METRICS.register_module()
class KeepScores(BaseMetric):
    """Keeps the scores by (video, second)."""

    kept: Scores = {}

    def process(self, data_batch, data_samples):
        self.results += [
            ((sample['video_id'], sample['timestamp']), sample['pred_instances']['scores']) for sample in data_samples
        ]

    def compute_metrics(self, results):
        assert len(results) == len(dict(results))
        KeepScores.kept = dict(results)
        return dict(clips=len(results))


@pytest.fixture(scope='module')
def toy_ava(tmp_path_factory) -> Path:
    """Three videos of each split with three key frames each: an odd number of clips."""
    out = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(out, num_train=3, num_val=3, size=(64, 48), seconds=6)
    return out


@pytest.fixture(scope='module')
def config(config_dir, small_model, toy_ava, tmp_path_factory) -> Callable[..., Config]:
    """``config()``: the toy config with the small model and the small data, in a work folder of its own."""

    def make() -> Config:
        cfg = Config.fromfile(config_dir / 'cycleacr' / 'cycleacr_r18_toy.py')
        cfg.model = small_model.model.copy()
        cfg.work_dir = str(tmp_path_factory.mktemp('work'))
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.num_workers, loader.persistent_workers, loader.batch_size = 0, False, 4
            loader.dataset.data_root = str(toy_ava)
            for step in loader.dataset.pipeline:
                if step.type == 'ResizeShortSide':
                    step.scale = 48
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            for key in ('ann_file', 'exclude_file', 'label_file'):
                evaluator[key] = evaluator[key].replace('data/toy_ava', str(toy_ava))
        cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = EPOCHS
        cfg.param_scheduler = None
        cfg.default_hooks.logger.interval = 1
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=EPOCHS)
        return cfg

    return make


@pytest.fixture(scope='module')
def weights(config, tmp_path_factory) -> str:
    """A checkpoint whose blocks do something; the memory matters."""
    torch.manual_seed(0)
    model = MODELS.build(config().model)
    for name, param in model.head.named_parameters():
        weak = any(part in name for part in ('query', 'key', 'bias', 'position'))
        nn.init.normal_(param, std=0.1 if weak else 0.4)
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def tester(config, weights) -> Callable[..., Runner]:
    """``tester()``: a runner that tests those weights and keeps the scores."""

    def make(**changes) -> Runner:
        cfg = config()
        cfg.load_from = weights
        cfg.test_evaluator = dict(type='KeepScores')
        cfg.update(changes)
        return Runner.from_cfg(cfg)

    return make


def _by_hand(runner: Runner) -> Scores:
    """One clip at a time; then each with the first five people of its neighbours."""
    model = runner.model.eval()
    samples, features = {}, {}
    with torch.no_grad():
        for batch in runner.test_dataloader:
            for i, sample in enumerate(batch['data_samples']):
                key = (sample.video_id, sample.timestamp)
                data = model.data_preprocessor(dict(inputs=batch['inputs'][i : i + 1], data_samples=[sample]))
                samples[key], (features[key],) = sample, model.extract(**data)
        scores = {}
        for (video, second), sample in samples.items():
            memory = torch.zeros(1, 6, 5, 12)
            for slot in range(6):
                other = features.get((video, second - 2 + slot))
                if other is not None:
                    memory[0, slot, : min(5, len(other))] = other.actor_features[:5]
            (done,) = model.classify([features[video, second]], memory.flatten(1, 2), [sample])
            scores[video, second] = done.pred_instances.scores
    return scores


def _assert_equal(got: Scores, want: Scores) -> None:
    assert set(got) == set(want)
    for key, scores in want.items():
        torch.testing.assert_close(got[key], scores, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f'{key}: {text}')


def test_loop_equals_two_passes_by_hand(tester):
    """Whatever a killed run left in the memory; the backbone sees each clip once; nothing is left behind."""
    runner = tester()
    seen = []
    runner.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    runner.model.memory.update('val_0001', 902, torch.full((5, 12), 9.0))
    runner.model.memory.update('val_0001', 901, torch.full((5, 12), 9.0))
    metrics = runner.test()
    number = len(runner.test_dataloader.dataset)
    assert metrics['clips'] == sum(seen) == number and number % 2 and number >= 7
    assert len(runner.model.memory) == len(runner.model.train_memory) == 0
    got = KeepScores.kept
    want = _by_hand(runner)
    _assert_equal(got, want)
    # The neighbours matter: without them there are other scores.
    alone = tester(test_cfg=dict(type='TestLoop'))
    alone.test()
    assert max((KeepScores.kept[key] - scores).abs().max() for key, scores in want.items()) > 1e-3
    # The stock loop is each clip by itself.
    batch = next(iter(alone.test_dataloader))
    assert {sample.original_shape for sample in batch['data_samples']} == {(48, 64)}
    one = alone.model.test_step({key: value[1:2] for key, value in batch.items()})[0]
    torch.testing.assert_close(
        KeepScores.kept[one.video_id, one.timestamp], one.pred_instances.scores, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('place', ['extract', 'classify'])
def test_nothing_is_left_by_a_run_that_fails(tester, place):
    runner = tester()
    model = runner.model
    calls = []

    def fail(*args):
        calls.append(len(model.memory))
        if place == 'classify' or len(calls) == 2:
            raise RuntimeError('pulled the plug')
        return original(*args)

    original = getattr(model, place)
    with patch.object(model, place, fail), pytest.raises(RuntimeError, match='pulled the plug'):
        runner.test()
    assert (calls[-1] > 0) == (place == 'classify'), 'the second pass finds the first one in the memory'
    assert len(model.memory) == 0


def test_two_processes_equal_one(config, weights, tmp_path):
    """An odd number of clips on two ranks: neighbours lie on the other rank, and one clip is there twice."""
    cfg = config()
    cfg.test_evaluator.out_csv = str(tmp_path / 'one.csv')
    cfg.load_from = weights
    alone = Runner.from_cfg(cfg).test()
    cfg.test_evaluator.out_csv = str(tmp_path / 'two.csv')
    cfg.dump(tmp_path / 'toy.py')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', 'PORT': str(port)}
    env['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), env['PATH']])
    command = ['bash', str(ROOT / 'tools' / 'dist_test.sh'), str(tmp_path / 'toy.py'), weights, '2']
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-5000:]
    one, two = ((tmp_path / f'{name}.csv').read_text().splitlines() for name in ('one', 'two'))
    assert len(one) == len(two) > 50
    for a, b in zip(sorted(one), sorted(two), strict=True):
        assert a.split(',')[:7] == b.split(',')[:7]
        assert float(a.split(',')[7]) == pytest.approx(float(b.split(',')[7]), abs=2e-5)
    scalars = [json.loads(path.read_text()) for path in Path(cfg.work_dir).glob('*/*.json')]
    assert [entry['mAP/overall'] for entry in scalars] == pytest.approx([alone['mAP/overall']] * 2)


@pytest.fixture(scope='module')
def trained(config) -> tuple[Config, Runner]:
    """A few epochs: enough to see the loss fall, not to recognise actions."""
    cfg = config()
    runner = Runner.from_cfg(cfg)
    runner.train()
    return cfg, runner


def test_training_learns_and_validates(trained):
    (path,) = Path(trained[0].work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    losses = [entry['loss'] for entry in entries if 'loss' in entry]
    steps = len(losses) // EPOCHS
    assert steps >= 2 and np.mean(losses[-steps:]) < 0.8 * np.mean(losses[:steps])
    assert any('mAP/overall' in entry for entry in entries)


def test_memory_goes_into_checkpoints_and_back(trained, config):
    """A resumed run goes on with it; one that only starts from the weights begins without."""
    cfg, runner = trained
    bank, last = runner.model.train_memory, runner.model.last_loss
    number = len(runner.train_dataloader.dataset)
    assert len(bank) == number and last > 0
    found = {}

    class FirstStep(Exception):
        pass

    for resume in (True, False):
        again = config()
        again.load_from, again.resume = f'{cfg.work_dir}/epoch_{EPOCHS}.pth', resume
        again.train_cfg.max_epochs = EPOCHS + 1
        other = Runner.from_cfg(again)

        def look(*args, model=other.model, resume=resume):
            found[resume] = model.train_memory.state_dict(), model.last_loss
            raise FirstStep

        with patch.object(other.model, '_loss', look), pytest.raises(FirstStep):
            other.train()
    entries, loss = found[True]
    assert loss == last and found[False] == ({}, None)
    expected = bank.state_dict()
    assert {video: list(seconds) for video, seconds in entries.items()} == {
        video: list(seconds) for video, seconds in expected.items()
    }
    for video, seconds in expected.items():
        for second, (features, written) in seconds.items():
            assert torch.equal(entries[video][second][0], features) and entries[video][second][1] == written


def test_checkpoint_with_a_memory_can_be_tested(trained, tester):
    cfg, _ = trained
    runner = tester(load_from=f'{cfg.work_dir}/epoch_{EPOCHS}.pth')
    assert runner.test()['clips'] == len(KeepScores.kept) and len(runner.model.train_memory) == 0


def test_loops_and_hook_are_for_this_model_only():
    runner = SimpleNamespace(model=nn.Linear(1, 1))
    with pytest.raises(TypeError, match='for CycleACR, the model is Linear: use ValLoop and TestLoop'):
        MemoryBankHook().before_save_checkpoint(runner, {})
    loop = MemoryTestLoop.__new__(MemoryTestLoop)
    loop._runner = runner
    with pytest.raises(TypeError, match='the model is Linear'):
        loop.run()

"""dist_train.sh on the CPU: what is killed goes on where it was, with the loss curve of an undisturbed run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mvbench_plugins import compat

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
MODULE = '''
import os, signal, time
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS


@DATASETS.register_module()
class ToyPoints(torch.utils.data.Dataset):
    def __init__(self):
        self.points = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return dict(inputs=self.points[index])


@MODELS.register_module()
class ToyRegression(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, inputs, mode):
        return dict(loss=(self.layer(inputs).squeeze(1) - inputs.sum(1)).square().mean())


@HOOKS.register_module()
class Accident(Hook):
    """After iteration `hang_at` all ranks stop; after `die_at` rank 1 is killed, once per `folder`."""

    def __init__(self, folder, hang_at=None, die_at=None):
        self.folder, self.hang_at, self.die_at = Path(folder), hang_at, die_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        done = batch_idx + 1
        if done == self.hang_at:
            (self.folder / f'rank{get_rank()}.part').write_text(str(os.getpid()))
            (self.folder / f'rank{get_rank()}.part').rename(self.folder / f'rank{get_rank()}.pid')
            time.sleep(600)
        if done == self.die_at and get_rank() == 1 and not (self.folder / 'died').exists():
            (self.folder / 'died').touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''
CONFIG = """
custom_imports = dict(imports=['toy_regression'], allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(type='ToyRegression')
train_dataloader = dict(
    batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'),
    dataset=dict(type='ToyPoints'), sampler=dict(type='InfiniteSampler', shuffle=True))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max=12)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4, max_keep_ckpts=2))
custom_hooks = [dict(type='Accident', folder={folder!r}, priority='LOWEST')]
log_processor = dict(by_epoch=False, window_size=1)
randomness = dict(seed=0)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A linear regression of 12 iterations that saves after every fourth, in a folder with a space in its name."""
    folder = tmp_path / 'a folder'
    folder.mkdir()
    (folder / 'toy_regression.py').write_text(MODULE)
    (folder / 'toy.py').write_text(CONFIG.format(folder=str(folder)))
    return folder / 'toy.py'


def start(config: Path, work_dir: str, *options: str, max_restarts: int = 0) -> subprocess.Popen:
    """Starts two training processes; their output goes to a file beside the config."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(config.parent), 'PORT': str(port), 'CUDA_VISIBLE_DEVICES': ''}
    env['MAX_RESTARTS'] = str(max_restarts)
    command = ['bash', str(TOOLS / 'dist_train.sh'), str(config), '2', '--work-dir', work_dir, *options]
    with (config.parent / f'{work_dir}.log').open('a') as log:
        return subprocess.Popen(command, cwd=config.parent, env=env, stdout=log, stderr=log, start_new_session=True)


def finish(process: subprocess.Popen, config: Path, work_dir: str) -> None:
    """Waits for the end of a run that should succeed."""
    try:
        status = process.wait(timeout=240)
    finally:
        process.kill()
    assert status == 0, (config.parent / f'{work_dir}.log').read_text()[-5000:]


def loss_curves(work_dir: Path) -> list[dict[int, float]]:
    """The logged losses by iteration, one dict for each start of the run."""
    curves = []
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        curves.append({entry['iter']: entry['loss'] for entry in entries if 'loss' in entry})
    return curves


def is_running(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be collected by its parent."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_killed_run_resumes_with_same_losses(config: Path) -> None:
    folder = config.parent
    finish(start(config, 'undisturbed'), config, 'undisturbed')
    (expected,) = loss_curves(folder / 'undisturbed')
    assert sorted(expected) == list(range(1, 13))
    assert len(set(expected.values())) == 12

    # everything is killed in iteration 6, two after a checkpoint
    killed = start(config, 'disturbed', '--cfg-options', 'custom_hooks.0.hang_at=6')
    pids = [folder / f'rank{rank}.pid' for rank in (0, 1)]
    try:
        wait_until(lambda: all(pid.exists() for pid in pids) or killed.poll() is not None, 240, 'workers did not start')
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert all(pid.exists() for pid in pids), (folder / 'disturbed.log').read_text()[-5000:]
    workers = [int(pid.read_text()) for pid in pids]
    wait_until(lambda: not any(map(is_running, workers)), 20, 'workers outlive their launcher')
    assert not (folder / 'disturbed' / 'iter_8.pth').exists()

    # the same command again; this time one worker dies in iteration 10 and torchrun starts both anew
    again = start(config, 'disturbed', '--cfg-options', 'custom_hooks.0.die_at=10', max_restarts=1)
    finish(again, config, 'disturbed')
    assert (folder / 'died').exists()
    first, second, third = loss_curves(folder / 'disturbed')
    assert (min(first), min(second), min(third), max(third)) == (1, 5, 9, 12)
    for iteration, loss in [*first.items(), *second.items(), *third.items()]:
        assert loss == expected[iteration]

    compat.apply()
    states = [torch.load(folder / run / 'iter_12.pth', weights_only=True) for run in ('undisturbed', 'disturbed')]
    assert [state['meta']['iter'] for state in states] == [12, 12]
    for name, weight in states[0]['state_dict'].items():
        assert torch.equal(weight, states[1]['state_dict'][name]), name

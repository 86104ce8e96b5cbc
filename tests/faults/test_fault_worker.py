"""A worker of the data loader that is killed, as by a lack of memory, ends the training; it does not hang."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_process import TRAIN, records

from mvbench_plugins.common import cli


def test_killed_worker_ends_training(small_config: Callable, tmp_path: Path) -> None:
    cfg = small_config('cycleacr')
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='AccidentHook', kind='worker', at=3)]
    cfg.dump(tmp_path / 'config.py')
    # an interpreter of its own: how it ends matters here
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent), 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(TRAIN), str(tmp_path / 'config.py'), '--work-dir', str(tmp_path / 'run')]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    # by torch, or where its connection to the worker broke before the end of the worker was known
    assert re.match(r'RuntimeError: (DataLoader worker \(pid|A worker of the data loader has died)', last), done.stderr
    (done_iterations,) = records(tmp_path / 'run')
    assert 3 <= len(done_iterations) <= 5, 'it ends at the latest when the batches that were ready are used up'


def test_broken_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch passes on if it reads from a worker while that dies; no other error of the system is taken for it."""
    monkeypatch.setattr(cli, '_SECONDS_TO_DIE', 0)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(RuntimeError, match='worker of the data loader has died.*train_dataloader.num_workers'):
        with cli.told_of_dead_workers():
            ours.recv()
    with pytest.raises(FileNotFoundError, match='absent'), cli.told_of_dead_workers():
        open('absent')

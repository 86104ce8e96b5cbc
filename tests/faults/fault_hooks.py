"""What training processes of these tests have besides the plugin: samples to tell apart, records, accidents."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, METRICS
from mmengine.runner import Runner


def _seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@DATASETS.register_module()
class SeededSamples(torch.utils.data.Dataset):
    """A data set whose samples are augmented the same way each time: mmengine does not restore random states."""

    def __init__(self, dataset: dict) -> None:
        self.dataset = DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo
        self.taken: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        _seed(index)
        self.taken.append(index)
        return self.dataset[index]


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes samples, rates and loss of each iteration to ``<work_dir>/start_<k>.jsonl`` in the k-th start of a run.

    Args:
        hang_at: iterations after which the process waits for its end.
    """

    priority = 'VERY_HIGH'

    def __init__(self, hang_at: int | None = None) -> None:
        self.hang_at = hang_at

    def before_train(self, runner: Runner) -> None:
        starts = len(list(Path(runner.work_dir).glob('start_*.jsonl')))
        self.path = Path(runner.work_dir, f'start_{starts}.jsonl')
        self.path.touch()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        loader = runner.train_dataloader
        # a resumed run by iterations has read batches that it threw away
        samples = loader.dataset.taken[-loader.batch_size :]
        loader.dataset.taken.clear()
        self.record = dict(iter=runner.iter, epoch=runner.epoch, samples=samples, lr=runner.optim_wrapper.get_lr())
        _seed(runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.record['loss'] = outputs['loss'].item()
        with self.path.open('a') as file:
            file.write(json.dumps(self.record) + '\n')
        if runner.iter + 1 == self.hang_at:
            time.sleep(600)


@HOOKS.register_module()
class AccidentHook(Hook):
    """Lets something go wrong after an iteration.

    Args:
        at: after so many iterations.
        kind: ``worker``: a worker of the data loader is killed; ``disk``: files cannot grow beyond 128 KiB any more, as
            if the disk were full then; ``save``: the process is killed when half of a checkpoint file is written.
        file: which one from then on. Where there is a new best score that is the second file, and the third is the
            first one again.
    """

    priority = 'VERY_HIGH'

    def __init__(self, at: int, kind: str, file: int = 1) -> None:
        self.at = at
        self.act = dict(worker=_kill_worker, disk=_fill_disk, save=partial(_die_in_save, file))[kind]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.at:
            self.act()


def _kill_worker() -> None:
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)


def _fill_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))


def _die_in_save(number: int) -> None:
    put, files = LocalBackend.put, []

    def put_half(self: LocalBackend, obj: bytes, filepath: str) -> None:
        files.append(filepath)
        if len(files) < number:
            put(self, obj, filepath)
            return
        put(self, obj[: len(obj) // 2], filepath)
        os.kill(os.getpid(), signal.SIGKILL)

    LocalBackend.put = put_half


@METRICS.register_module()
class RisingScore(BaseMetric):
    """A score that is better than all before."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(score=time.time())

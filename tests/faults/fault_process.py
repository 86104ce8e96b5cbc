"""Training processes that tests may kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[2] / 'tools' / 'train.py'
# One process imports all plugins and forks the runs: no test waits for imports, and nothing is in a run but them.
_fork = multiprocessing.get_context('forkserver')


def prepare() -> None:
    """Tells the process that forks the runs what to import, and starts it."""
    from multiprocessing import forkserver

    from fault_configs import PLUGINS

    _fork.set_forkserver_preload([f'mvbench_plugins.{name}' for name in PLUGINS])
    forkserver.ensure_running()


def start(config: Path, work_dir: Path, *options: str) -> BaseProcess:
    """Starts ``tools/train.py``; its output goes to ``<work_dir>.log``."""
    arguments = [str(TRAIN), str(config), '--work-dir', str(work_dir), *options]
    process = _fork.Process(target=_train, args=(arguments, f'{work_dir}.log'))
    process.start()
    return process


def _train(arguments: list[str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name='__main__')


def finish(process: BaseProcess, work_dir: Path, status: int = 0, seconds: float = 300) -> str:
    """Waits for the end of a run, which should have this exit status; returns what all runs printed until now."""
    process.join(seconds)
    process.kill()  # only if it hangs
    process.join()
    printed = Path(f'{work_dir}.log').read_text()
    assert process.exitcode == status, printed[-5000:]
    return printed


def records(work_dir: Path) -> list[list[dict]]:
    """What :class:`fault_hooks.RecordHook` wrote, a list of iterations for each start."""
    paths = sorted(work_dir.glob('start_*.jsonl'))
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)

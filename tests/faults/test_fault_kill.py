"""SIGKILL at a random moment of training: ``--resume`` goes on where the last checkpoint stands."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_configs import ITERS, ITERS_PER_EPOCH, PLUGINS
from fault_process import finish, records, start, wait_until

from mvbench_plugins import compat


@pytest.mark.parametrize('plugin', PLUGINS)
def test_killed_run_goes_on(plugin: str, small_config: Callable, tmp_path: Path) -> None:
    cfg = small_config(plugin)
    cfg.dump(tmp_path / 'undisturbed.py')
    cfg.custom_hooks[-1]['hang_at'] = ITERS  # the kill comes before the end, on however fast a machine
    cfg.dump(tmp_path / 'disturbed.py')

    calm, disturbed = tmp_path / 'calm', tmp_path / 'disturbed'
    finish(start(tmp_path / 'undisturbed.py', calm), calm)
    (expected,) = records(calm)
    assert [entry['iter'] for entry in expected] == list(range(ITERS))
    assert len({entry['loss'] for entry in expected}) == ITERS
    assert len({str(entry['lr']) for entry in expected}) > ITERS_PER_EPOCH

    moment, delay = random.randint(ITERS_PER_EPOCH, ITERS), random.uniform(0, 0.3)
    run = start(tmp_path / 'disturbed.py', disturbed)
    wait_until(lambda: not run.is_alive() or len((records(disturbed) or [[]])[0]) >= moment, 'no iterations')
    time.sleep(delay)
    run.kill()
    finish(run, disturbed, status=-9)

    finish(start(tmp_path / 'undisturbed.py', disturbed, '--resume'), disturbed)
    first, second = records(disturbed)
    place = f'killed {delay} s after iteration {moment}'
    assert len(first) - second[0]['iter'] <= ITERS_PER_EPOCH, place
    assert first == expected[: len(first)], place
    assert second == expected[second[0]['iter'] :], place

    compat.apply()
    name = Path((calm / 'last_checkpoint').read_text()).name
    ends = [torch.load(folder / name, weights_only=True) for folder in (calm, disturbed)]
    for key, weight in ends[0]['state_dict'].items():
        assert torch.equal(weight, ends[1]['state_dict'][key]), f'{key}, {place}'

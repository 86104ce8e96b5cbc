"""Two runs in one work dir: the second is refused, until the first has ended, however it did."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_configs import ITERS, ITERS_PER_EPOCH
from fault_process import finish, records, start, wait_until

from mvbench_plugins.common.work_dir_lock import locked_work_dir


def test_second_run_is_refused(small_config: Callable, tmp_path: Path) -> None:
    cfg = small_config('cycleacr')
    cfg.dump(tmp_path / 'second.py')
    # its worker outlives the kill for some seconds, without the lock
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    cfg.custom_hooks[-1]['hang_at'] = ITERS_PER_EPOCH + 1
    cfg.dump(tmp_path / 'first.py')
    work_dir = tmp_path / 'run'
    first = start(tmp_path / 'first.py', work_dir)
    wait_until(lambda: not first.is_alive() or len((records(work_dir) or [[]])[0]) > ITERS_PER_EPOCH, 'no iterations')
    assert first.is_alive(), Path(f'{work_dir}.log').read_text()[-5000:]

    printed = finish(start(tmp_path / 'second.py', work_dir), work_dir, status=1)
    message = printed.splitlines()[-1]
    assert message.startswith('error: ') and f'another run trains in this work dir (process {first.pid} on ' in message
    assert f'--work-dir {work_dir}' in message and 'Stop it first, or choose another --work-dir' in message
    assert len(records(work_dir)) == 1 and sorted(path.name for path in work_dir.glob('*.pth')) == ['epoch_1.pth']

    first.kill()
    finish(first, work_dir, status=-9)
    finish(start(tmp_path / 'second.py', work_dir, '--resume'), work_dir)
    assert [entry['iter'] for entry in records(work_dir)[1]] == list(range(ITERS_PER_EPOCH, ITERS))


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on there, with a warning."""

    def no_locks(file, kind):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', no_locks)
    with pytest.warns(UserWarning, match=r'\.lock: no locks .* start no second run'), locked_work_dir(tmp_path):
        pass


def test_one_after_the_other(tmp_path: Path) -> None:
    """Also after an error, within one process."""
    with pytest.raises(RuntimeError, match='of the training'), locked_work_dir(tmp_path):
        raise RuntimeError('of the training')
    with locked_work_dir(tmp_path):
        pass

"""A full disk, or a kill, while a checkpoint is written: the ones before stay whole, and runs go on from them."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from fault_configs import CONFIGS, EPOCHS, ITERS, ITERS_PER_EPOCH, PLUGINS
from fault_process import finish, records, start
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from mvbench_plugins import compat
from mvbench_plugins.common.whole_files import written_whole


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes, as on a disk that is full then."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def train_with_accident(cfg: Config, folder: Path, accident: dict, status: int, best: Sequence[str] = ()) -> str:
    """A run that ends in its third epoch or before, and its resumption without accident.

    Returns:
        What the first one printed.
    """
    cfg.dump(folder / 'undisturbed.py')
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='AccidentHook', **accident)]
    cfg.dump(folder / 'disturbed.py')
    run = folder / 'run'
    printed = finish(start(folder / 'disturbed.py', run), run, status)
    compat.apply()
    last = Path((run / 'last_checkpoint').read_text())
    assert torch.load(last, weights_only=True)['meta']['epoch'] == 2
    assert [path.name for path in run.glob('best*')] == list(best)
    for name in best:
        torch.load(run / name, weights_only=True)
    finish(start(folder / 'undisturbed.py', run, '--resume'), run)
    first, second = records(run)
    assert second[0]['iter'] == 2 * ITERS_PER_EPOCH and second[-1]['iter'] == ITERS - 1
    assert Path((run / 'last_checkpoint').read_text()).name == f'epoch_{EPOCHS}.pth'
    assert len(list(run.glob('epoch_*.pth'))) == 2 and not list(run.glob('*.part'))
    return printed


def test_full_disk(small_config: Callable, tmp_path: Path) -> None:
    """In the third epoch, of which there is no checkpoint then; the message names the file and the way out."""
    cfg = small_config('deqdet')
    printed = train_with_accident(cfg, tmp_path, dict(kind='disk', at=2 * ITERS_PER_EPOCH + 1), status=1)
    assert 'File too large: the file could not be written' in printed and "run/epoch_3.pth'" in printed
    assert 'Earlier checkpoints are whole: go on from the last one with --resume' in printed


@pytest.mark.parametrize(('file', 'best'), [(2, 'best_score_epoch_1.pth'), (3, 'best_score_epoch_2.pth')])
def test_kill_in_the_saves_after_a_best_score(
    file: int, best: str, small_config: Callable, toy_coco: Path, tmp_path: Path
) -> None:
    """While a new best checkpoint is written the old one is still there; then the last one is written over."""
    cfg = small_config('deqdet')
    cfg.val_dataloader = Config.fromfile(CONFIGS / PLUGINS['deqdet'].config).val_dataloader
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.dataset.update(data_root=str(toy_coco), indices=1)
    cfg.val_evaluator = dict(type='RisingScore')
    cfg.val_cfg, cfg.train_cfg.val_interval = dict(type='ValLoop'), 1
    cfg.default_hooks.checkpoint.update(save_best='score', rule='greater')
    train_with_accident(cfg, tmp_path, dict(kind='save', at=2 * ITERS_PER_EPOCH, file=file), -9, best=[best])
    assert (tmp_path / 'run' / f'best_score_epoch_{EPOCHS}.pth').is_file()


def test_name_of_the_last_checkpoint_on_a_full_disk(tmp_path: Path) -> None:
    compat.apply()
    hook = CheckpointHook()
    hook.out_dir, hook.file_backend = str(tmp_path), LocalBackend()
    runner = SimpleNamespace(work_dir=str(tmp_path), message_hub=Mock(), save_checkpoint=Mock())
    hook._save_checkpoint_with_step(runner, 1, {})
    with files_up_to(8), pytest.raises(OSError, match='what stood there before is unchanged.*last_checkpoint'):
        hook._save_checkpoint_with_step(runner, 2, {})
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['last_checkpoint']


def test_whole_files_replace_and_errors_do_not(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    for text in ('one', 'two'):
        with written_whole(path) as part:
            Path(part).write_text(text)
        assert path.read_text() == text
    with pytest.raises(KeyboardInterrupt), written_whole(path) as part:
        Path(part).write_text('three')
        raise KeyboardInterrupt
    assert path.read_text() == 'two' and list(tmp_path.iterdir()) == [path]

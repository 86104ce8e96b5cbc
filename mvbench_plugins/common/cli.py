"""What the tools share: arguments, the config they end in, checks before work is lost, and how they end.

A mistake of the user ends a tool with one message and exit status 1 (:class:`SystemExit`), not with a traceback.
"""

import argparse
import ctypes
import difflib
import inspect
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed

from mvbench_plugins import compat

# top-level keys that mmengine reads besides the arguments of the Runner
_OTHER_KEYS = ('runner_type', 'custom_imports', 'compile')
_SECONDS_TO_DIE = 5


class OptionsAction(DictAction):
    """mmengine's DictAction, with a usage error for a word without ``=``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str
    ) -> None:
        """Reads ``key=value`` words into a dict."""
        for word in values:
            if '=' not in word:
                parser.error(f'{option}: found {word!r}, expected key=value without spaces around "="')
        super().__call__(parser, namespace, values, option)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing have in common, as in the stock tools."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='overrides settings of the config, e.g. optim_wrapper.optimizer.lr=1e-4 or key="[(a,b),(c,d)]" '
        '(with the quotation marks and without white space)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch')


def load_config(args: argparse.Namespace) -> Config:
    """Reads ``args.config`` and merges the common options into it.

    Also makes this process ready for a launcher: see :func:`end_with_launcher`.

    Raises:
        SystemExit: the file does not exist, or a top-level key is mistyped.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    end_with_launcher()
    compat.apply()
    if not Path(args.config).is_file():
        raise SystemExit(f'error: config {args.config} does not exist (current folder: {Path.cwd()})')
    cfg = Config.fromfile(args.config)
    check_top_level_keys(cfg, args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
        check_top_level_keys(cfg, '--cfg-options')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def check_top_level_keys(names: Sequence[str], source: str) -> None:
    """Refuses a top-level name that looks like a mistyped key of the Runner.

    mmengine ignores top-level names that it does not know, so that a mistyped one changes nothing and says nothing.
    Configs have names of their own for intermediate values: only close look-alikes are refused, and
    ``KEY_something`` is not.

    Args:
        names: top-level names, such as a Config.
        source: where they stand, for the message.

    Raises:
        SystemExit: naming the key and the key that it resembles.
    """
    known = [key for key in inspect.signature(Runner.__init__).parameters if key not in ('self', 'cfg')]
    known.extend(_OTHER_KEYS)
    for name in names:
        if name in known or any(name.startswith(f'{key}_') for key in known):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if close:
            raise SystemExit(
                f'error: {source}: the top-level key {name!r} means nothing to the runner. Did you mean {close[0]!r}? '
                '(If it is a name of your own, choose one that differs more.)'
            )


def check_checkpoint(path: str | None, source: str) -> None:
    """Refuses a checkpoint path that does not exist; a URL such as ``https://...`` is left to the loader.

    Raises:
        SystemExit: naming the path and where it was given.
    """
    if path is None or '://' in path or Path(path).expanduser().exists():
        return
    raise SystemExit(f'error: {source}: checkpoint {path} does not exist (current folder: {Path.cwd()})')


def last_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that the last run in ``work_dir`` saved last, or None if it saved none.

    The runner notes its path in ``last_checkpoint``, often relative to the folder it was started from. A file of that
    name in ``work_dir`` comes first, so that a moved work_dir and another current folder do no harm.

    Raises:
        SystemExit: the note names a file that does not exist.
    """
    note = Path(work_dir, 'last_checkpoint')
    if not note.is_file():
        return None
    noted = Path(note.read_text().strip())
    for path in (Path(work_dir, noted.name), noted):
        if noted.name and path.exists():
            return str(path)
    present = ', '.join(sorted(str(path) for path in Path(work_dir).glob('*.pth'))) or 'none'
    raise SystemExit(
        f'error: {note} names the checkpoint {str(noted)!r}, which does not exist. '
        f'Resume with --resume PATH instead; checkpoints in {work_dir}: {present}'
    )


def build_runner(cfg: Config) -> Runner:
    """Builds the runner that ``cfg`` asks for."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def leave_process_group() -> None:
    """Ends the processes of a distributed run together.

    The first rank to exit takes the store with it, on which the gloo threads of the others may still wait: they would
    abort, and a launcher with restarts would then repeat a finished run.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


@contextmanager
def located_errors(cfg: Config) -> Iterator[None]:
    """Tells where in the config an argument or a type stands that a constructor or a registry refused, or a lost file.

    mmengine's messages name class and argument, but not the place, which may be one of several base files.

    Raises:
        TypeError, KeyError: as mmengine, with the dotted paths in the config added.
        SystemExit: a file is missing.
    """
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None:  # an error of our own, with a remedy
            raise SystemExit(f'error: {error}') from None
        name = Path(os.fsdecode(error.filename)).name
        places = [path for path, _, value in _walk(cfg) if isinstance(value, str) and Path(value).name == name]
        where = f' ({", ".join(places)})' if places else ''
        raise SystemExit(
            f'error: {error} (current folder: {Path.cwd()}). Correct the path in {cfg.filename}{where}, or make or '
            'prepare the data as the README.md beside the configs says'
        ) from None
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        places = [path for path, key, _ in _walk(cfg) if refused and key == refused[1]]
        if not places:
            raise
        raise TypeError(f'{error}. In {cfg.filename} (with its bases and options): {", ".join(places)}') from error
    except KeyError as error:
        message = str(error.args[0]) if error.args else ''
        refused = re.match(r'(\S+) is not in the ', message)
        places = [path for path, key, value in _walk(cfg) if refused and key == 'type' and value == refused[1]]
        if not places:
            raise
        raise KeyError(f'{message} In {cfg.filename} (with its bases and options): {", ".join(places)}') from error


@contextmanager
def told_of_dead_workers() -> Iterator[None]:
    """Says of a broken connection to another process that a worker of the data loader has died.

    Mostly torch says so itself. Not if it reads from the worker just then, before the system has told of its end: this
    waits for torch's message for some seconds.

    Raises:
        RuntimeError: instead of the error of the connection, by torch or with advice.
    """
    try:
        yield
    except (OSError, EOFError) as error:
        if all(
            frame.f_globals['__name__'] != 'multiprocessing.connection' for frame, _ in walk_tb(error.__traceback__)
        ):
            raise
        time.sleep(_SECONDS_TO_DIE)
        raise RuntimeError(
            'A worker of the data loader has died, as when the memory was not enough (see the log of the system). Try '
            'fewer train_dataloader.num_workers, or 0 to see an error of a data set in full'
        ) from error


@contextmanager
def told_in_one_line(written: str) -> Iterator[None]:
    """What a tool for inference runs in: warnings and mistakes take one line each.

    Ctrl-C and SIGTERM both raise KeyboardInterrupt, so that the files are finished with what was found until then.

    Args:
        written: names the files, for the message of an interruption.

    Raises:
        SystemExit: with a message and status 1 for a mistake of the user, with 130 for an interruption.
    """
    usual, warnings.formatwarning = warnings.formatwarning, lambda message, *_: f'warning: {message}\n'
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f'error: {error}') from None
    except KeyboardInterrupt:
        print(f'\ninterrupted: what was found until now stands in {written}', file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
        warnings.formatwarning = usual


def end_with_launcher() -> None:
    """Lets a worker of torchrun die with torchrun.

    torchrun starts each worker in a session of its own. When torchrun is killed with SIGKILL (out of memory, end of
    a batch job), its workers would otherwise train on, and write into the same work_dir as the resumed run.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ and sys.platform == 'linux':
        pr_set_pdeathsig = 1  # <linux/prctl.h>
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _walk(node: Any, path: str = '') -> Iterator[tuple[str, str, Any]]:
    """Yields (dotted path, key, value) of every entry in nested dicts and lists."""
    entries = node.items() if hasattr(node, 'items') else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in entries:
        place = f'{path}.{key}' if path else str(key)
        yield place, str(key), value
        yield from _walk(value, place)

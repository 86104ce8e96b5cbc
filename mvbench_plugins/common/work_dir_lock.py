"""One training run at a time in a work dir: a second one would overwrite the checkpoints of the first."""

import fcntl
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = '.lock'


class WorkDirInUseError(RuntimeError):
    """Another process trains in the work dir."""


@contextmanager
def locked_work_dir(work_dir: str | os.PathLike) -> Iterator[None]:
    """Holds the lock file of ``work_dir`` as long as the block runs.

    The operating system frees it when the process ends, also by SIGKILL: a run that died never stands in the way of
    its resumption. Workers of data loaders, which may live a few seconds longer, do not inherit it.

    Args:
        work_dir: an existing folder.

    Raises:
        WorkDirInUseError: a live process holds the lock; the message names it.
    """
    path = Path(work_dir, NAME)
    with path.open('a+', encoding='utf-8') as file:
        try:
            # Not flock: its locks pass to forked processes. These reach other nodes over NFS, too.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise WorkDirInUseError(
                f'{path}: another run trains in this work dir ({file.read().strip() or "without a name"}), and two '
                'would overwrite the checkpoints of each other. Stop it first, or choose another --work-dir. If there '
                'is no such run any more, as after the crash of another node, delete this file'
            ) from None
        except OSError as error:
            warnings.warn(
                f'{path}: no locks in this file system ({error.strerror}); start no second run in this folder'
            )
        else:
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}: {shlex.join(sys.argv)}\n')
            file.flush()
        yield

"""A real page in a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 240


def find_chromium() -> str | None:
    """Path of a Chromium: that of the environment variable CHROMIUM, or an installed one."""
    names = (os.environ.get('CHROMIUM'), 'chromium', 'chromium-browser', 'google-chrome')
    return next((found for name in names if name and (found := shutil.which(name))), None)


@dataclass
class Served:
    """A page that runs.

    Attributes:
        url: where.
        port: TCP port.
        process: ``tools/demo_app.py``.
        temporary: where it makes its temporary folder.
    """

    url: str
    port: int
    process: subprocess.Popen
    temporary: Path

    def files(self) -> list[Path]:
        """All files that it keeps for visitors; names without content, which Gradio leaves, do not count."""
        # Not ``rglob``, which fails where the page deletes a folder meanwhile.
        found = (Path(folder) / name for folder, _, names in os.walk(self.temporary) for name in names)
        return [path for path in found if _size(path)]

    def end(self) -> int:
        """Ends it as a service manager does, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def serve(work_dirs: Path, temporary: Path, *options: str) -> Iterator[Served]:
    """Starts ``tools/demo_app.py`` in a process of its own, and ends it."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'demo_app.py'), '--port', str(port)]
    temporary.mkdir()
    process = subprocess.Popen(
        [*command, '--work-dirs', str(work_dirs), '--device', 'cpu', *options],
        env=os.environ | dict(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = Timer(_START_SECONDS, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        assert str(port) in line, f'the page did not start: {line!r}'
        yield Served(line.split()[0], port, process, temporary)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()

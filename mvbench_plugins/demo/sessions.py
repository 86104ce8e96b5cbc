"""Where uploads and results lie while a visitor has the page open, and that nothing of them is left afterwards."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock


class Stopped(Exception):  # noqa: N818 (an order, not an error)
    """The visitor has pressed Stop, or has left."""


@dataclass
class _Session:
    folder: Path
    uploads: set[Path] = field(default_factory=set)
    stop: Event = field(default_factory=Event)
    runs: int = 0
    left: bool = False


class Sessions:
    """One folder per visitor, below one folder for all, which is deleted on exit; a context manager.

    Files are deleted when their visitor leaves, or, if a run is under way then, as soon as it has stopped. When the
    last one has left, nothing stays: Gradio keeps files there, too, of which it does not tell whose they are.

    Attributes:
        root: the folder for all, readable by this user only.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix='mvbench_demo_')).resolve()
        self._sessions: dict[str, _Session] = {}
        self._lock = Lock()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._sessions):
            self.leave(name)
        shutil.rmtree(self.root, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """The folder of a session, which begins with that."""
        with self._lock:
            return self._get(name).folder

    def add_upload(self, name: str, path: str | Path) -> Path:
        """Notes that a file was uploaded in a session, and returns its path.

        Raises:
            ValueError: it is gone, or lies elsewhere than uploads do.
        """
        found = Path(path).resolve()
        if not found.is_file() or not found.is_relative_to(self.root):
            raise ValueError(f'{found.name} is not there any more: upload it again')
        with self._lock:
            self._get(name).uploads.add(found)
        return found

    def begin(self, name: str) -> None:
        """Takes back an earlier order to stop: a run is asked for, which may have to wait for those of others."""
        with self._lock:
            self._get(name).stop.clear()

    @contextmanager
    def run(self, name: str) -> Iterator[tuple[Path, Event]]:
        """A new folder for one run, and the event that tells to stop it; folders of earlier runs are deleted.

        Raises:
            Stopped: the session was told to stop while the run waited.
        """
        with self._lock:
            session = self._get(name)
            if session.stop.is_set():
                raise Stopped('stopped')
            if not session.runs:
                for old in session.folder.glob('run_*'):
                    shutil.rmtree(old, ignore_errors=True)
            session.runs += 1
        try:
            yield Path(tempfile.mkdtemp(prefix='run_', dir=session.folder)), session.stop
        finally:
            with self._lock:
                session.runs -= 1
                self._clean(name)

    def stop(self, name: str) -> None:
        """Tells the run of a session to stop, under way or waiting."""
        with self._lock:
            if name in self._sessions:
                self._sessions[name].stop.set()

    def leave(self, name: str) -> None:
        """Ends a session: stops its run, and deletes its files."""
        with self._lock:
            if name in self._sessions:
                self._sessions[name].left = True
                self._sessions[name].stop.set()
                self._clean(name)

    def _get(self, name: str) -> _Session:
        if name not in self._sessions:
            # The page serves files by their path: nobody else may guess it.
            folder = self.root / f'session_{secrets.token_hex(16)}'
            folder.mkdir(mode=0o700)
            self._sessions[name] = _Session(folder)
        return self._sessions[name]

    def _clean(self, name: str) -> None:
        """Deletes what a session leaves behind, if it has ended."""
        session = self._sessions[name]
        if not session.left or session.runs:
            return
        del self._sessions[name]
        shutil.rmtree(session.folder, ignore_errors=True)
        # Gradio keeps equal files of several visitors once.
        for upload in session.uploads.difference(*(other.uploads for other in self._sessions.values())):
            upload.unlink(missing_ok=True)
        for rest in () if self._sessions else list(self.root.iterdir()):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            else:
                rest.unlink(missing_ok=True)

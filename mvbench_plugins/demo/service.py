"""From what a visitor has chosen, uploaded and drawn to a result: everything behind the page, without the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mvbench_plugins import compat
from mvbench_plugins.apis.model_loading import check_device, load_strictly
from mvbench_plugins.apis.video_reader import open_video
from mvbench_plugins.common.checkpoint import load_local_checkpoint
from mvbench_plugins.demo.archives import unpack_cameras
from mvbench_plugins.demo.catalogue import Catalogue
from mvbench_plugins.demo.pictures import index_map_of, write_first_frame
from mvbench_plugins.demo.runs import Job, Progress, Report, Result
from mvbench_plugins.demo.sessions import Sessions
from mvbench_plugins.demo.tasks import TASKS, Task
from mvbench_plugins.demo.uploads import check_checkpoint, check_frames, check_video

_UNPACKED = 4  # an archive may unpack to so many times the limit of an upload: pictures hardly shrink
_MAX_SECONDS = 600.0


@dataclass(frozen=True)
class Choice:
    """What a visitor wants.

    Attributes:
        task: title of the task.
        config: name in the catalogue.
        checkpoint: name in the catalogue, unless ``weights`` are uploaded.
        weights: uploaded checkpoint.
        upload: uploaded picture, video, sweep or archive.
        layers: what was painted on the first frame, RGBA ``[h, w, 4]`` each.
        score_thr: least score of what is shown.
        seconds: how much of a video is looked at.
    """

    task: str
    config: str | None
    checkpoint: str | None
    weights: str | None
    upload: str | None
    layers: Sequence[np.ndarray] = ()
    score_thr: float = 0.3
    seconds: float = 10.0


class DemoService:
    """Runs what visitors ask for, one after the other; the model that was used last stays loaded.

    Args:
        sessions: where files lie.
        catalogue: what may be chosen.
        device: such as ``'cuda:0'``; default: an accelerator if there is one.
        max_bytes: most bytes of an upload.

    Raises:
        ValueError: the device is not there.
    """

    def __init__(self, sessions: Sessions, catalogue: Catalogue, device: str | None, max_bytes: int) -> None:
        compat.apply()
        check_device(device)
        self.sessions, self.catalogue, self.device, self.max_bytes = sessions, catalogue, device, max_bytes
        self._lock = Lock()
        self._loaded: tuple[tuple, Any] | None = None

    def first_frame(self, session: str, upload: str) -> Path:
        """The first frame of an uploaded video, as a picture in the session.

        Raises:
            ValueError: it is no video, or too large.
        """
        path = self.sessions.add_upload(session, upload)
        self._check_size(path)
        check_video(path)
        picture = self.sessions.folder(session) / f'first_frame_{path.parent.name}.png'
        write_first_frame(path, picture)
        return picture

    def example(self, session: str, title: str) -> Path:
        """A file to try a task with, in the session.

        Raises:
            ValueError: there is none for this task.
        """
        task = TASKS.get(title)
        if task is None or task.example is None:
            raise ValueError(f'task: found {title!r}, which has no example')
        path = self.sessions.folder(session) / f'example{task.suffixes[0]}'
        task.example(path)
        return path

    def run(self, session: str, choice: Choice, report: Report) -> Result:
        """Checks everything, loads the model, and runs it.

        Args:
            session: name of the session.
            choice: what to do.
            report: called with the number of forward passes that are done, and of all.

        Raises:
            ValueError, TypeError, ImportError: something is wrong with the choice; the message says what.
            Stopped: the visitor has stopped it.
        """
        task = TASKS.get(choice.task)
        if task is None:
            raise ValueError(f'task: found {choice.task!r}, expected one of {", ".join(TASKS)}')
        if not (0 <= choice.score_thr <= 1 and 0 < choice.seconds <= _MAX_SECONDS):
            raise ValueError(
                f'found least score {choice.score_thr} and {choice.seconds} seconds of video, expected 0 to 1 and up '
                f'to {_MAX_SECONDS:g}'
            )
        config = self._config(task, choice)
        if choice.upload is None:
            raise ValueError(f'nothing is uploaded to look at. Expected: {task.hint}')
        upload = self.sessions.add_upload(session, choice.upload)
        self._check_size(upload)
        task.check(upload)
        checkpoint = self._checkpoint(task, choice, session)
        with self._lock, self.sessions.run(session) as (folder, stop):
            source = folder / f'input{upload.suffix.lower()}'
            os.link(upload, source)  # under a name that says nothing to any decoder
            try:
                index_map = None
                if task.suffixes == ('.zip',):
                    source = unpack_cameras(upload, _made(folder / 'cameras'), _UNPACKED * self.max_bytes)
                elif task.video:
                    with open_video(source) as video:
                        check_frames(upload, video.size)
                        if task.drawing:
                            index_map = index_map_of(choice.layers, video.size)
                progress = Progress(report, stop)
                job = Job(source, _made(folder / 'out'), choice.score_thr, choice.seconds, progress, index_map)
                return task.run(self._inferencer(task, config, checkpoint), job)
            except (ValueError, OSError) as error:
                # The visitor knows the names of the files, not where they lie here.
                text = str(error).replace(str(folder / f'input{upload.suffix.lower()}'), upload.name)
                raise ValueError(text.replace(f'{folder / "cameras"}/', '')) from error

    def _check_size(self, path: Path) -> None:
        if path.stat().st_size > self.max_bytes:
            raise ValueError(f'{path.name}: found {path.stat().st_size} bytes, expected {self.max_bytes} at most')

    def _config(self, task: Task, choice: Choice) -> Path:
        configs = self.catalogue.configs(task)
        if choice.config not in configs:
            raise ValueError(
                f'config: found {choice.config!r}, expected one of the list for {task.title}: configs are programs, '
                'and only those on this machine are run'
            )
        return configs[choice.config]

    def _checkpoint(self, task: Task, choice: Choice, session: str) -> Path:
        if choice.weights is not None:
            weights = self.sessions.add_upload(session, choice.weights)
            self._check_size(weights)
            check_checkpoint(weights)
            return weights
        checkpoints = self.catalogue.checkpoints(task)
        if choice.checkpoint not in checkpoints:
            raise ValueError(
                f'checkpoint: found {choice.checkpoint!r}, expected one of the list, or an uploaded one. Checkpoints '
                f'in {self.catalogue.work_dirs} for {task.title}: {len(checkpoints)}'
            )
        return checkpoints[choice.checkpoint].path

    def _inferencer(self, task: Task, config: Path, checkpoint: Path) -> Any:
        key = (task.title, *((path, path.stat().st_mtime_ns) for path in (config, checkpoint)))
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees its memory before the next one takes as much
            inferencer = task.load(str(config), str(checkpoint), self.device)
            # The stock inferencers load what fits; a model with random parts would give silent nonsense.
            load_strictly(inferencer.model, load_local_checkpoint(str(checkpoint), 'cpu'), config.name)
            self._loaded = (key, inferencer)
        return self._loaded[1]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder

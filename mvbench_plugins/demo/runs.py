"""How each task is run: which inferencer, what it writes, and what the page shows of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from torch import nn

from mvbench_plugins.apis.video_reader import open_video
from mvbench_plugins.demo.archives import CALIBRATION
from mvbench_plugins.demo.pictures import write_playable
from mvbench_plugins.demo.sessions import Stopped

Report = Callable[[int, int | None], None]


class Progress:
    """Counts the forward passes of a model, and ends the run at one when it is told to.

    Args:
        report: called with the number of passes and how many are expected (None: not known).
        stop: set to end the run.
    """

    def __init__(self, report: Report, stop: Event) -> None:
        self.total: int | None = None
        self._report, self._stop, self._passes = report, stop, 0

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Counts while the context lasts."""
        handle = model.register_forward_hook(self._count)
        try:
            self._tell()
            yield
        finally:
            handle.remove()

    def _count(self, *_: Any) -> None:
        self._passes += 1
        self._tell()

    def _tell(self) -> None:
        if self._stop.is_set():
            raise Stopped('stopped')
        self._report(self._passes, self.total)


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        source: uploaded file, or folder with the content of an uploaded archive; all have been checked.
        out: folder to write into.
        score_thr: what scores less is neither drawn nor counted.
        seconds: how much of a video is looked at.
        index_map: the objects to follow, uint8 ``[h, w]``; for video object segmentation.
        progress: to be told how many forward passes there will be.
    """

    source: Path
    out: Path
    score_thr: float
    seconds: float
    progress: Progress
    index_map: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """What the page shows and offers to download.

    Attributes:
        summary: a line of text.
        files: to be downloaded.
        pictures: to be shown.
        video: to be shown, in a format that browsers play.
    """

    summary: str
    files: list[Path]
    pictures: list[Path] = field(default_factory=list)
    video: Path | None = None


def detect_objects(inferencer: Any, job: Job) -> Result:
    """Boxes in a picture, by mmdet's ``DetInferencer``."""
    job.progress.total = 1
    with job.progress.watch(inferencer.model):
        found = inferencer(str(job.source), out_dir=str(job.out), pred_score_thr=job.score_thr, no_save_pred=False)
    files = _collect(job, 'vis', 'preds', name='objects')
    return Result(_count(found['predictions'][0]['scores'], job, 'object'), files, files[:1])


def detect_actions(inferencer: Any, job: Job) -> Result:
    """People and their actions in a video, a key frame each second."""
    with open_video(job.source) as video:
        frames = min(job.seconds * video.fps, video.num_frames or math.inf)
        job.progress.total = max(1, math.ceil(frames / video.fps))
    drawn, told = job.out / 'actions.mp4', job.out / 'actions.json'
    with job.progress.watch(inferencer.model):
        found = inferencer(
            str(job.source),
            max_seconds=job.seconds,
            pred_score_thr=job.score_thr,
            action_thr=job.score_thr,
            out=drawn,
            json_out=told,
        )['predictions']
    people = sum(len(key_frame['detections']) for key_frame in found)
    who, when = _number(people, 'person', 'people'), _number(len(found), 'key frame')
    summary = f'{who} at {when}, of score {job.score_thr:g} or more.'
    return Result(summary, [drawn, told], video=write_playable(drawn))


def detect_around(inferencer: Any, job: Job) -> Result:
    """Boxes around a vehicle with six cameras: a picture of a frame, a video of a drive."""
    frames = len(list(job.source.glob(f'*/{CALIBRATION}')))
    single = (job.source / CALIBRATION).is_file()
    job.progress.total = 1 if single else frames
    drawn, told = job.out / ('scene.jpg' if single else 'scene.mp4'), job.out / 'boxes.json'
    with job.progress.watch(inferencer.model):
        found = inferencer(job.source, pred_score_thr=job.score_thr, out=drawn, json_out=told)['predictions']
    summary = _count([score for frame in found for score in frame['scores_3d']], job, 'box', len(found))
    if single:
        return Result(summary, [drawn, told], [drawn])
    return Result(summary, [drawn, told], video=write_playable(drawn))


def detect_in_points(inferencer: Any, job: Job) -> Result:
    """Boxes in a LiDAR sweep, by mmdet3d's ``LidarDet3DInferencer``."""
    found, files = _run_lidar(inferencer, job, 'boxes')
    return Result(_count(found['scores_3d'], job, 'box'), files, files[:1])


def segment_points(inferencer: Any, job: Job) -> Result:
    """A class for each point of a LiDAR sweep, by mmdet3d's ``LidarSeg3DInferencer``."""
    found, files = _run_lidar(inferencer, job, 'points')
    labels = np.asarray(found['pts_semantic_mask'])
    summary = f'{_number(labels.size, "point")} of {_number(len(np.unique(labels)), "class")}.'
    return Result(summary, files, files[:1])


def follow_objects(inferencer: Any, job: Job) -> Result:
    """Masks of given objects in all frames of a video."""
    with open_video(job.source) as video:
        wanted = max(1, math.ceil(job.seconds * video.fps))
        job.progress.total = min(wanted, video.num_frames or wanted)
        with job.progress.watch(inferencer.model):
            found = inferencer(
                islice(video, wanted),
                job.index_map,
                fps=video.fps,
                out_dir=job.out,
                save=('overlay', 'masks', 'json'),
            )['predictions']
    masks = Path(shutil.make_archive(str(job.out / 'masks'), 'zip', job.out / 'masks'))
    overlay = job.out / 'overlay.mp4'
    objects = {thing['id'] for frame in found for thing in frame['objects']}
    summary = f'{_number(len(objects), "object")} in {_number(len(found), "frame")}.'
    return Result(summary, [overlay, masks, job.out / 'objects.json'], video=write_playable(overlay))


def _run_lidar(inferencer: Any, job: Job, name: str) -> tuple[dict, list[Path]]:
    job.progress.total = 1
    options = dict(out_dir=str(job.out), no_save_pred=False)
    with job.progress.watch(inferencer.model):
        found = inferencer(dict(points=str(job.source)), pred_score_thr=job.score_thr, **options)['predictions'][0]
    return found, _collect(job, 'vis_lidar', 'preds', name=name)


def _collect(job: Job, *folders: str, name: str) -> list[Path]:
    """The one file that a stock inferencer has written into each folder, under a name that says what it holds."""
    files = []
    for folder in folders:
        (path,) = (job.out / folder).iterdir()
        files.append(path.rename(job.out / f'{name}{path.suffix}'))
    return files


def _count(scores: list[float], job: Job, what: str, frames: int = 1) -> str:
    shown = sum(score >= job.score_thr for score in scores)
    where = f' in {frames} frames' if frames > 1 else ''
    return f'{_number(shown, what)} of score {job.score_thr:g} or more{where}.'


def _number(number: int, one: str, several: str | None = None) -> str:
    if number == 1:
        return f'1 {one}'
    return f'{number} {several or one + ("es" if one[-1] in "sx" else "s")}'

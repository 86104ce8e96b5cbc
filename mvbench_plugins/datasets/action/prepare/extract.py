"""Frames out of video files, so that a folder of what is made of them is there completely or not at all."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from ..ava_sources import probe_video, video_files

_JPEG_QUALITY = 95


class VideoJob(Protocol):
    """What is made of one video: from its file into a folder of its own."""

    @property
    def video(self) -> Path:
        """The video file."""

    @property
    def folder(self) -> Path:
        """What is made of it."""


_Job = TypeVar('_Job', bound=VideoJob)


@dataclass(frozen=True)
class Extraction:
    """Frames to take out of one video.

    Attributes:
        video: the video file.
        folder: new or empty folder of the frames.
        template: format string of the file names; the first file is number 1.
        fps: frames per second to take, each the one of the video that is nearest in time; None: the video's own frames.
        start: second to begin at.
        max_frames: where to end; None: at the end of the video.
        short_side: length in pixels that a longer short side is reduced to; None: as it is.
    """

    video: Path
    folder: Path
    template: str
    fps: float | None = None
    start: float = 0.0
    max_frames: int | None = None
    short_side: int | None = None


def has_files(folder: Path) -> bool:
    """Whether a folder is there and not empty: frames came into it completely, or from elsewhere."""
    return folder.is_dir() and any(folder.iterdir())


def extract_frames(job: Extraction, stop: threading.Event | None = None) -> int:
    """Extract the frames of one video into ``FOLDER.part``, which is renamed when it is complete.

    Args:
        job: what to extract.
        stop: set by another thread to give up.

    Returns:
        Number of frames written.

    Raises:
        ValueError: the video cannot be read, or ends before the length that its header states.
        OSError: files cannot be written.
        InterruptedError: ``stop`` was set.
    """
    written, shown, picture = 0, None, b''
    frames = sampled_frames(job.video, job.fps, job.start, job.max_frames, stop)
    with draft_of(job.folder) as draft:
        for frame in frames:
            if frame is not shown:
                shown, picture = frame, _encoded(frame, job)
            written += 1
            (draft / job.template.format(written)).write_bytes(picture)
    return written


def extract_all(jobs: Sequence[_Job], workers: int, work: Callable[[_Job, threading.Event], int]) -> dict[Path, str]:
    """Extract frames of several videos, with a progress bar.

    Args:
        jobs: what to extract; the attribute ``video`` of each is its video file.
        workers: number of videos at a time.
        work: does one job, and gives up when the event is set.

    Returns:
        Why a video failed, by its path; the others are done all the same.

    Raises:
        OSError: files cannot be written.
    """
    failed: dict[Path, str] = {}
    stop = threading.Event()
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(jobs), desc='extracting frames', unit='video') as bar:
        futures = {pool.submit(work, job, stop): job for job in jobs}
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except ValueError as error:
                    failed[futures[future].video] = str(error)
                bar.update()
        except BaseException:  # the user's interrupt, too: the other videos end at their next frame
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def extract_missing(
    names: Sequence[str],
    videos: str | Path | None,
    workers: int,
    job_of: Callable[[str, Path], _Job],
    work: Callable[[_Job, threading.Event], int],
) -> dict[str, str]:
    """Extract from those videos that have a file, and whose folder is not there yet.

    Args:
        names: of the videos.
        videos: folder of the video files; None: nothing is to be extracted.
        workers: number of videos at a time.
        job_of: the job of a video, from its name and file; its attribute ``folder`` is what comes of it.
        work: does one job, and gives up when the event is set.

    Returns:
        Why a video failed, by its name; the others are done all the same.

    Raises:
        FileNotFoundError: the folder of videos is absent.
        OSError: files cannot be written.
    """
    if videos is None:
        return {}
    if not Path(videos).is_dir():
        raise FileNotFoundError(f'--videos {videos} is no folder')
    jobs = [job_of(video, path) for video, path in video_files(names, videos).items()]
    jobs = [job for job in jobs if not has_files(job.folder)]
    return {path.stem: reason for path, reason in extract_all(jobs, workers, work).items()} if jobs else {}


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """An empty folder ``FOLDER.part`` to fill, which is renamed at the end, and removed after an error."""
    draft = folder.with_name(f'{folder.name}.part')
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def sampled_frames(
    video: Path,
    fps: float | None = None,
    start: float = 0.0,
    max_frames: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[np.ndarray]:
    """Read a video at a rate of its own, each frame the one of the video that is nearest in time.

    Args:
        video: the video file.
        fps: frames per second to yield; None: the video's own frames.
        start: second to begin at.
        max_frames: how many frames to yield; None: all.
        stop: set by another thread to give up.

    Yields:
        uint8 ``[h, w, 3]`` in BGR order; the same object again where a frame stands for several.

    Raises:
        ValueError: the video cannot be read, or ends before ``start`` or before the length that its header states.
        InterruptedError: ``stop`` was set.
    """
    count, video_fps = probe_video(video)
    rate = video_fps / fps if fps else 1.0
    first = start * video_fps
    capture = cv2.VideoCapture(str(video))
    given, position, image = 0, -1, None
    try:
        while max_frames is None or given < max_frames:
            if stop is not None and stop.is_set():
                raise InterruptedError(f'extraction of {video} was interrupted')
            # the same rounding as SampleKeyFrameClip's, so that frames and video files give equal clips
            wanted = math.floor(first + given * rate + 0.5)
            if position < wanted:
                # Reading all frames in order is exact; seeking is not, with the codecs of the web.
                while position < wanted and capture.grab():
                    position += 1
                # The last frame is shown until the end of the video.
                if position < wanted and (image is None or first + given * rate >= position + 1):
                    break
                if position == wanted:
                    readable, image = capture.retrieve()
                    if not readable:
                        raise ValueError(f'video {video} holds a frame that cannot be decoded, get it again')
            yield image
            given += 1
        else:
            return
    finally:
        capture.release()
    # Headers may be wrong by some frames, not by more than a second.
    if position + 1 < count - video_fps:
        raise ValueError(
            f'video {video} ends after {position + 1} of {count} frames: it is damaged or truncated, get it again'
        )
    if not given:
        raise ValueError(f'video {video} ends before second {start:g}; is it cut already?')


def _encoded(image: np.ndarray, job: Extraction) -> bytes:
    short = min(image.shape[:2])
    if job.short_side and short > job.short_side:
        size = [round(side * job.short_side / short) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    suffix = Path(job.template).suffix
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == '.jpg' else []
    return cv2.imencode(suffix, image, options)[1].tobytes()

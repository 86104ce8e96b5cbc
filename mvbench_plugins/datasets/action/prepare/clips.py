"""Preparation of AVA in files of one second each, as AlphAction reads them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from ..ava_sources import probe_video
from ..second_clips import SUFFIX, seconds_in
from .ava import AVASplit, read_annotations, video_names
from .extract import draft_of, extract_missing, sampled_frames
from .report import Report, part_of

_FPS = 25
_SECONDS = range(895, 1806)
_CUT_AT = 900  # second of the film that videos begin at which are cut to the minutes 15 to 30
_AROUND = (-2, -1, 0, 1)  # seconds whose files a clip of 64 frames takes
_FOLDER = Path('clips', 'trainval')


@dataclass(frozen=True)
class Cutting:
    """One video to be cut.

    Attributes:
        video: the video file.
        folder: new or empty folder of the one-second files.
        begin: second of the film that the file begins at.
        short_side: length in pixels that a longer short side is reduced to.
    """

    video: Path
    folder: Path
    begin: int
    short_side: int


def prepare_ava_clips(
    root: str | Path,
    videos: str | Path | None = None,
    *,
    full_length: bool = False,
    version: str = '2.2',
    annotations: str | Path | None = None,
    short_side: int = 360,
    workers: int = 1,
) -> Report:
    """Cut the videos that have no clips yet into ``ROOT/clips/trainval/VIDEO/SECOND.mp4``, and count.

    Args:
        root: folder of the data set, with ``annotations``.
        videos: folder of the video files; None: only check.
        full_length: the files are whole films, instead of cuts that begin at second 900.
        version: of the annotations, 2.1 or 2.2.
        annotations: folder of the annotation files; None: ``annotations`` in ``root``.
        short_side: reduce the pictures to this length in pixels of their short side.
        workers: number of videos at a time.

    Returns:
        Counts of each split, and what is missing.

    Raises:
        FileNotFoundError: an annotation file or the folder of videos is absent.
        ValueError: an annotation file is wrong.
        OSError: files cannot be written.
    """
    root = Path(root)
    splits = read_annotations(Path(annotations) if annotations else root / 'annotations', version)
    begin = 0 if full_length else _CUT_AT
    failed = extract_missing(
        video_names(splits),
        videos,
        workers,
        lambda video, path: Cutting(path, root / _FOLDER / video, begin, short_side),
        cut_video,
    )
    report = Report(root / 'missing_ava_clips.txt')
    for name, split in splits.items():
        _count(report, name, split, root / _FOLDER, failed)
    return report


def cut_video(job: Cutting, stop: threading.Event | None = None) -> int:
    """Cut one video into files of 25 frames; its folder is there at the end only, completely.

    Args:
        job: what to cut.
        stop: set by another thread to give up.

    Returns:
        Number of files written.

    Raises:
        ValueError: the video cannot be read, or ends before the length that its header states.
        OSError: files cannot be written.
        InterruptedError: ``stop`` was set.
    """
    first = max(_SECONDS.start, job.begin)
    seconds = range(first, _SECONDS.stop)
    frames = sampled_frames(job.video, _FPS, first - job.begin, _FPS * len(seconds), stop)
    written = 0
    with draft_of(job.folder) as draft:
        for second in seconds:
            of_second = list(islice(frames, _FPS))
            if not of_second:
                break
            _write_clip(draft / f'{second}{SUFFIX}', of_second, job.short_side)
            written += 1
    return written


def _write_clip(path: Path, frames: list[np.ndarray], short_side: int) -> None:
    height, width = frames[0].shape[:2]
    size = _even_size(width, height, short_side)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), _FPS, size)
    if not writer.isOpened():
        raise OSError(f'{path}: OpenCV can write no MPEG-4 video; install the opencv-python wheel, which can')
    for frame in frames:
        writer.write(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    writer.release()
    # OpenCV is silent about a full disk. The index comes last in a file: without it, it cannot be opened.
    try:
        probe_video(path)
    except ValueError as error:
        raise OSError(f'{path} could not be written, is the disk full? ({error})') from None


def _even_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height to write; MPEG-4 halves them for its colours."""
    ratio = min(1.0, short_side / min(width, height))
    return max(2, 2 * round(width * ratio / 2)), max(2, 2 * round(height * ratio / 2))


def _count(report: Report, name: str, split: AVASplit, folder: Path, failed: dict[str, str]) -> None:
    total = found = videos = 0
    for video, keys in split.seconds.items():
        total += len(keys)
        there = seconds_in(folder / video)
        if not there:
            reason = failed.get(video, f'no clips in {folder / video}, and no video file to cut them from')
            report.missing.append(f'{name}: video {video}: {reason}')
            continue
        videos += 1
        needed = {key + shift for key in keys for shift in _AROUND}
        lacking = {one for one in needed if one not in there or not _path(folder, video, one).stat().st_size}
        found += sum(not lacking.intersection(key + shift for shift in _AROUND) for key in keys)
        report.missing += [f'{name}: {_path(folder, video, one)}: inside of clips' for one in sorted(lacking)]
    report.rows.append(
        {
            'split': name,
            'videos': part_of(videos, len(split.seconds)),
            'clips (key frames)': part_of(found, total),
            'boxes': split.num_persons,
            'action labels': split.num_labels,
        }
    )


def _path(folder: Path, video: str, second: int) -> Path:
    return folder / video / f'{second}{SUFFIX}'

"""Preparation of JHMDB and UCF101-24: frames on disk as the annotations count them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ava_sources import VIDEO_SUFFIXES
from ..tube_datasets import JHMDBDataset, UCF101_24Dataset, frame_folder_problem
from ..tubes import TubeAnnotations, read_tube_annotations
from .extract import Extraction, extract_all, extract_frames, has_files
from .report import Report, part_of


@dataclass(frozen=True)
class TubeLayout:
    """Names below the folder of a data set.

    Attributes:
        ann_file: the pickle of the ground truth.
        frames: folder of the frames.
        template: format string of a frame file.
    """

    ann_file: str
    frames: str
    template: str


TUBE_LAYOUTS = {
    'jhmdb': TubeLayout('JHMDB-GT.pkl', 'Frames', JHMDBDataset.FILENAME_TMPL),
    'ucf101_24': TubeLayout('UCF101v2-GT.pkl', 'rgb-images', UCF101_24Dataset.FILENAME_TMPL),
}


def prepare_tubes(name: str, root: str | Path, videos: str | Path | None = None, *, workers: int = 1) -> Report:
    """Extract the frames that are missing, and count.

    Args:
        name: of the data set, a key of ``TUBE_LAYOUTS``.
        root: folder of the data set.
        videos: folder of the video files, ``<class>/<video>.avi`` or ``<video>.avi``; None: only check.
        workers: number of videos at a time.

    Returns:
        Counts of each split, and what is missing.

    Raises:
        FileNotFoundError: the annotation file or the folder of videos is absent.
        ValueError: the annotation file is wrong.
        OSError: files cannot be written.
    """
    root, layout = Path(root), TUBE_LAYOUTS[name]
    annotations = read_tube_annotations(root / layout.ann_file)
    frames = root / layout.frames
    failed: dict[str, str] = {}
    if videos is not None:
        jobs = _extractions(annotations, frames, layout.template, Path(videos))
        reasons = extract_all(list(jobs.values()), workers, extract_frames) if jobs else {}
        failed = {video: reasons[job.video] for video, job in jobs.items() if job.video in reasons}
    problems = {}
    for video, count in annotations.num_frames.items():
        problem = failed.get(video) or frame_folder_problem(frames / video, layout.template, count)
        if problem:
            problems[video] = problem
    report = Report(root / f'missing_{name}.txt')
    report.missing = [f'{frames / video}: {problem}' for video, problem in problems.items()]
    splits = zip(annotations.train_videos, annotations.test_videos)
    for number, (train, test) in enumerate(splits, start=1):
        report.rows.append(_row(annotations, f'train {number}', train, problems, annotated_only=True))
        report.rows.append(_row(annotations, f'test {number}', test, problems, annotated_only=False))
    return report


def _extractions(annotations: TubeAnnotations, frames: Path, template: str, videos: Path) -> dict[str, Extraction]:
    if not videos.is_dir():
        raise FileNotFoundError(f'--videos {videos} is no folder')
    jobs = {}
    for video in annotations.num_frames:
        stems = (videos / video, videos / Path(video).name)
        files = [path for stem in stems for suffix in VIDEO_SUFFIXES if (path := Path(f'{stem}{suffix}')).is_file()]
        if files and not has_files(frames / video):
            jobs[video] = Extraction(files[0], frames / video, template)
    return jobs


def _row(
    annotations: TubeAnnotations, title: str, videos: list[str], problems: dict[str, str], annotated_only: bool
) -> dict[str, object]:
    boxes = clips = found = 0
    for video in videos:
        tubes = [tube for of_class in annotations.tubes[video].values() for tube in of_class]
        boxes += sum(map(len, tubes))
        annotated = len(np.unique(np.concatenate([tube[:, 0] for tube in tubes]))) if tubes else 0
        number = annotated if annotated_only else annotations.num_frames[video]
        clips += number
        found += 0 if video in problems else number
    return {
        'split': title,
        'videos': part_of(sum(video not in problems for video in videos), len(videos)),
        'clips (key frames)': part_of(found, clips),
        'boxes': boxes,
    }

"""Preparation of AVA: 30 frames per second on disk, frame lists, and counts of what is there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ava_files import ListedFrames, read_ava_csv, read_exclusions, read_frame_list, read_label_map
from .extract import Extraction, extract_frames, extract_missing
from .report import Report, part_of

_FPS = 30
_FIRST_SECOND = 900  # of the frames; annotated are 902 to 1798
_SECONDS = 901
_ANNOTATED = (902, 1798)
_SPLITS = ('train', 'val')


@dataclass(frozen=True)
class AVASplit:
    """What the csv of a split has in the annotated seconds.

    Attributes:
        seconds: the key frames of each video, ascending.
        num_persons: how many boxes there are.
        num_labels: how many actions they have.
    """

    seconds: dict[str, list[int]]
    num_persons: int
    num_labels: int


@dataclass(frozen=True)
class _Frames:
    """Frame files of a video: the highest number, and numbers below it that are missing or empty."""

    last: int
    absent: frozenset[int]


def prepare_ava(
    root: str | Path,
    videos: str | Path | None = None,
    *,
    full_length: bool = False,
    version: str = '2.2',
    annotations: str | Path | None = None,
    short_side: int | None = None,
    workers: int = 1,
) -> Report:
    """Extract the frames that are missing, write the frame lists, and count.

    Args:
        root: folder of the data set, with ``annotations``; ``frames`` and ``frame_lists`` come here.
        videos: folder of the video files; None: only check.
        full_length: the files are whole films, instead of cuts that begin at second 900.
        version: of the annotations, 2.1 or 2.2.
        annotations: folder of the annotation files; None: ``annotations`` in ``root``.
        short_side: reduce the frames to this length in pixels of their short side.
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
    names = video_names(splits)
    failed = extract_missing(
        names,
        videos,
        workers,
        lambda video, path: Extraction(
            path,
            root / 'frames' / video,
            f'{video}_{{:06d}}.jpg',
            fps=_FPS,
            start=_FIRST_SECOND if full_length else 0,
            max_frames=_FPS * _SECONDS,
            short_side=short_side,
        ),
        extract_frames,
    )
    key_seconds = defaultdict(set)
    for split in splits.values():
        for video, seconds in split.seconds.items():
            key_seconds[video].update(seconds)
    frames = {video: found for video in names if (found := _look(root / 'frames' / video, video, key_seconds[video]))}
    report = Report(root / 'missing_ava.txt')
    for name, split in splits.items():
        _count(report, name, split, root / 'frames', frames, failed)
        path = root / 'frame_lists' / f'{name}.csv'
        complete = {
            video: frames[video].last for video in split.seconds if video in frames and not frames[video].absent
        }
        if complete and _write_frame_list(path, complete):
            report.notes.append(f'{path}: written, {len(complete)} videos')
    return report


def video_names(splits: Mapping[str, AVASplit]) -> list[str]:
    """Names of the videos of all splits, each once."""
    return list(dict.fromkeys(video for split in splits.values() for video in split.seconds))


def read_annotations(folder: Path, version: str) -> dict[str, AVASplit]:
    """Read all annotation files, those too that only training or the metric needs later.

    Args:
        folder: that they are in.
        version: 2.1 or 2.2.

    Returns:
        What ``'train'`` and ``'val'`` have.

    Raises:
        FileNotFoundError: files are absent; names all.
        ValueError: a file is wrong.
    """
    csvs = {name: folder / f'ava_{name}_v{version}.csv' for name in _SPLITS}
    exclusions = folder / f'ava_val_excluded_timestamps_v{version}.csv'
    label_maps = sorted(folder.glob(f'ava_action_list_v{version}*.pbtxt'))
    absent = [str(path) for path in (*csvs.values(), exclusions) if not path.is_file()]
    if not label_maps:
        absent.append(str(folder / f'ava_action_list_v{version}_for_activitynet_YEAR.pbtxt'))
    if absent:
        raise FileNotFoundError(
            f'annotation files are missing: {", ".join(absent)}. Unpack the archive of AVA v{version} there, or give '
            'its folder with --annotations.'
        )
    read_exclusions(exclusions)
    for path in label_maps:
        read_label_map(path)
    return {name: _read_split(path) for name, path in csvs.items()}


def _read_split(path: Path) -> AVASplit:
    rows = read_ava_csv(path)
    used = (rows.seconds >= _ANNOTATED[0]) & (rows.seconds <= _ANNOTATED[1])
    persons = set()
    for number in np.flatnonzero(used).tolist():
        persons.add((rows.videos[number], int(rows.seconds[number]), rows.box_texts[number]))
    seconds: dict[str, list[int]] = defaultdict(list)
    for video, second in sorted({person[:2] for person in persons}):
        seconds[video].append(second)
    return AVASplit(seconds, len(persons), int((rows.actions[used] > 0).sum()))


def _look(folder: Path, video: str, seconds: set[int]) -> _Frames | None:
    """Which frames of a video are there; None if it has none. Key frames must not be empty files either."""
    if not folder.is_dir():
        return None
    present = set(os.listdir(folder))
    numbers = [name[len(video) + 1 : -4] for name in present if name.startswith(f'{video}_') and name.endswith('.jpg')]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    if not last:
        return None
    absent = {number for number in range(1, last + 1) if _file_name(video, number) not in present}
    for second in seconds:
        number = _number_of(second)
        if number not in absent and number <= last and not (folder / _file_name(video, number)).stat().st_size:
            absent.add(number)
    return _Frames(last, frozenset(absent))


def _count(
    report: Report, name: str, split: AVASplit, folder: Path, frames: dict[str, _Frames], failed: dict[str, str]
) -> None:
    total = found = missing_files = 0
    for video, seconds in split.seconds.items():
        total += len(seconds)
        if video not in frames:
            reason = failed.get(video, f'no frames in {folder / video}, and no video file to extract them from')
            report.missing.append(f'{name}: video {video}: {reason}')
            continue
        last, absent = frames[video].last, frames[video].absent
        keys = {_number_of(second): second for second in seconds}
        lacking = {number for number in keys if number > last or number in absent}
        found += len(keys) - len(lacking)
        missing_files += len(lacking | absent)
        for number in sorted(lacking | absent):
            which = f'key frame {video},{keys[number]:04d}' if number in keys else 'a frame inside of clips'
            report.missing.append(f'{name}: {folder / video / _file_name(video, number)}: {which}')
    report.rows.append(
        {
            'split': name,
            'videos': part_of(sum(video in frames for video in split.seconds), len(split.seconds)),
            'clips (key frames)': part_of(found, total),
            'boxes': split.num_persons,
            'action labels': split.num_labels,
            'missing frame files': missing_files,
        }
    )


def _write_frame_list(path: Path, lengths: dict[str, int]) -> bool:
    """Writes the list of the given videos, unless one is there that says the same."""
    wanted = {video: ListedFrames(video, f'{video}_{{:06d}}.jpg', 1, length) for video, length in lengths.items()}
    try:
        if read_frame_list(path) == wanted:
            return False
    except (FileNotFoundError, ValueError):
        pass  # none yet, or one that is no use
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.part')
    with draft.open('w', encoding='utf-8') as file:
        file.write('original_vido_id video_id frame_id path labels\n')
        for number, (video, length) in enumerate(lengths.items()):
            file.writelines(
                f'{video} {number} {frame} {video}/{_file_name(video, frame + 1)} ""\n' for frame in range(length)
            )
    draft.replace(path)
    return True


def _number_of(second: int) -> int:
    return (second - _FIRST_SECOND) * _FPS + 1


def _file_name(video: str, number: int) -> str:
    return f'{video}_{number:06d}.jpg'

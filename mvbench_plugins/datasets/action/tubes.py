"""Ground-truth tubes of JHMDB and UCF101-24, from the pickles that the field evaluates with."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from mvbench_plugins.common.inert_unpickler import as_array, load_plain_pickle

_FIELDS = {
    'labels': list,
    'gttubes': dict,
    'nframes': dict,
    'train_videos': list,
    'test_videos': list,
    'resolution': dict,
}


@dataclass(frozen=True)
class TubeAnnotations:
    """What an annotation file of action tubes says.

    Attributes:
        classes: names of the actions.
        tubes: video -> class index (from 0) -> tubes of [k, 5] float64: frame number (from 1), x1, y1, x2, y2 in pixels
            as published.
        num_frames: number of frames of each video.
        resolution: (height, width) of each video in pixels.
        train_videos: for each split, the names ``<class>/<video>`` of the training videos.
        test_videos: the same of the test videos.
    """

    classes: tuple[str, ...]
    tubes: dict[str, dict[int, list[np.ndarray]]]
    num_frames: dict[str, int]
    resolution: dict[str, tuple[int, int]]
    train_videos: list[list[str]]
    test_videos: list[list[str]]


def read_tube_annotations(path: str | Path) -> TubeAnnotations:
    """Read and check an annotation file of action tubes (``JHMDB-GT.pkl``, ``UCF101v2-GT.pkl``).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a pickle, or one with a broken entry; names the field and the video.
    """
    content = load_plain_pickle(path)
    for field, kind in _FIELDS.items():
        kinds = (list, tuple) if kind is list else kind
        if not isinstance(content, dict) or not isinstance(content.get(field), kinds):
            raise ValueError(
                f'{path}: field {field!r} is missing or no {kind.__name__}. Is this the ground truth of JHMDB or '
                f'UCF101-24 (a dict of {", ".join(_FIELDS)})?'
            )
    classes = tuple(map(str, content['labels']))
    splits = {field: _read_splits(path, field, content[field]) for field in ('train_videos', 'test_videos')}
    if not classes or len(splits['train_videos']) != len(splits['test_videos']):
        raise ValueError(
            f'{path}: expected class names and as many training as test splits, found {len(classes)} names, '
            f'{len(splits["train_videos"])} training and {len(splits["test_videos"])} test splits'
        )
    used = dict.fromkeys(video for lists in splits.values() for videos in lists for video in videos)
    for video in used:
        for field in ('gttubes', 'nframes', 'resolution'):
            if video not in content[field]:
                raise ValueError(f'{path}: {field} has no entry for video {video!r}, which is in a split of the file')
    num_frames, resolution, tubes = {}, {}, {}
    for video in used:
        num_frames[video] = _positive(path, f'nframes[{video!r}]', content['nframes'][video])
        size = content['resolution'][video]
        if not isinstance(size, (list, tuple, np.ndarray)) or as_array(size).shape != (2,):
            raise ValueError(f'{path}: resolution[{video!r}] must be (height, width), found {size!r}')
        height, width = (_positive(path, f'resolution[{video!r}]', side) for side in size)
        resolution[video] = (height, width)
        tubes[video] = _read_tubes(path, video, content['gttubes'][video], num_frames[video], len(classes))
    return TubeAnnotations(classes=classes, tubes=tubes, num_frames=num_frames, resolution=resolution, **splits)


def _read_splits(path: str | Path, field: str, value: Any) -> list[list[str]]:
    for number, videos in enumerate(value, start=1):
        if not isinstance(videos, (list, tuple)) or not all(isinstance(video, str) for video in videos):
            raise ValueError(f'{path}: {field} must hold a list of video names for each split; split {number} is none')
    return [list(videos) for videos in value]


def _positive(path: str | Path, place: str, value: Any) -> int:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f'{path}: {place} must be a whole number of at least 1, found {value!r}')
    return int(value)


def _read_tubes(
    path: str | Path, video: str, by_class: Any, num_frames: int, num_classes: int
) -> dict[int, list[np.ndarray]]:
    tubes: dict[int, list[np.ndarray]] = {}
    if not isinstance(by_class, dict):
        raise ValueError(f'{path}: gttubes[{video!r}] must be a dict of class index -> tubes, found {type(by_class)}')
    for index, arrays in by_class.items():
        if not isinstance(index, Integral) or not 0 <= int(index) < num_classes:
            raise ValueError(
                f'{path}: gttubes[{video!r}] has class index {index!r}; "labels" of the file has {num_classes} names'
            )
        if not isinstance(arrays, (list, tuple)):
            raise ValueError(f'{path}: gttubes[{video!r}][{index}] must be a list of tubes, found {type(arrays)}')
        tubes[int(index)] = []
        for number, array in enumerate(arrays):
            place = f'{path}: gttubes[{video!r}][{index}][{number}]'
            tube = as_array(array)
            if tube.ndim != 2 or tube.shape[1] != 5 or not len(tube) or tube.dtype.kind not in 'fiu':
                raise ValueError(
                    f'{place} must be numbers [k, 5] (frame, x1, y1, x2, y2), found {tube.dtype} {list(tube.shape)}'
                )
            tube = tube.astype(np.float64)
            problem = _tube_problem(tube, num_frames)
            if problem:
                raise ValueError(f'{place}: {problem}. Download the file again, or correct this tube.')
            tubes[int(index)].append(tube)
    return tubes


def _tube_problem(tube: np.ndarray, num_frames: int) -> str | None:
    if not np.isfinite(tube).all():
        return f'numbers must be finite, found {tube[~np.isfinite(tube).all(axis=1)][0].tolist()}'
    frames = tube[:, 0]
    if (frames % 1).any() or frames.min() < 1 or frames.max() > num_frames or len(np.unique(frames)) < len(frames):
        return (
            f'frames must be different whole numbers from 1 to {num_frames} (nframes of the video), '
            f'found {len(frames)} from {frames.min():g} to {frames.max():g}'
        )
    turned = (tube[:, 3] < tube[:, 1]) | (tube[:, 4] < tube[:, 2])
    if turned.any():
        return f'boxes must have x1 <= x2 and y1 <= y2, found {tube[turned][0].tolist()}'
    return None

"""The people of each key frame, for models that take them as given: from files, from arrays, from a detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mvbench_plugins.apis.clips import Clip, count_key_frames, key_frame
from mvbench_plugins.apis.person_detector import PersonDetector
from mvbench_plugins.apis.video_reader import VideoSource
from mvbench_plugins.datasets.action.alphaction_files import is_empty
from mvbench_plugins.datasets.action.person_boxes import PersonBoxes, read_person_boxes

_OVERSHOOT = 0.05  # of the image, that a box may reach beyond it; it is clipped

Boxes: TypeAlias = Sequence | np.ndarray
People: TypeAlias = str | Path | PersonBoxes | PersonDetector | Mapping[int, Boxes] | Sequence[Boxes] | np.ndarray
#: Gets a clip; returns float32 boxes [n, 4] in pixels of the video and scores [n], highest first.
PersonFinder = Callable[[Clip], tuple[np.ndarray, np.ndarray]]


def find_people(
    people: People, video: VideoSource, spacing: float, first_second: int, score_thr: float
) -> PersonFinder:
    """Prepares the way from a key frame to its people; whatever is given is checked here, before any clip.

    Args:
        people: a file (csv, pkl) or what was read from one, with boxes in fractions of the image for seconds of this
            video; boxes in pixels of the video, ``[n, 4]`` (x1, y1, x2, y2) or ``[n, 5]`` with scores, as a dict by
            frame index (0-based; frames that it lacks are without people) or as one array per key frame; or a detector.
        video: where they are.
        spacing: frames between key frames.
        first_second: what a file calls the second of the video's first frame.
        score_thr: people with a lower score are left out; boxes without score have 1.

    Raises:
        FileNotFoundError, TypeError, ValueError: no such file, or something in it or in the arrays is wrong.
    """
    if isinstance(people, PersonDetector):
        detect = people
        return lambda clip: _best_first(detect(clip.key_image[..., ::-1]), score_thr)
    if isinstance(people, (str, Path)):
        people = read_person_boxes(Path(people).expanduser())
    if isinstance(people, PersonBoxes):
        given = _from_file(people, video, spacing, first_second)
    elif isinstance(people, Mapping):
        _check_keys(people, spacing)
        given = _checked(people, video)
    elif isinstance(people, (Sequence, np.ndarray)):
        _check_count(people, video, spacing)
        given = _checked(dict(enumerate(people)), video)
        given = {key_frame(number, spacing): rows for number, rows in given.items()}
    else:
        raise TypeError(
            f'person_boxes: found {type(people).__name__}, expected a file, a dict of frame index -> boxes, a list of '
            'boxes per key frame, or a PersonDetector'
        )
    nobody = np.zeros((0, 5), np.float32)
    return lambda clip: _best_first(given.get(clip.key_frame, nobody), score_thr)


def _best_first(rows: np.ndarray, score_thr: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of the rows ``[n, 5]`` that reach the threshold; equal scores keep their order."""
    rows = rows[np.argsort(-rows[:, 4], kind='stable')]
    rows = rows[rows[:, 4] >= np.float32(score_thr)]
    return rows[:, :4], rows[:, 4]


def _from_file(people: PersonBoxes, video: VideoSource, spacing: float, first_second: int) -> dict[int, np.ndarray]:
    """Rows in pixels by frame index."""
    interval = spacing / video.fps
    if abs(interval - round(interval)) > 1e-6:
        raise ValueError(
            f'{people.path} has boxes for whole seconds, but key frames lie {interval:.6g} s apart: choose an interval '
            'of whole seconds, or give the boxes as a dict of frame index -> boxes'
        )
    seconds = [second for name, second in people.by_key_frame if name == video.name]
    if not seconds:
        names = people.videos()
        raise ValueError(
            f'{people.path} has no boxes of video {video.name!r} (the name of its file or folder without ending), but '
            f'of {len(names)} others, such as {", ".join(sorted(names)[:3])}: rename the one or the other'
        )
    length = float('inf') if video.num_frames is None else video.num_frames / video.fps
    if not any(0 <= second - first_second < length for second in seconds):
        raise ValueError(
            f'{people.path} has boxes of video {video.name!r} for the seconds {min(seconds)} to {max(seconds)}, but '
            f'the video covers {first_second} to {first_second + length:.0f}: tell which second its first frame is '
            'with first_second (--first-second; 900 for AVA)'
        )
    scale = np.tile(np.array(video.size, np.float32), 2)
    given = {}
    for second in seconds:
        number, between = divmod(second - first_second, round(interval))
        if not between:
            boxes, scores = people.by_key_frame[video.name, second]
            given[key_frame(number, spacing)] = np.column_stack([boxes * scale, scores])
    return given


def _check_keys(people: Mapping, spacing: float) -> None:
    """Refuses keys that are no key frames: whoever counts seconds, or at another rate, would get wrong people."""
    for key in people:
        whole = isinstance(key, (int, np.integer)) and key >= 0
        if not whole or key_frame(round(key / spacing), spacing) != key:
            some = ', '.join(str(key_frame(number, spacing)) for number in range(3))
            raise ValueError(
                f'person_boxes: key {key!r} is not the 0-based index of a key frame; these are {some}, ... here. '
                'Choose interval or step so that they are those you have boxes for'
            )


def _check_count(people: Sequence | np.ndarray, video: VideoSource, spacing: float) -> None:
    expected = None if video.num_frames is None else count_key_frames(spacing, video.num_frames)
    if expected is not None and len(people) != expected:
        raise ValueError(
            f'person_boxes: found {len(people)} entries, expected one array for each of the {expected} key frames '
            f'({video.origin}, {spacing:g} frames apart), or a dict of frame index -> boxes'
        )


def _checked(people: Mapping[int, Boxes], video: VideoSource) -> dict[int, np.ndarray]:
    """Arrays as rows of x1, y1, x2, y2 (pixels), score; clipped to the image, those without area dropped."""
    size = np.tile(np.array(video.size, np.float32), 2)
    rows = {key: _as_rows(boxes, f'person_boxes[{key}]') for key, boxes in people.items()}
    largest = max((float(found[:, :4].max()) for found in rows.values() if len(found)), default=None)
    if largest is not None and largest <= 1 + _OVERSHOOT:
        raise ValueError(
            f'person_boxes: no coordinate is above {largest:g}, these look like fractions of the image. Expected '
            f'pixels of the video: multiply x by {video.size[0]}, y by {video.size[1]}'
        )
    for key, found in rows.items():
        outside = (found[:, :4] < -_OVERSHOOT * size) | (found[:, :4] > (1 + _OVERSHOOT) * size)
        if outside.any():
            row = int(outside.any(1).argmax())
            raise ValueError(
                f'person_boxes[{key}], row {row}: found box {found[row, :4].tolist()}, the video has '
                f'{video.size[0]} x {video.size[1]} pixels. Expected x1, y1, x2, y2 in pixels of this video: scale the '
                'boxes, or clip them'
            )
        found[:, :4] = np.clip(found[:, :4], 0, size)
    return {key: found[~is_empty(found[:, :4])] for key, found in rows.items()}


def _as_rows(boxes: Boxes, place: str) -> np.ndarray:
    try:
        rows = np.array(boxes, np.float32)
    except (TypeError, ValueError):
        rows = None
    if rows is not None and not rows.size:
        return np.zeros((0, 5), np.float32)
    if rows is None or rows.ndim != 2 or rows.shape[1] not in (4, 5):
        found = f'shape {rows.shape}' if rows is not None else repr(boxes)
        raise ValueError(f'{place}: found {found}, expected numbers [n, 4] (x1, y1, x2, y2 in pixels) or [n, 5]')
    if rows.shape[1] == 4:
        rows = np.column_stack([rows, np.ones(len(rows), np.float32)])
    wrong = ~((rows[:, 4] >= 0) & (rows[:, 4] <= 1))  # so that NaN is wrong, too
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f'{place}, row {row}: found score {rows[row, 4]}, expected one in [0, 1]')
    wrong = ~np.isfinite(rows[:, :4]).all(1) | is_empty(rows[:, :4])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f'{place}, row {row}: found box {rows[row, :4].tolist()}, expected finite x1 < x2 and y1 < y2 (not x, y, '
            'w, h); correct or remove it'
        )
    return rows

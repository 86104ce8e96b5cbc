"""Writes the toy world as an AVA data set: frames, frame lists, video files, annotations and person boxes."""

import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mvbench_plugins.datasets.toy.actions import ACTIONS
from mvbench_plugins.datasets.toy.output import begin_toy_folder, write_image
from mvbench_plugins.datasets.toy.person_boxes import detected_persons
from mvbench_plugins.datasets.toy.random_video import FPS, random_video
from mvbench_plugins.datasets.toy.video_scene import VideoScene, visible_box

MAX_SOLIDS = 4
MIN_VIDEO_SIDE = 48
FIRST_SECOND = 900  # of the film that frame 0 belongs to
FIRST_KEY = 902  # the first key frame, so that a clip of two seconds around it lies in the video; the last one alike
EXCLUDED_EVERY = 8  # of so many videos one has a key frame on the list of excluded ones
_VERSION = 2  # of the content: raise it when equal arguments give other videos


def write_ava(
    out: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 64,
    num_val: int = 16,
    size: tuple[int, int] = (128, 96),
    seconds: int = 12,
) -> bool:
    """Writes ``annotations/``, ``frame_lists/``, ``frames/<video>/<video>_%06d.jpg`` and ``videos/<video>.mp4``.

    Each solid draws a new motion half a second after every full one, hence the labels of a key frame hold from half a
    second before it to half a second after it. ``annotations/person_boxes_{train,val}.csv`` hold what a detector would
    find: video, second, x1, y1, x2, y2, score (see :mod:`person_boxes`). Equal arguments give equal frames and
    annotations, and a video depends on its number, ``seed``, ``size`` and ``seconds`` only. A complete set of the same
    arguments is left as it is, an unfinished one is made anew.

    Args:
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training videos.
        num_val: Number of validation videos.
        size: ``(width, height)`` of the frames in pixels, both even.
        seconds: Length of the videos; key frames lie at seconds 902 to 898 + ``seconds``.

    Returns:
        Whether the set was written; False if it was there.

    Raises:
        ValueError: If a number is too small or a side odd.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds something else.
        OSError: If no video file can be written.
    """
    width, height = size
    numbers = {'seed': (seed, 0), 'num_train': (num_train, 1), 'num_val': (num_val, 1), 'seconds': (seconds, 4)}
    if width % 2 or height % 2:
        raise ValueError(f'size: found {width} x {height}, expected even numbers (MPEG-4 halves them for its colours)')
    folder = begin_toy_folder(
        out,
        'ava',
        _VERSION,
        numbers,
        size=size,
        least_size=(MIN_VIDEO_SIDE, MIN_VIDEO_SIDE),
        parts=('annotations', 'frame_lists', 'frames', 'videos'),
    )
    if folder is None:
        return False
    annotations = folder.root / 'annotations'
    with tqdm(total=num_train + num_val, desc=f'toy AVA -> {out}', unit='video') as progress:
        for stream, (split, length) in enumerate((('train', num_train), ('val', num_val))):
            rows, detections, frames, excluded = [], [], ['original_vido_id video_id frame_id path labels'], []
            for index in range(length):
                # A stream of its own for each video: the length of one split changes no other video.
                rng = np.random.default_rng([seed, stream, index])
                name = f'{split}_{index + 1:04d}'
                of_video = _write_video(folder.root, name, random_ava_video(rng, size, seconds), seconds)
                rows += of_video
                detections += _detect(np.random.default_rng([seed, stream, index, 1]), of_video)
                paths = (f'{name}/{name}_{frame + 1:06d}.jpg' for frame in range(seconds * FPS))
                frames += [f'{name} {index} {frame} {path} ""' for frame, path in enumerate(paths)]
                if index % EXCLUDED_EVERY == 0:
                    excluded.append(f'{name},{key_seconds(seconds)[-1]:04d}')
                progress.update()
            _write_lines(annotations / f'ava_{split}_v2.2.csv', rows)
            _write_lines(annotations / f'person_boxes_{split}.csv', detections)
            _write_lines(annotations / f'ava_{split}_excluded_timestamps_v2.2.csv', excluded)
            _write_lines(folder.root / 'frame_lists' / f'{split}.csv', frames)
    items = [f'item {{\n  name: "{name}"\n  id: {index + 1}\n}}' for index, name in enumerate(ACTIONS)]
    _write_lines(annotations / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt', items)
    folder.finish()
    return True


def key_seconds(seconds: int) -> range:
    """The seconds of the film at which a video of ``seconds`` seconds has its key frames."""
    return range(FIRST_KEY, FIRST_SECOND + seconds - 1)


def random_ava_video(rng: np.random.Generator, size: tuple[int, int], seconds: int) -> VideoScene:
    """A video of 1 to 4 solids that draw new motions half-way between full seconds."""
    solids = int(rng.integers(1, MAX_SOLIDS + 1))
    return random_video(rng, size, seconds * FPS, solids=solids, begin=-FPS / 2, length=FPS, stretches=seconds + 1)


def _write_video(root: Path, name: str, video: VideoScene, seconds: int) -> list[str]:
    """Renders a video to frames and to a video file; returns the rows of its annotation file."""
    (root / 'frames' / name).mkdir()
    path = root / 'videos' / f'{name}.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), FPS, video.size)
    if not writer.isOpened():
        raise OSError(f'{path}: OpenCV can write no MPEG-4 video; install the opencv-python wheel, which can')
    rows = []
    for frame in range(seconds * FPS):
        picture, ids = video.render(frame)
        write_image(root / 'frames' / name / f'{name}_{frame + 1:06d}.jpg', picture)
        writer.write(picture)
        second = FIRST_SECOND + frame // FPS
        if frame % FPS == 0 and second in key_seconds(seconds):
            rows += [f'{name},{second:04d},{row}' for row in _annotate(video, ids, frame)]
    writer.release()
    return rows


def _annotate(video: VideoScene, ids: np.ndarray, frame: int) -> list[str]:
    """Rows ``x1,y1,x2,y2,action,person`` of a key frame; one without an action for a solid that does nothing."""
    rows = []
    for person, track in enumerate(video.tracks):
        corners = np.array(visible_box(ids, person)) / (video.size * 2)
        box = ','.join(f'{corner:.6f}' for corner in corners)
        rows += [f'{box},{action},{person}' for action in track.motion(frame).actions or ('',)]
    return rows


def _detect(rng: np.random.Generator, rows: list[str]) -> list[str]:
    """Rows ``video,second,x1,y1,x2,y2,score`` of what a detector finds, from the annotated rows of a video."""
    persons: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        video, second, *box, _, person = row.split(',')
        persons.setdefault(f'{video},{second}', {})[person] = box
    lines = []
    for key, boxes in persons.items():
        for box, score in zip(*detected_persons(rng, np.array(list(boxes.values()), float)), strict=True):
            lines.append(','.join([key, *(f'{corner:.6f}' for corner in box), f'{score:.4f}']))
    return lines


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')

"""Writes the toy world in the layouts of JHMDB and UCF101-24: videos of one action each, annotated with tubes."""

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mvbench_plugins.datasets.toy.actions import ACTIONS
from mvbench_plugins.datasets.toy.ava import MIN_VIDEO_SIDE
from mvbench_plugins.datasets.toy.output import begin_toy_folder, write_image
from mvbench_plugins.datasets.toy.random_video import random_video
from mvbench_plugins.datasets.toy.video_scene import VideoScene, visible_box

LABELS = tuple(name.replace(' ', '_') for name in ACTIONS)  # names of classes, which are folders as well
_VERSION = 1  # of the content: raise it when equal arguments give other videos


@dataclass(frozen=True)
class TubeLayout:
    """How a data set of tubes looks.

    Attributes:
        name: Name of the format.
        frames: Folder of the frames.
        suffix: Format of the frames.
        annotations: Name of the annotation file.
        splits: Number of ways in which the videos are split.
        lengths: Fewest and most frames of a video.
        most_solids: Solids in a video at most.
        tube: Fewest and most frames of a tube; None if every tube is as long as its video.
    """

    name: str
    frames: str
    suffix: str
    annotations: str
    splits: int
    lengths: tuple[int, int]
    most_solids: int = 1
    tube: tuple[int, int] | None = None


JHMDB = TubeLayout('jhmdb', 'Frames', '.png', 'JHMDB-GT.pkl', splits=3, lengths=(30, 40))
UCF101_24 = TubeLayout(
    'ucf101_24', 'rgb-images', '.jpg', 'UCF101v2-GT.pkl', splits=1, lengths=(40, 60), most_solids=2, tube=(24, 36)
)


def write_tubes(
    layout: TubeLayout,
    out: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 8,
    num_val: int = 2,
    size: tuple[int, int] = (128, 96),
) -> bool:
    """Writes frames ``<layout.frames>/<class>/<video>/%05d.<suffix>``, from 1 on, and the pickle of annotations.

    In the layout of JHMDB a video shows one solid that acts all the time. In that of UCF101-24 it shows one or two,
    each in the scene for a part of the time only. Equal arguments give equal bytes, and a video depends on its class,
    its number, ``seed`` and ``size`` only. A complete set of the same arguments is left as it is, an unfinished one is
    made anew.

    Args:
        layout: :data:`JHMDB` or :data:`UCF101_24`.
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training videos of each class.
        num_val: Number of test videos of each class; each split tests on others, as far as there are enough.
        size: ``(width, height)`` of the frames in pixels.

    Returns:
        Whether the set was written; False if it was there.

    Raises:
        ValueError: If a number is too small.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds something else.
    """
    numbers = {'seed': (seed, 0), 'num_train': (num_train, 1), 'num_val': (num_val, 1)}
    folder = begin_toy_folder(
        out,
        layout.name,
        _VERSION,
        numbers,
        size=size,
        least_size=(MIN_VIDEO_SIDE, MIN_VIDEO_SIDE),
        parts=(layout.frames,),
        files=(layout.annotations,),
    )
    if folder is None:
        return False
    videos = num_train + num_val
    tubes, lengths = {}, {}
    with tqdm(total=videos * len(LABELS), desc=f'toy {layout.name} -> {out}', unit='video') as progress:
        for label, label_name in enumerate(LABELS):
            for index in range(videos):
                # A stream of its own for each video: the number of videos changes none of them.
                rng = np.random.default_rng([seed, label, index])
                name = f'{label_name}/{label_name}_{index + 1:03d}'
                video, lengths[name] = _random_tube_video(rng, layout, size, action=label + 1)
                folder_of_video = folder.root / layout.frames / name
                folder_of_video.mkdir(parents=True)
                tubes[name] = {label: _write_video(folder_of_video, layout.suffix, video, lengths[name])}
                progress.update()
    tested = [{(split * num_val + index) % videos for index in range(num_val)} for split in range(layout.splits)]
    is_tested = [{name: index % videos in chosen for index, name in enumerate(tubes)} for chosen in tested]
    content = {
        'labels': list(LABELS),
        'gttubes': tubes,
        'nframes': lengths,
        'train_videos': [[name for name in tubes if not split[name]] for split in is_tested],
        'test_videos': [[name for name in tubes if split[name]] for split in is_tested],
        'resolution': dict.fromkeys(tubes, size[::-1]),
    }
    # Protocol 2 is what the files of the real data sets have.
    (folder.root / layout.annotations).write_bytes(pickle.dumps(content, protocol=2))
    folder.finish()
    return True


def _random_tube_video(
    rng: np.random.Generator, layout: TubeLayout, size: tuple[int, int], action: int
) -> tuple[VideoScene, int]:
    """A video in which all solids show one action, and its number of frames."""
    frames = _between(rng, *layout.lengths)
    solids = _between(rng, 1, layout.most_solids)
    if layout.tube is None:
        return random_video(rng, size, frames, solids=solids, begin=0, length=frames, action=action), frames
    shortest, longest = layout.tube
    begin = _between(rng, 0, frames - longest)
    video = random_video(rng, size, frames, solids=solids, begin=begin, length=longest, action=action)
    tracks = []
    for track in video.tracks:
        length = _between(rng, shortest, longest)
        first = begin + _between(rng, 0, longest - length)
        tracks.append(replace(track, seen=(first, first + length)))
    return replace(video, tracks=tuple(tracks)), frames


def _write_video(folder: Path, suffix: str, video: VideoScene, frames: int) -> list[np.ndarray]:
    """Renders a video; returns for each solid its tube, ``(k, 5)``: frame from 1 on, x1, y1, x2, y2 in pixels."""
    tubes: list[list[tuple[float, ...]]] = [[] for _ in video.tracks]
    for frame in range(frames):
        picture, ids = video.render(frame)
        write_image(folder / f'{frame + 1:05d}{suffix}', picture)
        for index, track in enumerate(video.tracks):
            if track.is_seen(frame):
                tubes[index].append((frame + 1, *visible_box(ids, index)))
    return [np.array(tube, np.float32) for tube in tubes]


def _between(rng: np.random.Generator, least: int, most: int) -> int:
    return int(rng.integers(least, most + 1))

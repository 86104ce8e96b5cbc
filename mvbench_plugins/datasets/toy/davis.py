"""Writes the toy world as a DAVIS data set: frames, masks with a palette, and lists of videos."""

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mvbench_plugins.common.palette_png import davis_palette, write_index_map
from mvbench_plugins.datasets.toy.output import begin_toy_folder, write_image
from mvbench_plugins.datasets.toy.random_crossing import random_crossing
from mvbench_plugins.datasets.toy.video_scene import VideoScene

FRAMES = (24, 40)  # shortest and longest video
MIN_VOS_SIDE = 64
_VERSION = 1  # of the content: raise it when equal arguments give other videos


def write_davis(
    out: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 60,
    num_val: int = 12,
    size: tuple[int, int] = (224, 128),
) -> bool:
    """Writes ``JPEGImages/480p/<video>/%05d.jpg``, ``Annotations/480p/<video>/%05d.png`` and ``ImageSets/2017/*.txt``.

    Videos have 24 to 40 frames. The solids of the first frame come first among the labels; those that enter later are
    in the masks as well. Hence a test that gives the first mask only (DAVIS) has them as distractors, and one that
    gives each object where it appears (``annotations='first_appearance'``) follows them too. Equal arguments give
    equal files, and a video depends on its number, ``seed`` and ``size`` only. A complete set of the same arguments is
    left as it is, an unfinished one is made anew.

    Args:
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training videos.
        num_val: Number of validation videos.
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
        'davis',
        _VERSION,
        numbers,
        size=size,
        least_size=(MIN_VOS_SIDE, MIN_VOS_SIDE),
        parts=('Annotations', 'ImageSets', 'JPEGImages'),
    )
    if folder is None:
        return False
    lists = folder.root / 'ImageSets' / '2017'
    lists.mkdir()
    with tqdm(total=num_train + num_val, desc=f'toy DAVIS -> {out}', unit='video') as progress:
        for stream, (split, length) in enumerate((('train', num_train), ('val', num_val))):
            names = [f'{split}_{index + 1:04d}' for index in range(length)]
            for index, name in enumerate(names):
                # A stream of its own for each video: the length of one split changes no other video.
                video, _, frames = random_davis_video(np.random.default_rng([seed, stream, index]), size)
                _write_video(folder.root, name, video, frames)
                progress.update()
            (lists / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
    folder.finish()
    return True


def random_davis_video(rng: np.random.Generator, size: tuple[int, int]) -> tuple[VideoScene, int, int]:
    """A video, how many of its tracks are there from the first frame on, and its length in frames."""
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    return *random_crossing(rng, size, frames), frames


def _write_video(root: Path, name: str, video: VideoScene, frames: int) -> None:
    """Renders a video to frames and masks."""
    images, masks = (root / kind / '480p' / name for kind in ('JPEGImages', 'Annotations'))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for frame in range(frames):
        picture, ids = video.render(frame)
        write_image(images / f'{frame:05d}.jpg', picture)
        write_index_map(masks / f'{frame:05d}.png', ids.astype(np.uint8), davis_palette())

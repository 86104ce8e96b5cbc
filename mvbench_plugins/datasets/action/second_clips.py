"""AVA in files of one second each, ``<movie>/<second>.mp4``: which are there, and the clip around a key frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from .transforms import open_video, transform_boxes, undecodable

SUFFIX = '.mp4'


@dataclass(frozen=True)
class SecondClips:
    """The files of one video.

    Attributes:
        info: what a sample says about it (see ``key_frame_entry``).
        seconds: those that have a file.
    """

    info: dict
    seconds: frozenset[int]

    def holds(self, second: int) -> bool:
        """Whether there is a clip around the beginning of this second: a file on either side of it."""
        return second in self.seconds and second - 1 in self.seconds


def find_second_clips(videos: Iterable[str], root: str | Path) -> dict[str, SecondClips]:
    """Find the one-second files of videos.

    Args:
        videos: names of the videos.
        root: folder that holds their folders.

    Returns:
        The videos that have any.
    """
    found = {}
    for video in videos:
        seconds = seconds_in(Path(root, video))
        if seconds:
            found[video] = SecondClips(dict(clip_dir=str(Path(root, video)), start_index=0), seconds)
    return found


def seconds_in(folder: Path) -> frozenset[int]:
    """The seconds that have a file in the folder of a video; none if there is no such folder."""
    names = os.listdir(folder) if folder.is_dir() else []
    stems = (name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX))
    return frozenset(int(stem) for stem in stems if stem.isdecimal())


def second_clip_indices(num_frames: int, clip_len: int, frame_interval: int, offset: int | None = None) -> np.ndarray:
    """Frames of a clip in the middle of some frames.

    Args:
        num_frames: how many there are.
        clip_len: frames of the clip.
        frame_interval: distance between two of them.
        offset: of the first frame, from where the ``clip_len * frame_interval`` frames in the middle begin; None:
            ``(frame_interval - 1) // 2``.

    Returns:
        int64 ``[clip_len]``: 0-based indices; those beyond the ends are the first or last one.
    """
    if offset is None:
        offset = (frame_interval - 1) // 2
    start = (num_frames - clip_len * frame_interval) // 2 + offset
    return np.clip(start + np.arange(clip_len) * frame_interval, 0, num_frames - 1)


@TRANSFORMS.register_module()
class LoadSecondClips(BaseTransform):
    """Load the clip around the beginning of second ``timestamp`` from one-second files, ``<clip_dir>/<second>.mp4``.

    Files are taken from the second on, and backwards from the one before it, until either side has half of the
    frames that the clip spans; the longer side is cut to the shorter one. The files' own frames are counted: published
    models were trained on 25 per second.

    Args:
        clip_len: frames of the clip.
        frame_interval: distance between two of them.
        offset: frames by which the clip is moved (see ``second_clip_indices``).
        jitter: draw ``offset`` from 0 to ``frame_interval - 1`` for each clip, as in training.
        num_threads: of the decoder.
    """

    def __init__(
        self, clip_len: int, frame_interval: int, offset: int | None = None, jitter: bool = False, num_threads: int = 1
    ) -> None:
        if jitter and offset is not None:
            raise ValueError(f'LoadSecondClips: jitter draws the offset, found offset={offset}: leave one of them out')
        self.clip_len = clip_len
        self.frame_interval = frame_interval
        self.offset = offset
        self.jitter = jitter
        self.num_threads = num_threads

    def transform(self, results: dict) -> dict:
        """Add ``imgs`` (RGB), ``img_shape`` and ``original_shape``; boxes become pixels.

        Raises:
            FileNotFoundError: there is no file of the second or of the one before.
            ValueError: a file cannot be decoded, or has frames of another size than the others.
        """
        folder, second = Path(results['clip_dir']), results['timestamp']
        span = self.clip_len * self.frame_interval
        after = self._readers(folder, second, 1, span // 2)
        before = self._readers(folder, second - 1, -1, span - span // 2)[::-1]
        counts = [len(reader) for _, reader in before]
        side = min(sum(counts), sum(len(reader) for _, reader in after))
        offset = np.random.randint(self.frame_interval) if self.jitter else self.offset
        wanted = second_clip_indices(2 * side, self.clip_len, self.frame_interval, offset) + sum(counts) - side
        results['imgs'] = _frames(before + after, wanted)
        height, width = results['imgs'][0].shape[:2]
        transform_boxes(results, lambda boxes: boxes * np.float32([width, height] * 2))
        results.update(
            original_shape=(height, width),
            img_shape=(height, width),
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            num_clips=1,
        )
        return results

    def _readers(self, folder: Path, second: int, step: int, num_frames: int) -> list[tuple[Path, Any]]:
        """Files and their readers, from ``second`` on, until they have the frames or no file follows."""
        found: list[tuple[Path, Any]] = []
        count = 0
        while count < num_frames:
            path = folder / f'{second}{SUFFIX}'
            if found and not path.is_file():
                break
            found.append((path, open_video(path, self.num_threads)))
            count += len(found[-1][1])
            second += step
        return found


def _frames(files: list[tuple[Path, Any]], wanted: np.ndarray) -> list[np.ndarray]:
    """Frames by ascending indices into the frames of all files."""
    import decord

    images, begin = [], 0
    for path, reader in files:
        inside = wanted[(wanted >= begin) & (wanted < begin + len(reader))] - begin
        begin += len(reader)
        if not len(inside):
            continue
        try:
            images += list(reader.get_batch(inside).asnumpy())
        except (decord.DECORDError, RuntimeError) as error:
            raise undecodable(path, error) from None
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f'video {path} has frames of {images[-1].shape[:2]} (height, width), the files before it of '
                f'{images[0].shape[:2]}; cut all seconds of a video to one size'
            )
    return images

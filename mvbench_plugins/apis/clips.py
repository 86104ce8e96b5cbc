"""Clips around key frames, cut from a stream of frames in constant memory."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import cv2
import numpy as np


@dataclass
class Clip:
    """A clip around a key frame, which is one of its frames or lies between them; images are in RGB order.

    Attributes:
        key_frame: index of the key frame in the video.
        indices: indices of the clip's frames, ascending.
        frames: these frames.
        key_image: the key frame; empty until it has come.
    """

    key_frame: int
    indices: np.ndarray
    frames: list[np.ndarray] = field(default_factory=list)
    key_image: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))

    @property
    def first(self) -> int:
        """Index of the first frame that the clip needs."""
        return min(int(self.indices[0]), self.key_frame)

    @property
    def complete(self) -> bool:
        """Whether all frames that the clip needs are there."""
        return len(self.frames) == len(self.indices) and self.key_image.size > 0


def key_frames(spacing: float) -> Iterator[int]:
    """The key frames of a video without end: frame 0, and the frames nearest to multiples of ``spacing`` frames."""
    return (key_frame(number, spacing) for number in count())


def key_frame(number: int, spacing: float) -> int:
    """The frame index of the key frame of a number, counted from 0."""
    return math.floor(number * spacing + 0.5)


def count_key_frames(spacing: float, num_frames: int) -> int:
    """How many of :func:`key_frames` lie within the first ``num_frames`` frames."""
    return math.ceil((num_frames - 0.5) / spacing)


def iter_clips(
    frames: Iterable[np.ndarray], wanted: Iterator[int], clip_indices: Callable[[int], np.ndarray]
) -> Iterator[Clip]:
    """Yields the clip of each key frame as soon as its last frame is read.

    A frame stays in memory only while a clip that has begun needs it, so that memory depends on the extent of a clip
    and not on the length of the video. Clips that reach beyond the end of the video repeat its last frame.

    Args:
        frames: frames of the video in BGR order.
        wanted: ascending indices of the key frames, without end.
        clip_indices: maps a key frame to the ascending indices of its clip's frames; those of the first frames are
            clamped to 0 already.
    """
    begun: deque[Clip] = deque()
    coming = _empty_clip(next(wanted), clip_indices)
    index, rgb = -1, None
    for index, frame in enumerate(frames):
        while coming.first <= index:
            begun.append(coming)
            coming = _empty_clip(next(wanted), clip_indices)
        if begun:
            rgb = _feed(begun, index, frame)
        while begun and begun[0].complete:
            yield begun.popleft()
    if begun and rgb is None:
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    # The clip to come begins behind the last frame, so it is not clamped at frame 0.
    extent = coming.indices[-1] - coming.indices[0] + 1
    if extent > index + 1:
        warnings.warn(
            f'the video has {index + 1} frames, less than the {extent} that a clip covers: its last frame is repeated'
        )
    for clip in begun:
        if clip.key_frame <= index:
            clip.frames.extend([rgb] * (len(clip.indices) - len(clip.frames)))
            clip.indices = np.minimum(clip.indices, index)
            yield clip


def _empty_clip(key_frame: int, clip_indices: Callable[[int], np.ndarray]) -> Clip:
    return Clip(key_frame, clip_indices(key_frame))


def _feed(clips: Iterable[Clip], index: int, frame: np.ndarray) -> np.ndarray | None:
    """Adds a frame to the clips that hold it, as often as they do; they share one copy in RGB order.

    Returns:
        That copy, None where no clip needs the frame.
    """
    rgb = None
    for clip in clips:
        times = int((clip.indices == index).sum())
        if not times and clip.key_frame != index:
            continue
        if rgb is None:
            rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        clip.frames.extend([rgb] * times)
        if clip.key_frame == index:
            clip.key_image = rgb
    return rgb

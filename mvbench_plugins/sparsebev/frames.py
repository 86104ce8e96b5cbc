"""Frames of a surround-camera recording: their geometry, and which of them go with a key frame.

Positions count along a list of earlier camera sets, newest first (or later ones, oldest first), in which every
``key_interval``-th set is a key frame: 6 at nuScenes' 12 Hz with five sets between two key frames. The published
intervals are given in twelfths of a second; where a recording has another number of sets between key frames, they are
turned into the nearest number of its own steps, at least 1.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Cameras in the order of all arrays and lists.
CAMERAS = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')
#: How other frames are lined up behind the key frame.
ORDERS = ('past', 'future', 'interleaved')
_TRAIN_INTERVALS = (4, 8)  # of a training step, in twelfths of a second
_KEY_INTERVAL = 6  # of nuScenes, in twelfths of a second
_RIGID = 1e-3  # how far a rotation may be from an orthogonal matrix
_LAST_ROW = 1e-6  # how far the last row of a pose or of intrinsics may be from 0 and 1
_REGULAR = 1e-6  # least determinant of intrinsics, which are some hundred pixels squared


@dataclass(frozen=True, eq=False)
class CameraSet:
    """What the cameras took at one time.

    Attributes:
        img_paths: file of each camera.
        timestamps: seconds, float64 ``[6]``.
        cam2img: intrinsics, float64 ``[6, 3, 3]``.
        cam2global: pose of each camera in the world at its own time, float64 ``[6, 4, 4]``.
    """

    img_paths: tuple[str, ...]
    timestamps: np.ndarray
    cam2img: np.ndarray
    cam2global: np.ndarray

    def lidar2img(self, lidar2global: np.ndarray) -> np.ndarray:
        """Projections of LiDAR coordinates, which may be those of another time, into these images.

        Args:
            lidar2global: pose of the LiDAR ``[4, 4]``.

        Returns:
            float64 ``[6, 4, 4]``; the product with ``(x, y, z, 1)`` is ``(u * depth, v * depth, depth, 1)``.
        """
        intrinsics = np.tile(np.eye(4), (len(self.cam2img), 1, 1))
        intrinsics[:, :3, :3] = self.cam2img
        return intrinsics @ np.linalg.inv(self.cam2global) @ lidar2global


class Recordings:
    """Camera sets of all samples of recorded scenes.

    They are kept as bytes, which worker processes share; each reading makes objects of its own.

    Args:
        scenes: of each sample, the token of its scene; the samples of a scene stand in a row, in the order of time.
        sets: of each sample, the camera sets of its key frame and of the time before it, newest first.
    """

    def __init__(self, scenes: Sequence[str], sets: Sequence[Sequence[CameraSet]]) -> None:
        parts = [pickle.dumps(list(each)) for each in sets]
        self._scenes = list(scenes)
        self._ends = np.cumsum([0, *map(len, parts)])
        self._bytes = np.frombuffer(b''.join(parts), np.uint8)

    def around(self, position: int, reach: int) -> tuple[CameraSet, list[CameraSet], list[CameraSet]]:
        """What surrounds a sample in its scene.

        Args:
            position: of the sample among all samples.
            reach: length from which on the lists are not continued.

        Returns:
            The key frame; earlier camera sets, newest first; later ones, oldest first. Both lists end with a key frame.
        """
        key_frame, *between = self._sets(position)
        past: list[CameraSet] = []
        for other in self._scene(position, -1):
            if len(past) >= reach:
                break
            before, *earlier = self._sets(other)
            past += [*between, before]
            between = earlier
        future: list[CameraSet] = []
        for other in self._scene(position, 1):
            if len(future) >= reach:
                break
            future += self._sets(other)[::-1]
        return key_frame, past, future

    def _scene(self, position: int, step: int) -> Iterator[int]:
        """Positions from a sample to an end of its scene."""
        other = position + step
        while 0 <= other < len(self._scenes) and self._scenes[other] == self._scenes[position]:
            yield other
            other += step

    def _sets(self, position: int) -> list[CameraSet]:
        return pickle.loads(memoryview(self._bytes[self._ends[position] : self._ends[position + 1]]))


def as_numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """A value of a json file as float64 of a shape; None if it is something else, or not finite."""
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.shape == shape and np.isfinite(numbers).all() else None


def are_poses(matrices: np.ndarray) -> np.ndarray:
    """Which of ``[..., 4, 4]`` are rigid poses: a rotation, which is no reflection, and a translation."""
    rotations = matrices[..., :3, :3]
    with np.errstate(invalid='ignore', over='ignore'):  # NaN and infinity are wrong, too
        error = np.abs(rotations @ np.swapaxes(rotations, -1, -2) - np.eye(3)).max((-1, -2))
        is_rotation = (error < _RIGID) & (np.linalg.det(rotations) > 0)
        return is_rotation & _ends_with(matrices, (0, 0, 0, 1)) & np.isfinite(matrices).all((-1, -2))


def are_intrinsics(matrices: np.ndarray) -> np.ndarray:
    """Which of ``[..., 3, 3]`` are regular camera matrices with focal lengths above 0 pixels."""
    with np.errstate(invalid='ignore', over='ignore'):
        is_regular = (matrices[..., 0, 0] > 0) & (matrices[..., 1, 1] > 0) & (np.linalg.det(matrices) > _REGULAR)
        return is_regular & _ends_with(matrices, (0, 0, 1)) & np.isfinite(matrices).all((-1, -2))


def _ends_with(matrices: np.ndarray, row: tuple[int, ...]) -> np.ndarray:
    return np.abs(matrices[..., -1, :] - row).max(-1) < _LAST_ROW


def key_frame_positions(wanted: int, available: int, key_interval: int) -> list[int]:
    """Positions for a test: key frames, clamped to the end of the list.

    Args:
        wanted: number of frames.
        available: length of the list, at least 1.
        key_interval: steps from key frame to key frame.
    """
    return _every(key_interval, wanted, available)


def drawn_positions(wanted: int, available: int, key_interval: int) -> list[int]:
    """Positions for training on the past, every so many sets, drawn anew each time from numpy's global generator.

    The interval is at most 8 twelfths of a second, or what the list has room for, and at least 4 or that. A list that
    is no longer than ``wanted`` is taken whole, and its end repeated.

    Args:
        wanted: number of frames.
        available: length of the list, at least 1.
        key_interval: steps from key frame to key frame.
    """
    if available <= wanted:
        return _every(1, wanted, available)
    low, high = train_intervals(key_interval)
    high = min(high, available // wanted)
    return _every(np.random.randint(min(low, high), high + 1), wanted, available)


def draw_interval(key_interval: int) -> int:
    """Interval for training with the future, from numpy's global generator: the same to both sides, never shortened."""
    low, high = train_intervals(key_interval)
    return int(np.random.randint(low, high + 1))


def train_intervals(key_interval: int) -> tuple[int, int]:
    """Shortest and longest interval of a training step, in steps of the recording."""
    low, high = (max(1, round(steps * key_interval / _KEY_INTERVAL)) for steps in _TRAIN_INTERVALS)
    return low, high


def choose_frames(
    past: int, future: int, num_frames: int, order: str, key_interval: int, test_mode: bool
) -> list[tuple[str, int]]:
    """Choose the frames that follow the key frame.

    Args:
        past: length of the list of earlier sets; without any, the key frame takes their place.
        future: the same of later sets.
        num_frames: number of frames with the key frame.
        order: ``'past'``: newest first; ``'future'``: all earlier ones, then all later ones; ``'interleaved'``: one
            earlier, one later, and so on.
        key_interval: steps from key frame to key frame.
        test_mode: key frames only, instead of a drawn interval.

    Returns:
        ``num_frames - 1`` pairs of a list's name, ``'past'``, ``'future'`` or ``'key'``, and the position in it.
    """
    if num_frames == 1:
        return []
    if order == 'past':
        choose = key_frame_positions if test_mode else drawn_positions
        return [('past', i) for i in choose(num_frames - 1, past, key_interval)] if past else _key(num_frames - 1)
    interval = key_interval if test_mode else draw_interval(key_interval)
    each = (num_frames - 1) // 2
    before, after = (
        [(name, i) for i in _every(interval, each, length)] if length else _key(each)
        for name, length in (('past', past), ('future', future))
    )
    if order == 'future':
        return before + after
    return [frame for pair in zip(before, after, strict=True) for frame in pair]


def _every(interval: int, wanted: int, available: int) -> list[int]:
    return [min((k + 1) * interval, available) - 1 for k in range(wanted)]


def _key(count: int) -> list[tuple[str, int]]:
    return [('key', 0)] * count

"""Videos of every kind as one stream of frames, read from front to back: each is decoded once, none is kept."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from mvbench_plugins.common.natural_order import natural_key

Source: TypeAlias = str | Path | int | np.ndarray

DEFAULT_FPS = 30.0
_IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_VIDEOS = ('.mp4', '.mkv', '.webm', '.avi', '.mov', '.m4v', '.mpg', '.mpeg')


class VideoSource:
    """One video that is read once, as a context manager and an iterator of BGR frames, uint8 ``[h, w, 3]``.

    Args:
        name: short name, used as ``video_id``.
        origin: what the user gave, for messages.
        frames: the frames; a generator, whose ``close`` frees what it reads from.
        fps: frame rate.
        num_frames: how many frames are expected, None where nobody knows. Headers may be wrong: good for a progress
            bar only.
        live: whether the stream has no end of its own, as that of a camera.

    Attributes:
        size: (width, height) in pixels.
        num_read: how many frames were handed out so far.

    Raises:
        ValueError: there is no first frame.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        frames: Generator[np.ndarray, None, None],
        fps: float,
        num_frames: int | None = None,
        live: bool = False,
    ) -> None:
        self.name, self.origin, self.fps, self.num_frames, self.live = name, origin, fps, num_frames, live
        self._frames = frames
        self._first = next(frames, None)
        if self._first is None:
            raise ValueError(f'{origin} has no frame that can be decoded; copy, convert or record it again')
        self.size = (self._first.shape[1], self._first.shape[0])
        self.num_read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        first, self._first = self._first, None
        for frame in chain([first], self._frames):
            if (frame.shape[1], frame.shape[0]) != self.size:
                raise ValueError(
                    f'{self.origin}: frame {self.num_read} (counted from 0) has {frame.shape[1]} x {frame.shape[0]} '
                    f'pixels, the first has {self.size[0]} x {self.size[1]}. All frames of a video must have one size.'
                )
            self.num_read += 1
            yield frame
        # A header may be off by a few frames; more means that the decoder gave up.
        if self.num_frames is not None and self.num_read < 0.95 * self.num_frames - 2:
            warnings.warn(
                f'{self.origin}: decoding ended at frame {self.num_read} of {self.num_frames}; the file may be '
                'damaged, the rest of it is not looked at'
            )

    def describe(self, source: object) -> dict[str, Any]:
        """What the json file of results tells of the video: frames are those read so far.

        Args:
            source: what the user gave.
        """
        name = str(source) if isinstance(source, (str, Path, int, np.integer)) else self.origin
        width, height = self.size
        return dict(source=name, width=width, height=height, fps=self.fps, frames=self.num_read)

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()


def open_video(source: Source, fps: float | None = None) -> VideoSource:
    """Opens a video of any kind.

    Args:
        source: video file, folder of frames (in the order of the numbers in their names), camera index, URL of a
            stream (``rtsp://...``), or uint8 array ``[t, h, w, 3]`` in BGR order, as cv2 and mmdet have it.
        fps: frame rate; default: that of the file or camera, and 30 for folders, arrays and cameras that tell none.

    Raises:
        FileNotFoundError: no such file or folder.
        TypeError, ValueError: not readable, empty, no video, or an array of another shape or type.
    """
    if fps is not None and not 0 < fps < float('inf'):
        raise ValueError(f'fps: found {fps}, expected a positive number of frames per second')
    if isinstance(source, np.ndarray):
        return _open_array(source, fps)
    if isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        return _open_camera(int(source), fps)
    if not isinstance(source, (str, Path)):
        raise TypeError(
            f'cannot read a video from {type(source).__name__}: expected the path of a video file or of a folder of '
            'frames, the index of a camera, the URL of a stream, or a uint8 array [t, h, w, 3]. One video per call.'
        )
    path = Path(source).expanduser()
    if '://' in str(source):
        return _open_stream(str(source), fps)
    if path.is_dir():
        return _open_folder(path, fps)
    if not path.is_file():
        raise FileNotFoundError(f'video {path} does not exist: check the path (current folder: {Path.cwd()})')
    return _open_file(path, fps)


def image_files(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of the numbers in their names."""
    return sorted(
        (file for file in folder.iterdir() if file.suffix.lower() in _IMAGES), key=lambda file: natural_key(file.name)
    )


def _open_array(array: np.ndarray, fps: float | None) -> VideoSource:
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        raise ValueError(
            f'array of shape {array.shape} and type {array.dtype}, expected uint8 [t, h, w, 3] in BGR order with at '
            'least one frame'
        )
    frames = (frame for frame in array)
    return VideoSource('array', f'array of shape {array.shape}', frames, fps or DEFAULT_FPS, len(array))


def _open_camera(index: int, fps: float | None) -> VideoSource:
    capture = cv2.VideoCapture(index) if index >= 0 else None
    if capture is None or not capture.isOpened():
        raise ValueError(f'camera {index} cannot be opened: is it connected, free and allowed? The first one is 0.')
    fps = fps or _told_fps(capture) or DEFAULT_FPS
    return VideoSource(f'camera{index}', f'camera {index}', _captured(capture), fps, live=True)


def _open_stream(url: str, fps: float | None) -> VideoSource:
    capture = cv2.VideoCapture(url)
    if not capture.isOpened():
        raise ValueError(f'stream {url} cannot be opened: check the address')
    fps = fps or _told_fps(capture) or DEFAULT_FPS
    return VideoSource(Path(url).stem, f'stream {url}', _captured(capture), fps, live=True)


def _open_file(path: Path, fps: float | None) -> VideoSource:
    if path.suffix.lower() in _IMAGES:
        raise ValueError(f'{path} is an image: expected a video file, or the folder that holds the frames')
    size = path.stat().st_size
    # OpenCV takes some names for a pattern of numbered images; a file is one video.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not size or not capture.isOpened():
        raise ValueError(f'video {path} ({size} bytes) cannot be decoded: is it complete, and a video? Convert it.')
    fps = fps or _told_fps(capture)
    if not fps:
        raise ValueError(f'video {path} does not tell its frame rate: give it as fps=... (--fps)')
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return VideoSource(path.stem, f'video {path}', _captured(capture), fps, count if count > 0 else None)


def _open_folder(path: Path, fps: float | None) -> VideoSource:
    files = image_files(path)
    if not files:
        videos = sorted(f.name for f in path.iterdir() if f.suffix.lower() in _VIDEOS)
        found = f'{len(videos)} videos such as {videos[0]}: give one of them' if videos else 'no image'
        raise ValueError(f'folder {path} holds {found}. Expected the frames of one video ({", ".join(_IMAGES)}).')
    numbers = [int(number[-1]) for number in (re.findall(r'\d+', f.stem) for f in files) if number]
    gaps = [(a, b) for a, b in zip(numbers, numbers[1:]) if b - a > numbers[1] - numbers[0] > 0]
    if gaps:
        warnings.warn(
            f'folder {path}: frames are missing between number {gaps[0][0]} and {gaps[0][1]}, and in '
            f'{len(gaps) - 1} other places; the files that are there count as consecutive frames'
        )
    return VideoSource(path.name, f'folder {path}', _loaded(files), fps or DEFAULT_FPS, len(files))


def _told_fps(capture: cv2.VideoCapture) -> float | None:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < float('inf') else None


def _captured(capture: cv2.VideoCapture) -> Generator[np.ndarray, None, None]:
    try:
        while True:
            success, frame = capture.read()
            if not success:
                return
            yield frame
    finally:
        capture.release()


def _loaded(files: list[Path]) -> Generator[np.ndarray, None, None]:
    for file in files:
        frame = cv2.imread(str(file))
        if frame is None:
            raise ValueError(f'frame {file} ({file.stat().st_size} bytes) cannot be decoded: extract the frames again')
        yield frame

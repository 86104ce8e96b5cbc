"""An annotated copy of a video, written while the video is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvbench_plugins.apis.draw_actions import enlarge, enlargement
from mvbench_plugins.apis.result_files import open_video_file


class AnnotatedVideoWriter:
    """Writes every frame of a video, with the detections of the key frame next to it, at the original rate.

    The size is the original one, too; small videos are enlarged as the drawings are.

    Frames pass through :meth:`watch` on their way to the detector and wait until the detections of their key frame come
    in by :meth:`add`. What waits is bounded by the extent of a clip plus ``batch_size`` intervals between key frames.
    Where detections come much later, frames are read a second time, for :meth:`write_all`. Closing writes what still
    waits and finishes the file, after an interrupt too.

    Args:
        path: mp4 file; its folder is made.
        size: (width, height) of the frames. The codec drops the last column or row of an odd size.
        fps: frame rate.
        hold: how many frames before and after its key frame a detection is shown: half of the distance of key frames.
        draw: gets a frame and the detections of a key frame, returns the frame to write, enlarged by ``enlargement``.

    Raises:
        ValueError: OpenCV cannot write there.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float,
        hold: float,
        draw: Callable[[np.ndarray, Any], np.ndarray],
    ) -> None:
        self._factor = enlargement(size)
        self._writer = open_video_file(path, (size[0] * self._factor, size[1] * self._factor), fps)
        self._hold, self._draw = hold, draw
        self._waiting: deque[np.ndarray] = deque()
        self._written = 0
        self._shown_until = 0.0
        self._detections: Any = None

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the frames on, and remembers each until it is written."""
        for frame in frames:
            self._waiting.append(frame)
            self._write_shown()
            yield frame

    def add(self, key_frame: int, detections: Any) -> None:
        """Takes the detections of the next key frame (0-based index) and writes the frames that they decide."""
        self._detections, self._shown_until = detections, key_frame + self._hold
        self._write_shown()

    def write_all(self, frames: Iterable[np.ndarray], found: Iterable[tuple[int, Any]]) -> None:
        """Writes a video whose detections are all known: (key frame, detections), in the order of time."""
        found = iter(found)
        for _ in self.watch(frames):
            while self._waiting and (entry := next(found, None)) is not None:
                self.add(*entry)
            self._write_waiting()

    def close(self) -> None:
        """Writes the frames that wait; those too far from any key frame stay without detections. Finishes the file."""
        try:
            self._write_waiting()
        finally:
            self._writer.release()

    def __enter__(self) -> AnnotatedVideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_shown(self) -> None:
        while self._waiting and self._written < self._shown_until:
            self._write(self._draw(self._waiting.popleft(), self._detections))

    def _write_waiting(self) -> None:
        while self._waiting:
            self._write(enlarge(self._waiting.popleft(), self._factor))

    def _write(self, frame: np.ndarray) -> None:
        self._writer.write(frame)
        self._written += 1

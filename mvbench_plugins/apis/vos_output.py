"""What is written of segmented objects: an overlay video or pictures of it, index maps, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mvbench_plugins.apis.result_files import write_json, write_picture
from mvbench_plugins.apis.video_reader import VideoSource
from mvbench_plugins.apis.video_writer import AnnotatedVideoWriter
from mvbench_plugins.apis.vos_drawing import draw_objects
from mvbench_plugins.common.palette_png import write_index_map

KINDS = ('overlay', 'masks', 'frames', 'json')
OVERLAY = 'overlay.mp4'


def check_output(out_dir: Path, save: Sequence[str], inputs: Iterable[Path]) -> None:
    """Refuses outputs that could not be made, or that would overwrite what the user has given.

    Args:
        out_dir: folder to write into.
        save: what to write, of :data:`KINDS`.
        inputs: the video or its frames, and the files of given masks.

    Raises:
        ValueError: naming the option.
    """
    unknown = [kind for kind in save if kind not in KINDS]
    if isinstance(save, str) or unknown or not save:
        raise ValueError(f'save: found {save!r}, expected some of {", ".join(KINDS)}')
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f'out_dir: {out_dir} is a file, expected a folder')
    written = {(out_dir / kind).resolve() for kind in ('masks', 'frames') if kind in save}
    overlay = (out_dir / OVERLAY).resolve() if 'overlay' in save else None
    for file in map(Path.resolve, inputs):
        if file.parent in written or file == overlay:
            raise ValueError(f'out_dir: {out_dir} holds the input {file}, which would be overwritten; choose another')


def to_record(frame: int, name: str, index_map: np.ndarray) -> dict[str, Any]:
    """Lists the visible objects of a frame.

    Args:
        frame: 0-based index.
        name: of the frame.
        index_map: uint8 ``[h, w]``.

    Returns:
        ``frame``, ``name`` and ``objects``: ``id``, ``area`` (pixels) and ``box`` (x1, y1, x2, y2 in pixels, x2 and y2
        exclusive).
    """
    objects = []
    areas = np.bincount(index_map.ravel(), minlength=256)
    for label in np.flatnonzero(areas[1:]) + 1:
        x, y, width, height = cv2.boundingRect((index_map == label).astype(np.uint8))
        objects.append(dict(id=int(label), area=int(areas[label]), box=[x, y, x + width, y + height]))
    return dict(frame=frame, name=name, objects=objects)


class VOSWriter:
    """Writes frame after frame into the folder of a video; a context manager that finishes the overlay video.

    Args:
        out_dir: folder, which is made.
        save: what to write, of :data:`KINDS`.
        video: the video, for size and frame rate of its copy.
        palette: uint8 ``[256, 3]``, RGB colours by label.

    Attributes:
        overlay: path of the overlay video, None without.

    Raises:
        ValueError: OpenCV cannot write there.
    """

    def __init__(self, out_dir: Path, save: Sequence[str], video: VideoSource, palette: np.ndarray) -> None:
        self._out_dir, self._save, self._palette = out_dir, set(save), palette
        self._records: list[dict] = []
        self._stack = ExitStack()
        out_dir.mkdir(parents=True, exist_ok=True)
        for kind in self._save & {'masks', 'frames'}:
            (out_dir / kind).mkdir(exist_ok=True)
        self.overlay: str | None = None
        if 'overlay' in self._save:
            self.overlay = str(out_dir / OVERLAY)
            writer = AnnotatedVideoWriter(self.overlay, video.size, video.fps, 0.5, lambda _, picture: picture)
            self._video = self._stack.enter_context(writer)

    def write(self, record: dict[str, Any], frame: np.ndarray, index_map: np.ndarray) -> None:
        """Writes a frame.

        Args:
            record: see :func:`to_record`.
            frame: uint8 ``[h, w, 3]`` in BGR order.
            index_map: uint8 ``[h, w]``.

        Raises:
            ValueError: OpenCV cannot write there.
        """
        if 'masks' in self._save:
            write_index_map(self._out_dir / 'masks' / f'{record["name"]}.png', index_map, self._palette)
        if 'json' in self._save:
            self._records.append(record)
        if not self._save & {'overlay', 'frames'}:
            return
        picture = draw_objects(frame, index_map, self._palette)
        if 'overlay' in self._save:
            self._video.write_all([frame], [(record['frame'], picture)])
        if 'frames' in self._save:
            write_picture(self._out_dir / 'frames' / f'{record["name"]}.jpg', picture)

    def finish(self, info: dict[str, Any], complete: bool) -> None:
        """Writes the summary, of the frames until now.

        Args:
            info: what to tell of the video.
            complete: whether they are all.
        """
        if 'json' in self._save:
            content = dict(video=info, complete=complete, frames=self._records)
            write_json(self._out_dir / 'objects.json', content)

    def __enter__(self) -> VOSWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

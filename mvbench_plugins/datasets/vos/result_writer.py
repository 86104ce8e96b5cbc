"""Predicted masks as files: one PNG with a palette a frame, in the folders and the archive that a benchmark expects."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mvbench_plugins.common.palette_png import read_palette, write_index_map

#: Folder of the archive that holds the videos' folders, for each benchmark.
LAYOUTS = {
    'davis': '',
    'youtube_vos': 'Annotations',
    'mose': '',
    'lvos': 'Annotations',
    'vost': '',
}


class ResultWriter:
    """Writes ``<out_dir>/[Annotations/]<video>/<frame>.png``, and all of it as ``<out_dir>.zip``.

    Threads and processes may write to one folder at the same time.

    Args:
        out_dir: Folder of the results; made when the first mask is written.
        layout: Name of the benchmark, one of :data:`LAYOUTS`.

    Raises:
        ValueError: No such layout.
        NotADirectoryError: ``out_dir`` is a file.
    """

    def __init__(self, out_dir: str | os.PathLike, layout: str = 'davis') -> None:
        if layout not in LAYOUTS:
            raise ValueError(f'layout: found {layout!r}, expected one of {sorted(LAYOUTS)}')
        self.out_dir = Path(out_dir)
        self.layout = layout
        if self.out_dir.exists() and not self.out_dir.is_dir():
            raise NotADirectoryError(f'{self.out_dir} is a file, expected a folder or a new name; choose another one')

    def write(self, video: str, frame: str, mask: np.ndarray, palette_path: str | os.PathLike | None = None) -> str:
        """Writes the mask of a frame.

        Args:
            video: Name of the video.
            frame: Name of the frame, without a suffix.
            mask: Labels, uint8 ``(height, width)``.
            palette_path: Annotation of the video whose palette is used; the common one by default.

        Returns:
            The file's path relative to ``out_dir``, with slashes.

        Raises:
            ValueError: A mask of another type or shape.
            OSError: The file cannot be written.
        """
        name = Path(LAYOUTS[self.layout], video, f'{frame}.png')
        path = self.out_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_index_map(path, mask, _palette(None if palette_path is None else os.fspath(palette_path)))
        return name.as_posix()

    def pack(self, names: Iterable[str]) -> Path:
        """Writes files of the folder, as :meth:`write` names them, into the archive for the benchmark's server.

        Only these, so that what an earlier run left in the folder is not handed in.

        Returns:
            Path of the archive.
        """
        path = self.out_dir.with_name(f'{self.out_dir.name}.zip')
        # Not compressed again: PNG files are.
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
            for name in sorted(set(names)):
                archive.write(self.out_dir / name, name)
        return path


@functools.lru_cache(maxsize=8)
def _palette(path: str | None) -> np.ndarray:
    """Palette of an annotation; all frames of a video ask for the same one."""
    return read_palette(path)

"""The output folder of a toy data set: made once, never mixed with other files, restarted when it was interrupted."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

MARKER = 'toy.json'
JPEG_QUALITY = 95
_DRAFT = f'{MARKER}.part'  # a marker that is being written


def write_image(path: Path, picture: np.ndarray) -> None:
    """Writes a picture in the format of its suffix, ``.png`` or ``.jpg``.

    Through Python's file functions: OpenCV's own report a full disk by a return value only.
    """
    options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if path.suffix == '.jpg' else ()
    path.write_bytes(cv2.imencode(path.suffix, picture, options)[1].tobytes())


class ToyFolder:
    """A folder that one toy data set has to itself.

    A file ``toy.json`` records which arguments the set was made with and whether it is complete. It is first in the
    folder and says so last, so that an interrupted set is known as ours and not taken for whole.

    Args:
        out: The folder; it need not exist.
        arguments: What determines the content, as plain JSON values.
        parts: Names of the sub-folders that hold the set.
        files: Names of the files beside them that belong to it.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds anything else than a set of these arguments or an unfinished set.
    """

    def __init__(
        self, out: str | os.PathLike, arguments: dict, parts: tuple[str, ...], files: tuple[str, ...] = ()
    ) -> None:
        self.root = Path(out)
        self.arguments = arguments
        self.parts = parts
        self.files = files
        self._refuse_foreign()

    def is_complete(self) -> bool:
        """Whether the whole set is there, down to the number of its files."""
        marker = self._read_marker()
        return marker is not None and bool(marker['complete']) and marker['files'] == self._count_files()

    def begin(self) -> None:
        """Removes what an interrupted run left and makes the empty sub-folders."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._write_marker(complete=False)
        for part in self.parts:
            if (self.root / part).exists():
                shutil.rmtree(self.root / part)
            (self.root / part).mkdir()
        for name in self.files:
            (self.root / name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Records that the set is complete."""
        self._write_marker(complete=True)

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(f'{self.root} is a file, expected a folder or a new name; choose another one')
        if not self.root.is_dir() or not set(os.listdir(self.root)) - {_DRAFT}:
            return
        marker = self._read_marker()
        if marker is None:
            raise FileExistsError(
                f'{self.root} is not empty and holds no toy data set (no valid {MARKER}); choose another folder'
            )
        if marker['complete'] and marker['arguments'] != self.arguments:
            raise FileExistsError(
                f'{self.root / MARKER}: the folder holds a toy data set made with {marker["arguments"]}, '
                f'asked for is {self.arguments}; choose another folder or delete this one'
            )

    def _read_marker(self) -> dict | None:
        try:
            marker = json.loads((self.root / MARKER).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return None
        return marker if isinstance(marker, dict) and {'arguments', 'complete', 'files'} <= marker.keys() else None

    def _write_marker(self, complete: bool) -> None:
        marker = {'arguments': self.arguments, 'complete': complete, 'files': self._count_files() if complete else 0}
        # Written aside and renamed: a marker is never half there, or the folder would look foreign.
        draft = self.root / _DRAFT
        draft.write_text(json.dumps(marker, indent=2) + '\n', encoding='utf-8')
        os.replace(draft, self.root / MARKER)

    def _count_files(self) -> int:
        inside = sum(len(names) for part in self.parts for _, _, names in os.walk(self.root / part))
        return inside + sum((self.root / name).is_file() for name in self.files)


def begin_toy_folder(
    out: str | os.PathLike,
    content: str,
    version: int,
    numbers: dict[str, tuple[int, int]],
    *,
    size: tuple[int, int] | None = None,
    least_size: tuple[int, int] = (1, 1),
    parts: tuple[str, ...],
    files: tuple[str, ...] = (),
) -> ToyFolder | None:
    """Checks the numbers that a set is asked for with, and makes its folder ready to be filled.

    Args:
        out: The folder; it need not exist.
        content: Name of the format.
        version: Of the content: another one when equal arguments give other files.
        numbers: For each name the number and the least one that is allowed.
        size: ``(width, height)`` of the pictures, if one asks for it.
        least_size: The least one that is allowed.
        parts: Names of the sub-folders that hold the set.
        files: Names of the files beside them that belong to it.

    Returns:
        The folder with empty sub-folders; None if the whole set is there.

    Raises:
        ValueError: If a number is too small.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds anything else than a set of these arguments or an unfinished set.
    """
    sides = {} if size is None else dict(zip(('width', 'height'), zip(size, least_size)))
    for name, (value, least) in (numbers | sides).items():
        if value < least:
            raise ValueError(f'{name}: found {value}, expected an integer of at least {least}')
    arguments: dict = {'format': content, 'version': version}
    if size is not None:
        arguments['size'] = [*size]
    folder = ToyFolder(out, arguments | {name: value for name, (value, _) in numbers.items()}, parts, files)
    if folder.is_complete():
        return None
    folder.begin()
    return folder

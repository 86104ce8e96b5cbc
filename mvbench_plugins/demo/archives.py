"""Unpacking an archive that a stranger has made: camera pictures with calibration files, and nothing else."""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mvbench_plugins.demo.uploads import SmallReads, check_picture

CALIBRATION = 'calibration.json'
_SUFFIXES = ('.json', '.jpg', '.jpeg', '.png')
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others, Python unpacks any amount at once
_MAX_FILES = 2000
_MAX_DEPTH = 20  # folders in folders
_MAX_CALIBRATION = 1_000_000  # bytes; Python's objects take up to thirty times as much as their JSON
_MAX_PIXELS = 12_000_000  # of a picture: a model may look at six of them at eight moments
_CHUNK = 1 << 20


def unpack_cameras(archive: Path, folder: Path, max_bytes: int) -> Path:
    """Unpacks a frame, or a drive of several frames.

    Args:
        archive: zip file with the pictures of six cameras and a ``calibration.json``, or with such folders.
        folder: empty folder to unpack into.
        max_bytes: most bytes that all files may have together, unpacked.

    Returns:
        ``folder``, or the one folder in it that holds everything.

    Raises:
        ValueError: it is no such archive, reaches out of the folder, or is too large; the message names the entry.
    """
    try:
        with SmallReads(archive) as file, zipfile.ZipFile(file) as content:
            for entry, target in _checked(content, archive.name, folder, max_bytes):
                max_bytes -= _write(content, archive.name, entry, target, max_bytes)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        EOFError,
        OSError,
        UnicodeDecodeError,
        zlib.error,
    ) as error:
        raise ValueError(f'{archive.name} cannot be unpacked: expected a complete zip file ({error})') from error
    root = folder
    while not (root / CALIBRATION).is_file() and len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
        root = inside[0]  # archives often hold the folder itself
    calibrations = sorted(root.rglob(CALIBRATION))
    if not calibrations:
        raise ValueError(
            f'{archive.name}: found no {CALIBRATION}, expected one beside the pictures of six cameras, or a folder '
            'for each frame with these'
        )
    for path in calibrations:
        _check_images(path, folder)
    return root


def _checked(content: zipfile.ZipFile, name: str, folder: Path, max_bytes: int) -> list[tuple[zipfile.ZipInfo, Path]]:
    """The files of an archive and where to write them; all are looked at before the first is written."""
    files: dict[Path, zipfile.ZipInfo] = {}
    for entry in content.infolist():
        place = PurePosixPath(entry.filename)
        if entry.is_dir() or '__MACOSX' in place.parts or place.name == '.DS_Store':
            continue
        if len(place.parent.parts) > _MAX_DEPTH:
            raise ValueError(
                f'{name}: found an entry in {len(place.parent.parts)} folders, expected {_MAX_DEPTH} at most'
            )
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if place.is_absolute() or '..' in place.parts or set(entry.filename) & set('\\:\0'):
            raise ValueError(f'{name}: entry {entry.filename!r} reaches out of the archive, expected a relative path')
        if kind not in (0, stat.S_IFREG):
            raise ValueError(f'{name}: entry {entry.filename!r} is a link or a device, expected plain files')
        if entry.flag_bits & 1:
            raise ValueError(f'{name}: entry {entry.filename!r} is encrypted, expected plain files')
        if entry.compress_type not in _METHODS:
            raise ValueError(
                f'{name}: entry {entry.filename!r} is compressed by a method that is not read here, expected "deflate"'
            )
        if place.name == CALIBRATION and entry.file_size > _MAX_CALIBRATION:
            raise ValueError(
                f'{name}: entry {entry.filename!r} has {entry.file_size} bytes, expected {_MAX_CALIBRATION} at most'
            )
        if place.suffix.lower() not in _SUFFIXES:
            raise ValueError(f'{name}: found entry {entry.filename!r}, expected {", ".join(_SUFFIXES)} only')
        target = folder / place
        if target in files:
            raise ValueError(f'{name}: entry {entry.filename!r} is there twice')
        files[target] = entry
    if len(files) > _MAX_FILES:
        raise ValueError(f'{name}: found {len(files)} files, expected {_MAX_FILES} at most')
    total = sum(entry.file_size for entry in files.values())
    if total > max_bytes:
        raise ValueError(f'{name}: found {total} bytes of unpacked files, expected {max_bytes} at most')
    return [(entry, target) for target, entry in files.items()]


def _write(content: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo, target: Path, max_bytes: int) -> int:
    """Unpacks one file and returns its size; the sizes that an archive tells may be wrong, so bytes are counted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with content.open(entry) as source, target.open('wb') as file:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                raise ValueError(f'{name}: entry {entry.filename!r} unpacks to more bytes than are allowed')
            file.write(chunk)
    return written


def _check_images(calibration: Path, folder: Path) -> None:
    """Refuses pictures elsewhere on this machine; everything else of the file is checked by its reader."""
    try:
        content = json.loads(calibration.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{calibration.relative_to(folder)} is not JSON: {error}') from error
    cameras = content.get('cameras') if isinstance(content, dict) else None
    for camera, entry in cameras.items() if isinstance(cameras, dict) else ():
        image = entry.get('image') if isinstance(entry, dict) else None
        if not isinstance(image, str):
            continue
        path = (calibration.parent / image).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(
                f'{calibration.relative_to(folder)}: cameras.{camera}.image: found {image!r}, expected a picture in '
                'the archive'
            )
        if path.is_file():
            check_picture(path, _MAX_PIXELS)

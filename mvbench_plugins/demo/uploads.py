"""Checks of what was uploaded, by content and before any decoder sees it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
VIDEOS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm')
CHECKPOINTS = ('.pth', '.pt')

_PICTURE_FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP')
_MAX_PIXELS = 50_000_000  # of a picture: 150 MB once it is decoded
_CONTAINERS = {(4, b'ftyp'): 'mp4', (8, b'AVI '): 'avi', (0, b'\x1a\x45\xdf\xa3'): 'mkv'}
_OLD_QUICKTIME = (b'moov', b'mdat', b'wide', b'free', b'skip')


def check_suffix(path: Path, expected: tuple[str, ...]) -> None:
    """Refuses a file of another kind.

    Raises:
        ValueError: naming the file.
    """
    if path.suffix.lower() not in expected:
        raise ValueError(f'{path.name}: found a {path.suffix or "nameless"} file, expected {", ".join(expected)}')
    if path.stat().st_size == 0:
        raise ValueError(f'{path.name} is empty: upload it again')


def check_picture(path: Path) -> None:
    """Refuses what is no picture, or one too large to decode here.

    Raises:
        ValueError: naming the file.
    """
    check_suffix(path, PICTURES)
    try:
        with Image.open(path, formats=_PICTURE_FORMATS) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(
            f'{path.name} is not a picture that can be read here: expected {", ".join(_PICTURE_FORMATS)} ({error})'
        ) from error
    if width * height > _MAX_PIXELS:
        raise ValueError(
            f'{path.name}: found {width} x {height} pixels, expected {_MAX_PIXELS / 1e6:.0f} million at most; make it '
            'smaller'
        )


def check_video(path: Path) -> None:
    """Refuses what does not begin as a video file does.

    FFmpeg goes by content, not by name: under the name of a video, a playlist could make it open other files and
    addresses.

    Raises:
        ValueError: naming the file.
    """
    check_suffix(path, VIDEOS)
    with path.open('rb') as file:
        head = file.read(16)
    known = any(head[start : start + len(mark)] == mark for start, mark in _CONTAINERS)
    if not known and head[4:8] not in _OLD_QUICKTIME:
        raise ValueError(
            f'{path.name} does not begin as a video of {", ".join(VIDEOS)} does: is it complete, and a video? Convert '
            'it'
        )


def check_points(path: Path) -> None:
    """Refuses what cannot be a sweep; how many numbers a point has is known to the config, whose pipeline checks it.

    Raises:
        ValueError: naming the file.
    """
    check_suffix(path, ('.bin',))
    size = path.stat().st_size
    if size % 4:
        raise ValueError(f'{path.name}: found {size} bytes, expected a multiple of 4: float32 numbers, as in nuScenes')

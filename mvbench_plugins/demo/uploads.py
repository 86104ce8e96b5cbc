"""Checks of what was uploaded, by content and before any decoder sees it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
VIDEOS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm')
CHECKPOINTS = ('.pth', '.pt')

_PICTURE_FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP')
_MAX_PIXELS = 50_000_000  # of a picture: 150 MB once it is decoded
_MAX_FRAME_PIXELS = 12_000_000  # of a video, dozens of whose frames are held at a time
_LARGEST_READ = 4 << 20  # bytes: the directory of a zip file with tens of thousands of entries
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


def check_picture(path: Path, max_pixels: int = _MAX_PIXELS) -> None:
    """Refuses what is no picture, or one too large to decode here.

    Args:
        path: file.
        max_pixels: most pixels that it may have.

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
    _check_pixels(path, width, height, max_pixels)


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
    avi = head[:4] == b'RIFF' and head[8:12] == b'AVI '
    if not (avi or head[:4] == b'\x1a\x45\xdf\xa3' or head[4:8] in (b'ftyp', *_OLD_QUICKTIME)):
        raise ValueError(
            f'{path.name} does not begin as a video of {", ".join(VIDEOS)} does: is it complete, and a video? Convert '
            'it'
        )


def check_frames(path: Path, size: tuple[int, int]) -> None:
    """Refuses a video whose frames are too large to be kept.

    Args:
        path: file.
        size: (width, height) of its frames.

    Raises:
        ValueError: naming the file.
    """
    _check_pixels(path, *size, _MAX_FRAME_PIXELS)


def check_points(path: Path) -> None:
    """Refuses what cannot be a sweep; how many numbers a point has is known to the config, whose pipeline checks it.

    Raises:
        ValueError: naming the file.
    """
    check_suffix(path, ('.bin',))
    size = path.stat().st_size
    if size % 4:
        raise ValueError(f'{path.name}: found {size} bytes, expected a multiple of 4: float32 numbers, as in nuScenes')


def check_checkpoint(path: Path) -> None:
    """Refuses what is no checkpoint by its name, and one that is compressed.

    ``torch.save`` does not compress, but ``torch.load`` unpacks: a small file could fill the memory.

    Raises:
        ValueError: naming the file.
    """
    check_suffix(path, CHECKPOINTS)
    with SmallReads(path) as file:
        if not zipfile.is_zipfile(file):
            return  # as torch saved until 1.5; such files hold tensors as they are
        try:
            with zipfile.ZipFile(file) as content:
                packed = [entry.filename for entry in content.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f'{path.name} is damaged: upload it again ({error})') from error
    if packed:
        raise ValueError(f'{path.name}: entry {packed[0]!r} is compressed, expected a file as torch.save writes it')


class SmallReads(io.FileIO):
    """A zip file to read from; refused if its directory is large.

    Python reads the directory at once, and makes an object of each entry: a hundred bytes become a thousand.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads some bytes, or what is left.

        Raises:
            ValueError: it is asked for too much.
        """
        if size is not None and size > _LARGEST_READ:
            name = Path(str(self.name)).name
            raise ValueError(f'{name}: found {size} bytes of names of files, expected {_LARGEST_READ} at most')
        return super().read(size)


def _check_pixels(path: Path, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise ValueError(
            f'{path.name}: found {width} x {height} pixels, expected {most / 1e6:.0f} million at most; make it smaller'
        )

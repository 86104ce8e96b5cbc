"""What the releases of video object segmentation put on disk: frame folders, lists of videos, meta.json."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mvbench_plugins.common.natural_order import natural_key

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')
MASK_SUFFIXES = ('.png',)


def list_files(folder: str | Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Files of a folder by stem, in the order of their names (frame 10 behind frame 9); hidden ones are left out.

    Args:
        folder: to look into.
        suffixes: lower-case endings that count.

    Returns:
        Stem (``00005``) to name (``00005.jpg``). Empty if the folder does not exist.

    Raises:
        ValueError: two files have the same stem, so that frames and masks cannot be matched.
    """
    names = sorted(os.listdir(folder), key=natural_key) if os.path.isdir(folder) else []
    files: dict[str, str] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes or name.startswith('.'):
            continue
        if stem in files:
            raise ValueError(
                f'{folder}: {files[stem]} and {name} are the same frame; frames and masks are matched by their names '
                'without suffix: remove one of the two'
            )
        files[stem] = name
    return files


def list_videos(folder: str | Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: there is no such folder, or none in it.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'{folder}: no such folder; check data_root and data_prefix')
    videos = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.'))
    if not videos:
        raise FileNotFoundError(f'{folder}: no video in it; expected one folder of frames per video')
    return videos


def read_video_list(path: str | Path) -> list[str]:
    """Read the names of videos, one per line.

    The lists of DAVIS 2016 have ``/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png`` per frame; they
    are read too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file names no video, or a line is no name of a folder.
    """
    videos: dict[str, None] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        video = Path(fields[0]).parent.name if len(fields) == 2 and '/' in fields[0] else line.strip()
        if not _is_folder(video):
            raise ValueError(
                f'{path}, line {number}: found {line.strip()!r}, expected the name of the folder of a video. Give the '
                'folders above it in data_prefix.'
            )
        videos[video] = None
    if not videos:
        raise ValueError(f'{path}: the file names no video; expected one name per line')
    return list(videos)


def read_meta(path: str | Path) -> dict[str, dict[int, dict]]:
    """Read ``meta.json`` of YouTube-VOS, MOSE, LVOS: ``{'videos': {video: {'objects': {label: {...}}}}}``.

    Returns:
        Video to label to what the file says of that object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no json, or not built like this.
    """
    try:
        videos = json.loads(_read_text(path))['videos']
        meta = {
            video: {int(label): dict(known) for label, known in entry['objects'].items()}
            for video, entry in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{path}: {type(error).__name__}: {error}; expected json of the form '
            '{"videos": {VIDEO: {"objects": {LABEL: {...}}}}}: take the file of the release'
        ) from error
    if not meta:
        raise ValueError(f'{path}: the file names no video')
    wrong = next((video for video in meta if not _is_folder(video)), None)
    if wrong is not None:
        raise ValueError(f'{path}: found the video {wrong!r}, expected the name of a folder: take the release')
    return meta


def check_folders(root: str | Path, videos: Iterable[str], source: str | Path) -> None:
    """Check that each video has its folder.

    Raises:
        FileNotFoundError: names those that are missing.
    """
    videos = list(videos)
    absent = [video for video in videos if not os.path.isdir(os.path.join(root, video))]
    if absent:
        raise FileNotFoundError(
            f'{root}: no folder of {len(absent)} of the {len(videos)} videos of {source}: {shortened(absent)}. Check '
            'data_root and data_prefix, and that the download is complete.'
        )


def shortened(names: list[str], most: int = 5) -> str:
    """The first few names, for messages."""
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def _is_folder(video: str) -> bool:
    """Whether a name is that of a folder, and none above or below it."""
    return video not in ('', '.', '..') and not {*video} & {*'/\\\0'}


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such file; check data_root and ann_file') from None
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not a text file ({error})') from error

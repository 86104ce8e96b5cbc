"""Where the frames of AVA's videos are: folders of frames, with or without a frame list, or video files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2

from .ava_files import read_frame_list

VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.avi')


@dataclass(frozen=True)
class VideoSource:
    """One video that is there.

    Attributes:
        info: what a sample says about it (see ``key_frame_entry``).
        last: the last frame that can be a key frame, counted from 0 at the rate of the data set.
    """

    info: dict
    last: float


def check_filename_template(template: str) -> None:
    """Refuse a template of frame files that has no place for the number; it would fit any frame.

    Raises:
        ValueError: shows what a template looks like.
    """
    try:
        fits = template.format(1, video='v') != template.format(2, video='v')
    except (LookupError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f'filename_tmpl {template!r} must be a format string of the frame number, such as '
            "'{video}_{:06d}.jpg' or 'img_{:05d}.jpg'"
        )


def find_frame_folders(videos: Iterable[str], root: str, template: str, start_index: int) -> dict[str, VideoSource]:
    """Find the frames of videos in folders of their names.

    Args:
        videos: names of the videos.
        root: folder that holds their folders.
        template: format string of the file names; ``{video}`` stands for the name of the video.
        start_index: number of the first file.

    Returns:
        The videos that are there, that is, whose first frame is.
    """
    found = {}
    for video in videos:
        folder = Path(root, video)
        names = template.replace('{video}', video)
        count = _count_frames(folder, names, start_index)
        if count:
            found[video] = _frames(folder, names, start_index, count)
    return found


def find_listed_frames(videos: Iterable[str], root: str, frame_list: str) -> dict[str, VideoSource]:
    """Find the frames of videos that a frame list names (see ``read_frame_list``).

    Returns:
        The videos that are in the list and whose folder is there.
    """
    listed = read_frame_list(frame_list)
    found = {}
    for video in videos:
        frames = listed.get(video)
        if frames and Path(root, frames.folder).is_dir():
            found[video] = _frames(Path(root, frames.folder), frames.template, frames.first, frames.count)
    return found


def find_video_files(videos: Iterable[str], root: str, fps: float) -> dict[str, VideoSource]:
    """Find the files of videos and how long they are.

    Args:
        videos: names of the videos, which are the names of the files without suffix.
        root: folder of the files.
        fps: rate at which the data set counts frames.

    Returns:
        The videos that are there.

    Raises:
        ValueError: a file is no video that can be read.
    """
    found = {}
    for video, path in video_files(videos, root).items():
        count, file_fps = probe_video(path)
        found[video] = VideoSource(dict(filename=str(path), start_index=0), last=count / file_fps * fps)
    return found


def video_files(videos: Iterable[str], root: str | Path) -> dict[str, Path]:
    """The file of each video that has one, by the name of the video."""
    paths = sorted(Path(root).glob('*'))
    by_name = {path.stem: path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES}
    return {video: by_name[video] for video in videos if video in by_name}


def probe_video(path: str | Path) -> tuple[int, float]:
    """Number of frames of a video file, as its header says, and frames per second.

    Raises:
        ValueError: the file is no video that can be read.
    """
    capture = cv2.VideoCapture(str(path))
    count, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if count < 1 or not fps > 0:
        size = f'{Path(path).stat().st_size} bytes' if Path(path).is_file() else 'no such file'
        raise ValueError(f'video {path} ({size}) cannot be read or has no frames; download or copy it again')
    return count, fps


def _frames(folder: Path, template: str, start_index: int, count: int) -> VideoSource:
    info = dict(frame_dir=str(folder), filename_tmpl=template, start_index=start_index, total_frames=count)
    return VideoSource(info, last=count - 1)


def _count_frames(folder: Path, template: str, start_index: int) -> int:
    """How many consecutive frames there are; a folder of 27000 names is slow to list on a network disk."""

    def there(count: int) -> bool:
        return (folder / template.format(start_index + count - 1)).is_file()

    if not there(1):
        return 0
    low, high = 1, 2
    while there(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low

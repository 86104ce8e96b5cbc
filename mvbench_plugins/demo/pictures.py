"""What the page needs beyond the inferencers: a frame to draw on, drawings as masks, videos that browsers play."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mvbench_plugins.apis.video_reader import open_video
from mvbench_plugins.demo.uploads import check_frames

#: Colours to draw with (RGB): the first one paints object 1, and so on.
OBJECT_COLORS = ((230, 25, 75), (0, 130, 200), (60, 180, 75), (255, 225, 25), (145, 30, 180))
_LEAST_RADIUS, _RADII = 2, 40  # of a brush: pixels, and how many make the shorter side of a picture
_OPAQUE = 128  # alpha from which a pixel counts as painted: brushes have soft edges


def write_first_frame(video: Path, picture: Path) -> None:
    """Writes the first frame of a video, to be drawn on.

    Raises:
        ValueError: the video cannot be decoded, or is too large.
    """
    with open_video(video) as frames:
        check_frames(video, frames.size)
        cv2.imwrite(str(picture), next(iter(frames)))


def brush_radius(picture: Path) -> int:
    """Radius in pixels of a brush that is narrower than what there is to paint on a picture."""
    with Image.open(picture) as image:
        return max(_LEAST_RADIUS, min(image.size) // _RADII)


def index_map_of(layers: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Makes an index map of what was painted with :data:`OBJECT_COLORS`.

    Args:
        layers: RGBA, uint8 ``[h, w, 4]``, later ones above earlier ones; of any size.
        size: (width, height) of the frames.

    Returns:
        uint8 ``[height, width]``, 0 where nothing was painted.

    Raises:
        ValueError: nothing was painted.
    """
    index_map = np.zeros(size[::-1], np.uint8)
    palette = np.array(OBJECT_COLORS, np.int32)
    for layer in layers:
        layer = cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST)
        painted = layer[..., 3] >= _OPAQUE
        distance = np.abs(layer[painted][:, None, :3].astype(np.int32) - palette).sum(-1)  # [pixels, colours]
        index_map[painted] = distance.argmin(1) + 1
    if not index_map.any():
        raise ValueError('no object is drawn: paint the objects to follow on the first frame, each in its own colour')
    return index_map


def write_playable(video: Path) -> Path:
    """Writes a copy of a video that browsers play (VP8); mp4 files of OpenCV hold MPEG-4 part 2, which they do not.

    Returns:
        Its path, beside the video.

    Raises:
        ValueError: this OpenCV cannot write it.
    """
    path = video.with_suffix('.webm')
    with open_video(video) as frames:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'VP80'), frames.fps, frames.size)
        if not writer.isOpened():
            raise ValueError(f'this build of OpenCV cannot write {path.name} (VP8), expected opencv-python-headless')
        for frame in frames:
            writer.write(frame)
        writer.release()
    return path

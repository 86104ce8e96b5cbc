"""The files that inferencers leave: json, pictures and videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mvbench_plugins.common.whole_files import written_whole


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Writes a readable json file, whole or not at all; its folder is made.

    Raises:
        OSError: it cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        Path(part).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding='utf-8')


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture in BGR order, in the format of its suffix; its folder is made.

    Raises:
        ValueError: OpenCV cannot write there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture):
        raise ValueError(f'OpenCV cannot write the picture {path}')


def open_video_file(path: str | Path, size: tuple[int, int], fps: float) -> cv2.VideoWriter:
    """Begins an mp4 file of (width, height) pixels; its folder is made.

    Raises:
        ValueError: OpenCV cannot write there.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # mp4v is the one codec that every OpenCV wheel can write.
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, size)
    if not writer.isOpened():
        raise ValueError(f'OpenCV cannot write a video of {size[0]} x {size[1]} at {fps:g} fps to {path}')
    return writer

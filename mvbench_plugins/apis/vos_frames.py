"""Frames of a video with their names, and what a frame-by-frame segmenter gets of each."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import PixelData

from mvbench_plugins.apis.video_reader import DEFAULT_FPS, Source, VideoSource, image_files, open_video

FrameSource: TypeAlias = Source | Iterator[np.ndarray]

_ITERATOR = 'iterator of frames'


@dataclass
class FrameStream:
    """An open video whose frames have names.

    Attributes:
        video: the video itself.
        files: the files of its frames, in their order; None for anything but a folder.
        length: how many frames there are; None where it is not known for sure, as headers of files may be wrong.
    """

    video: VideoSource
    files: list[Path] | None
    length: int | None

    def name(self, index: int) -> str:
        """The stem of a frame's file, or its 0-based index with five digits."""
        return f'{index:05d}' if self.files is None else self.files[index].stem


def open_frames(source: FrameSource, fps: float | None = None) -> FrameStream:
    """Opens a video of any kind.

    Args:
        source: as :func:`~mvbench_plugins.apis.video_reader.open_video`, or an iterator of BGR frames, uint8
            ``[h, w, 3]``.
        fps: frame rate, if the video does not tell it or tells it wrong.

    Raises:
        FileNotFoundError, TypeError, ValueError: there is no video that can be read, or its frames have no names.
    """
    if isinstance(source, Iterator):
        return FrameStream(VideoSource('frames', _ITERATOR, _checked(source), fps or DEFAULT_FPS), None, None)
    files = None
    if isinstance(source, (str, Path)) and Path(source).expanduser().is_dir():
        files = image_files(Path(source).expanduser())
        _check_names(files)
    video = open_video(source, fps)
    exact = files is not None or isinstance(source, np.ndarray)
    return FrameStream(video, files, video.num_frames if exact else None)


def pack_frame(stream: FrameStream, frame: np.ndarray, index: int, first: int, given: np.ndarray | None) -> dict:
    """Makes the batch of one that ``model.test_step`` takes for the next frame of a video.

    Args:
        stream: the video.
        frame: uint8 ``[h, w, 3]`` in BGR order.
        index: 0-based index in the video.
        first: index of the first frame that the model sees, which is frame 0 to it.
        given: uint8 ``[h, w]`` with the labels of the objects that are given at this frame; None: none are.
    """
    image = np.ascontiguousarray(frame[:, :, ::-1].transpose(2, 0, 1))
    sample = empty_sample(stream, index)
    sample.set_metainfo(
        dict(
            frame_id=index - first,
            video_length=None if stream.length is None else stream.length - first,
            annotated=given is not None,
        )
    )
    if given is not None:
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(given)[None])
    track = TrackDataSample()
    track.video_data_samples = [sample]
    return dict(inputs=dict(img=[torch.from_numpy(image)[None]]), data_samples=[track])


def empty_sample(stream: FrameStream, index: int) -> DetDataSample:
    """The data sample of a frame without anything given or found."""
    width, height = stream.video.size
    meta: dict[str, Any] = dict(
        video_id=0,
        video_name=stream.video.name,
        frame_name=stream.name(index),
        frame_index=index,
        img_path=stream.video.origin if stream.files is None else str(stream.files[index]),
        gt_mask_path=None,
        palette_path=None,
        ori_shape=(height, width),
        img_shape=(height, width),
        annotated=False,
        save=True,
    )
    return DetDataSample(metainfo=meta)


def _check_names(files: list[Path]) -> None:
    names: dict[str, Path] = {}
    for file in files:
        if file.stem in names:
            raise ValueError(
                f'frames {names[file.stem]} and {file.name} have one name, and so would their masks; a folder must '
                'hold each frame once'
            )
        names[file.stem] = file


def _checked(frames: Iterator[np.ndarray]) -> Generator[np.ndarray, None, None]:
    for number, frame in enumerate(frames):
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            found = f'{frame.dtype} {frame.shape}' if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(f'{_ITERATOR}: frame {number} is {found}, expected uint8 [h, w, 3] in BGR order')
        yield frame

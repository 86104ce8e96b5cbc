"""Transforms of spatio-temporal action detection, where mmaction2's own give other numbers than the published models.

A sample is one key frame. The dataset says where it lies (``key_frame``, counted at the rate ``fps``); boxes are
normalised until a decoding transform turns them into pixels, ``(x1, y1, x2, y2)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit, RawFrameDecode
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


def clip_indices(
    key_frame: float, total_frames: int | None, clip_len: int, frame_interval: int, rate: float = 1.0
) -> np.ndarray:
    """Frames of the clip around a key frame, which becomes element ``clip_len // 2``.

    Args:
        key_frame: 0-based index of the key frame, counted at the rate the clip is sampled at.
        total_frames: length of the video in its own frames; indices beyond its ends repeat the first or last frame.
            None: no last frame is known.
        clip_len: frames of the clip.
        frame_interval: distance between two of them.
        rate: frames of the video per frame that ``key_frame`` and ``frame_interval`` count.

    Returns:
        int64 ``[clip_len]``: 0-based indices into the video's own frames.
    """
    wanted = key_frame + (np.arange(clip_len) - clip_len // 2) * frame_interval
    last = None if total_frames is None else total_frames - 1
    return np.clip(np.floor(wanted * rate + 0.5), 0, last).astype(np.int64)


def transform_boxes(results: dict, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the annotated and the given boxes of a sample by what ``change`` makes of them.

    Args:
        results: the sample; ``gt_bboxes`` and ``proposals``, float32 ``[n, 4]``, are changed where they are there.
        change: maps boxes ``[n, 4]``, xyxy, to new ones.
    """
    for key in ('gt_bboxes', 'proposals'):
        if key in results:
            results[key] = change(results[key]).astype(np.float32)


def open_video(filename: str | Path, num_threads: int = 1) -> Any:
    """Open a video file in place.

    Returns:
        A ``decord.VideoReader``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be decoded or has no frames.
    """
    import decord

    if not Path(filename).is_file():
        raise FileNotFoundError(f'video {filename} does not exist: check data_prefix of the dataset')
    try:
        reader = decord.VideoReader(str(filename), num_threads=num_threads)
    except (decord.DECORDError, RuntimeError) as error:
        raise undecodable(filename, error) from None
    if not len(reader):
        raise ValueError(f'video {filename} has no frames; copy or convert it again')
    return reader


def undecodable(video: str | Path, error: Exception) -> ValueError:
    """The error for a video that is damaged, with the last line of what the decoder says."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return ValueError(f'video {video} cannot be decoded; copy or convert it again ({reason})')


@TRANSFORMS.register_module()
class SampleKeyFrameClip(BaseTransform):
    """Choose the frames around the key frame, without jitter, in training and test alike.

    Differs from mmaction's ``SampleAVAFrames``: that one adds ``start_index`` twice, and jitters every frame in
    training. A video file whose own frame rate (``avg_fps``) differs from the rate at which the data set counts
    (``fps``) is sampled at the same moments.

    Args:
        clip_len: frames of the clip.
        frame_interval: distance between two of them, at the rate ``fps`` of the data set.
        offset: frames at that rate by which the whole clip is moved; element ``clip_len // 2`` is the key frame where
            it is 0.
    """

    def __init__(self, clip_len: int, frame_interval: int, offset: int = 0) -> None:
        self.clip_len = clip_len
        self.frame_interval = frame_interval
        self.offset = offset

    def transform(self, results: dict) -> dict:
        """Add ``frame_inds``, file numbers for frames on disk (``start_index`` added)."""
        fps, video_fps = results.get('fps'), results.get('avg_fps')
        rate = video_fps / fps if fps and video_fps else 1.0
        if results['key_frame'] * rate >= results['total_frames']:
            raise ValueError(
                f'{results.get("filename") or results.get("frame_dir")}: key frame {results["img_key"]} lies at frame '
                f'{results["key_frame"] * rate:.0f}, the video has {results["total_frames"]}. Is the video complete, '
                'and do fps and timestamp_start of the dataset fit it?'
            )
        centre = results['key_frame'] + self.offset
        frames = clip_indices(centre, results['total_frames'], self.clip_len, self.frame_interval, rate)
        results['frame_inds'] = frames + results.get('start_index', 0)
        results['clip_len'] = self.clip_len
        results['frame_interval'] = self.frame_interval
        results['num_clips'] = 1
        return results


@TRANSFORMS.register_module()
class OpenVideo(DecordInit):
    """mmaction's ``DecordInit`` that opens the file in place, instead of reading all of it, and names what is wrong."""

    def _get_video_reader(self, filename: str) -> Any:
        return open_video(filename, self.num_threads)


@TRANSFORMS.register_module()
class DecodeVideoClip(DecordDecode):
    """mmaction's ``DecordDecode`` with errors that name the file; frames in RGB order, boxes become pixels."""

    def transform(self, results: dict) -> dict:
        """Add ``imgs``, ``img_shape``, ``original_shape``.

        Raises:
            ValueError: pictures of the clip are damaged.
        """
        import decord

        try:
            return super().transform(results)
        except (decord.DECORDError, RuntimeError) as error:
            raise undecodable(f'{results["filename"]}, key frame {results["img_key"]},', error) from None


@TRANSFORMS.register_module()
class LoadClipFrames(RawFrameDecode):
    """mmaction's ``RawFrameDecode`` with errors that name the file; frames in RGB order, boxes become pixels."""

    def transform(self, results: dict) -> dict:
        """Add ``imgs``, ``img_shape``, ``original_shape``.

        Raises:
            FileNotFoundError: a frame is missing.
            ValueError: a frame cannot be decoded.
        """
        try:
            return super().transform(results)
        except (FileNotFoundError, AttributeError, cv2.error):
            for index in results['frame_inds']:
                self._check(Path(results['frame_dir'], results['filename_tmpl'].format(index)), results['img_key'])
            raise

    @staticmethod
    def _check(path: Path, img_key: str) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f'frame {path} of key frame {img_key} does not exist: tools/prepare_data.py lists all that are missing'
            )
        if cv2.imread(str(path)) is None:
            raise ValueError(f'frame {path} of key frame {img_key} cannot be decoded: extract the frames again')


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Scale the clip so that its short side has a given length.

    Differs from mmaction's ``Resize`` in the boxes: both of their coordinates are scaled by the ratio of the short
    side, not by the rounded sizes; and from its ``RandomRescale``, which draws any integer of a range.

    Args:
        scale: length in pixels, or several of which one is drawn for each clip.
    """

    def __init__(self, scale: int | Sequence[int]) -> None:
        self.scales = [scale] if isinstance(scale, int) else list(scale)

    def transform(self, results: dict) -> dict:
        """Resize ``imgs`` bilinearly; set ``img_shape``, scale ``gt_bboxes`` and ``proposals`` (pixels)."""
        scale = self.scales[np.random.randint(len(self.scales))] if len(self.scales) > 1 else self.scales[0]
        height, width = results['img_shape']
        short = min(height, width)
        new_height, new_width = (
            scale if side == short else int(side / short * scale + 0.5) for side in (height, width)
        )
        results['imgs'] = [mmcv.imresize(image, (new_width, new_height)) for image in results['imgs']]
        results['img_shape'] = (new_height, new_width)
        transform_boxes(results, lambda boxes: boxes * np.float32(scale / short))
        return results


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirror boxes ``[n, 4]``, xyxy in pixels of an image of this width: ``x`` becomes ``width - 1 - x``."""
    flipped = boxes.copy()
    flipped[:, 0::2] = width - 1 - boxes[:, 2::-2]
    return flipped


@TRANSFORMS.register_module()
class FlipClip(BaseTransform):
    """Mirror the clip from left to right.

    Differs from mmaction's ``Flip`` in the boxes: ``x`` becomes ``width - 1 - x``, as published models were trained.

    Args:
        prob: probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Mirror ``imgs``, ``gt_bboxes`` and ``proposals`` (pixels), or none of them."""
        if np.random.rand() >= self.prob:
            return results
        results['imgs'] = [np.ascontiguousarray(image[:, ::-1]) for image in results['imgs']]
        transform_boxes(results, lambda boxes: flip_boxes(boxes, results['img_shape'][1]))
        return results


@TRANSFORMS.register_module()
class ClipBoxes(BaseTransform):
    """Clip ``gt_bboxes`` and ``proposals`` (pixels) to ``[0, width - 1] x [0, height - 1]``; no box is dropped."""

    def transform(self, results: dict) -> dict:
        """Clip the boxes, where there are any."""
        height, width = results['img_shape']
        limits = np.array([width - 1, height - 1] * 2, np.float32)
        transform_boxes(results, lambda boxes: np.clip(boxes, 0, limits))
        return results


@TRANSFORMS.register_module()
class ShuffleFrames(BaseTransform):
    """Draw the frames of the clip in another order; the key frame keeps its place.

    A model that does as well with it as without does not look at time.
    """

    def transform(self, results: dict) -> dict:
        """Permute ``frame_inds``."""
        frames = results['frame_inds']
        others = np.delete(np.arange(len(frames)), len(frames) // 2)
        frames = frames.copy()
        frames[others] = frames[np.random.permutation(others)]
        results['frame_inds'] = frames
        return results

"""Transforms of models on given person boxes, where they differ from those of :mod:`transforms`.

Boxes are ``(x1, y1, x2, y2)`` in pixels here, ``gt_bboxes`` and ``proposals`` alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
from mmaction.datasets.transforms import PackActionInputs
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform, to_tensor
from mmengine.structures import InstanceData

from .transforms import transform_boxes


def resized_size(height: int, width: int, scale: int, max_long: int | None = None) -> tuple[int, int]:
    """Size of a clip after ``ResizeShortSideTruncated``.

    Args:
        height: of the clip in pixels.
        width: of the clip in pixels.
        scale: length of the new short side.
        max_long: length that the new long side must not exceed; the short side is shorter then.

    Returns:
        The new height and width.
    """
    short, long = min(height, width), max(height, width)
    if max_long is not None and long / short * scale > max_long:
        scale = round(max_long * short / long)
    other = int(scale * long / short)
    return (scale, other) if height <= width else (other, scale)


def resize_boxes(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Scale boxes ``[n, 4]`` with a clip that is resized from ``old`` to ``new`` (height, width)."""
    return boxes * np.array([new[1] / old[1], new[0] / old[0]] * 2)


def crop_boxes(boxes: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Boxes ``[n, 4]`` in a cut-out.

    Args:
        boxes: xyxy.
        window: x1, y1, x2, y2 of the cut-out in the image.

    Returns:
        The boxes, shifted and clamped to ``[0, x2 - x1] x [0, y2 - y1]``; those outside have no area then.
    """
    x1, y1, x2, y2 = window
    return np.clip(boxes - np.array([x1, y1] * 2), 0, np.array([x2 - x1, y2 - y1] * 2))


def shift_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """Shift the colours of an RGB image, uint8 ``[h, w, 3]``, in OpenCV's ranges.

    Args:
        image: RGB.
        hue: added modulo 180.
        saturation: added, and clipped to 0..255.
        value: added, and clipped to 0..255.
    """
    levels = np.arange(256)
    tables = [(levels + hue) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255)]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, axis=1)[None].astype(np.uint8)), cv2.COLOR_HSV2RGB)


@TRANSFORMS.register_module()
class ResizeShortSideTruncated(BaseTransform):
    """Scale the clip so that its short side has a given length; the other one is truncated to whole pixels.

    Differs from ``ResizeShortSide``, which rounds, and scales the boxes by one ratio: here they are scaled by the
    ratios of the sizes, each axis by its own.

    Args:
        scale: length of the short side in pixels.
        max_long: length that the long side must not exceed; then the short side becomes shorter. None: no limit.
    """

    def __init__(self, scale: int = 256, max_long: int | None = None) -> None:
        self.scale = scale
        self.max_long = max_long

    def transform(self, results: dict) -> dict:
        """Resize ``imgs`` bilinearly; set ``img_shape``, scale the boxes."""
        old = height, width = results['img_shape']
        new = resized_size(height, width, self.scale, self.max_long)
        results['imgs'] = [mmcv.imresize(image, new[::-1]) for image in results['imgs']]
        results['img_shape'] = new
        transform_boxes(results, lambda boxes: resize_boxes(boxes, old, new))
        return results


@TRANSFORMS.register_module()
class RandomClipCrop(BaseTransform):
    """Cut a square out of the clip, anywhere; no box is dropped, those outside lose their area.

    mmaction's ``RandomCrop`` draws the same window, but clamps boxes to one pixel less.

    Args:
        size: side of the square in pixels.
    """

    def __init__(self, size: int = 224) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        """Crop ``imgs``; set ``img_shape``, shift and clamp the boxes.

        Raises:
            ValueError: the clip is smaller than the square.
        """
        height, width = results['img_shape']
        if min(height, width) < self.size:
            raise ValueError(
                f'RandomClipCrop: {results.get("img_key", "the clip")} has {height} x {width} pixels (height, width), '
                f'less than size={self.size}; resize it to a short side of at least that before'
            )
        x, y = (int(np.random.rand() * (side - self.size)) for side in (width, height))
        window = (x, y, x + self.size, y + self.size)
        results['imgs'] = [image[y : window[3], x : window[2]] for image in results['imgs']]
        results['img_shape'] = (self.size, self.size)
        transform_boxes(results, lambda boxes: crop_boxes(boxes, window))
        return results


@TRANSFORMS.register_module()
class ClipHSVJitter(BaseTransform):
    """Shift hue, saturation and value of all frames of a clip by the same random amounts.

    Args:
        hue: largest shift of hue, in OpenCV's range of 0..179.
        saturation: largest shift of saturation, in 0..255.
        value: largest shift of value, in 0..255.
    """

    def __init__(self, hue: int = 10, saturation: int = 26, value: int = 26) -> None:
        self.limits = (hue, saturation, value)

    def transform(self, results: dict) -> dict:
        """Recolour ``imgs``, uint8 RGB."""
        shifts = [np.random.randint(-limit, limit + 1) for limit in self.limits]
        results['imgs'] = [shift_hsv(image, *shifts) for image in results['imgs']]
        return results


@TRANSFORMS.register_module()
class PackPersonInputs(PackActionInputs):
    """mmaction's ``PackActionInputs`` that packs given boxes with their scores, and also where nothing is annotated.

    Args:
        meta_keys: as in the stock class, with the size of the video: boxes are written to pixels of it.
        **kwargs: other arguments of the stock class.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = ('img_shape', 'original_shape', 'img_key', 'video_id', 'timestamp'),
        **kwargs: Any,
    ) -> None:
        super().__init__(meta_keys=meta_keys, **kwargs)

    def transform(self, results: dict) -> dict:
        """Pack; ``proposals`` of the data sample has ``bboxes`` ``[n, 4]`` (pixels) and ``scores`` ``[n]``."""
        packed = super().transform(results)
        if 'proposals' in results:
            packed['data_samples'].proposals = InstanceData(
                bboxes=to_tensor(results['proposals']), scores=to_tensor(results['scores'])
            )
        return packed

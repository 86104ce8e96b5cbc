"""Read one frame and its mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from .index_masks import VOID, read_index_mask


@contextmanager
def open_frame(path: str) -> Iterator[Image.Image]:
    """Open the image of a frame; its pixels are decoded when they are asked for.

    Raises:
        FileNotFoundError: the file is gone.
        ValueError: it is no image, or damaged.
    """
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such frame, although it was there when the folder was listed') from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # as for masks
        raise ValueError(f'{path}: the frame cannot be read ({error}); write or copy it again') from error


def check_mask_size(mask_path: str, mask_size: tuple[int, int], frame_path: str, frame_size: tuple[int, int]) -> None:
    """Check that a mask is as large as its frame, (H, W).

    Raises:
        ValueError: it is not.
    """
    if mask_size != frame_size:
        raise ValueError(
            f'{mask_path}: the mask has {mask_size[0]} x {mask_size[1]} pixels (height, width), its frame {frame_path} '
            f'{frame_size[0]} x {frame_size[1]}. Resize the masks to the frames with nearest neighbour, or take the '
            'frames of the same release.'
        )


@TRANSFORMS.register_module()
class LoadVOSFrame(BaseTransform):
    """Read the image of a frame with Pillow, in RGB order.

    mmcv's ``LoadImageFromFile`` gives BGR, turns images by their EXIF data, and does not name a file that it cannot
    decode. Sets ``img``, uint8 ``[H, W, 3]``, ``img_shape`` and ``ori_shape``, (H, W).
    """

    def transform(self, results: dict) -> dict:
        """Read ``img_path``; errors are those of ``open_frame``."""
        with open_frame(results['img_path']) as picture:
            results['img'] = image = np.array(picture.convert('RGB'))
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadVOSMask(BaseTransform):
    """Read the index mask of a frame, after ``LoadVOSFrame``.

    Sets ``gt_seg_map``, uint8 ``[H, W]`` with the labels of the file, or None where the frame has no mask. With
    ``given_labels`` all others but 255 are background.

    Args:
        brightness: read how bright the picture is instead of labels, see ``read_index_mask``.
    """

    def __init__(self, brightness: bool = False) -> None:
        self.brightness = brightness

    def transform(self, results: dict) -> dict:
        """Read ``mask_path``.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: it is no index mask (see ``read_index_mask``), or not as large as the frame.
        """
        path, labels = results['mask_path'], results.get('given_labels')
        mask = None if path is None else read_index_mask(path, self.brightness)
        if mask is not None:
            check_mask_size(path, mask.shape, results['img_path'], results['ori_shape'])
        if mask is not None and labels is not None:
            mask = np.where(np.isin(mask, (*labels, VOID)), mask, 0).astype(np.uint8)
        results['gt_seg_map'] = mask
        return results

"""Index maps as PNG files with a palette: one label a pixel, exact and small, and visible to the eye."""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def davis_palette() -> np.ndarray:
    """The palette of PASCAL VOC, DAVIS and its successors: the bits of the label, dealt out to red, green and blue.

    Returns:
        uint8 ``(256, 3)``, read-only.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def read_palette(path: str | os.PathLike | None) -> np.ndarray:
    """The palette of an annotation.

    Args:
        path: An index image, or None.

    Returns:
        uint8 ``(256, 3)``, red, green, blue; that of DAVIS for None, for an image without a palette, and for the
        labels that a palette of fewer colours leaves out.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is no image.
    """
    palette = davis_palette().copy()
    if path is None:
        return palette
    try:
        with Image.open(path) as image:
            colours = image.getpalette('RGB') if image.mode == 'P' else None
    except FileNotFoundError:
        raise
    except Exception:  # a damaged picture raises nearly anything
        raise ValueError(f'{path}: no image that can be read, expected a PNG; write or copy it again') from None
    known = np.array(colours or [], np.uint8)
    known = known[: len(known) // 3 * 3].reshape(-1, 3)
    palette[: len(known)] = known
    return palette


def write_index_map(path: str | os.PathLike, index_map: np.ndarray, palette: np.ndarray) -> None:
    """Writes labels.

    Args:
        path: PNG file to write, in a folder that exists.
        index_map: uint8 ``(height, width)``.
        palette: uint8 ``(256, 3)``, red, green, blue.

    Raises:
        ValueError: A map of another type or shape.
        OSError: The file cannot be written.
    """
    if index_map.dtype != np.uint8 or index_map.ndim != 2:
        raise ValueError(f'{path}: found labels {index_map.dtype} {index_map.shape}, expected uint8 (height, width)')
    image = Image.fromarray(index_map)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', compress_level=3)  # twice as fast as the usual 6 and hardly larger: maps are flat
    Path(path).write_bytes(buffer.getvalue())

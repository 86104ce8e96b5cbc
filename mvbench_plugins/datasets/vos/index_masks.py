"""Index masks: pictures whose pixel values are object labels (palette or greyscale PNG)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: Value that means "not annotated" where other labels exist; alone it is an object, as in DAVIS 2016.
VOID = 255
_EXPECTED = 'expected a palette or greyscale PNG whose pixel values are object labels (0 is background)'


def read_index_mask(path: str | Path, brightness: bool = False) -> np.ndarray:
    """Read the labels of a mask.

    Palette ('P') pictures give their indices, 8-bit greyscale their values, black-and-white ones 0 and 1. Colour
    pictures whose channels are equal are read as greyscale: some tools save binary masks that way.

    Args:
        path: of the picture.
        brightness: the pixels of any picture tell how bright it is there, 0 to 255, and no label: masks of a single
            object in sets of still images come as greyscale, black-and-white, palette or colour pictures.

    Returns:
        uint8 ``[H, W]``, one label per pixel.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, is damaged, is a JPEG, or its pixels are colours or 16-bit values.
    """
    try:
        with Image.open(path) as picture:
            picture.verify()  # checksums, which decoding does not look at: a turned bit would be another label
        with Image.open(path) as picture:
            shown = picture.convert('L') if brightness else picture
            mode, pixels, lossy = shown.mode, np.asarray(shown), picture.format == 'JPEG' and not brightness
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such mask; {_EXPECTED}') from None
    except Exception as error:  # a damaged picture raises nearly anything
        raise ValueError(f'{path}: the mask cannot be read ({error}); {_EXPECTED}. Write or copy it again.') from error
    if lossy:
        raise ValueError(f'{path}: found a JPEG, whose compression blends labels at borders; {_EXPECTED}')
    if mode in ('P', 'L', '1'):
        return pixels.astype(np.uint8)
    if mode in ('RGB', 'RGBA') and (pixels[..., :3] == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])
    raise ValueError(
        f"{path}: found a picture of mode '{mode}'{' with colours' if 'RGB' in mode else ''}; {_EXPECTED}. Save the "
        'indices of the objects (8 bits), not the colours of the palette.'
    )


def object_labels(mask: np.ndarray) -> list[int]:
    """Labels of the objects in an index map, ascending: without 0, and without 255 where other labels exist."""
    labels = np.flatnonzero(np.bincount(mask.ravel(), minlength=VOID + 1)).tolist()
    labels = [label for label in labels if label]
    return labels if labels == [VOID] else [label for label in labels if label != VOID]

"""Index maps of objects, from files and arrays, checked against the frame that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvbench_plugins.datasets.vos.index_masks import VOID, read_index_mask

_LOSSY = ('.jpg', '.jpeg')


def load_mask(mask: str | Path | np.ndarray, frame: int, size: tuple[int, int]) -> np.ndarray:
    """Reads an index map and checks that it fits its frame.

    Args:
        mask: path of a png (palette, grey or black and white), or integer or bool array ``[h, w]``.
        frame: 0-based index of its frame, for messages.
        size: (width, height) of the frames.

    Returns:
        A new array, uint8 ``[h, w]``.

    Raises:
        FileNotFoundError, ValueError: naming the mask.
    """
    if isinstance(mask, np.ndarray):
        name = f'mask of frame {frame}'
        index_map = _check_array(mask, name)
    elif isinstance(mask, (str, Path)):
        name, path = f'mask {mask}', Path(mask).expanduser()
        if path.suffix.lower() in _LOSSY:
            raise ValueError(f'{name}: found a JPEG, whose compression changes labels at borders; expected a png')
        index_map = read_index_mask(path)
    else:
        raise TypeError(f'mask of frame {frame}: found {type(mask).__name__}, expected a path or an array [h, w]')
    height, width = index_map.shape
    if (width, height) != size:
        raise ValueError(
            f'{name}: found {width} x {height} pixels, but the frames have {size[0]} x {size[1]}. Give the mask of '
            'this video; if it is one, resize it with nearest neighbours (labels must not be blended)'
        )
    return index_map


def _check_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in 'iub':
        raise ValueError(
            f'{name}: found shape {array.shape} and type {array.dtype}, expected an array of integers [h, w] whose '
            'values are labels'
        )
    if array.size and (array.min() < 0 or array.max() > VOID):
        raise ValueError(
            f'{name}: found labels from {array.min()} to {array.max()}, expected 1 to {VOID - 1}, 0 for the background '
            f'and {VOID} for pixels to ignore'
        )
    return array.astype(np.uint8)

"""What the segmentation configs do with points and labels beyond the stock transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ScaleIntensity(BaseTransform):
    """Multiplies the intensity of points, their fourth value.

    Points go into the networks as they are, metres beside intensities. Where these are much smaller than those, as
    KITTI's from 0 to 1, a network learns late to use them.

    Args:
        factor: what to multiply with.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def transform(self, results: dict) -> dict:
        """Scale the intensities.

        Args:
            results: with ``points``, x, y, z in metres and the intensity first.
        """
        results['points'].tensor[:, 3:4] *= self.factor  # a slice: of points without, the model tells
        return results


@TRANSFORMS.register_module()
class CheckLabelFile(BaseTransform):
    """Refuses labels that the data set has no class for, before they are loaded.

    The stock data set of SemanticKITTI takes every id that it does not know for its first class, a car, without a word.

    Args:
        known_ids: ids that the data set maps to its classes.
        dtype: of a label in the file.
    """

    _CLASS_BITS = 0xFFFF  # the upper 16 bits of SemanticKITTI's labels number instances

    def __init__(self, known_ids: Sequence[int], dtype: str) -> None:
        self.known_ids = sorted(known_ids)
        self.dtype = np.dtype(dtype)

    def transform(self, results: dict) -> dict:
        """Passes ``results`` unchanged.

        Args:
            results: with ``pts_semantic_mask_path``; without, as an inferencer has none, nothing is looked at. Files
                that are not local are left to the loader.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: its size is no multiple of a label's, or an id is not known.
        """
        source = results.get('pts_semantic_mask_path')
        if source is not None and '://' not in str(source):
            self._check_file(Path(source))
        return results

    def _check_file(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f'labels {path}: no such file; correct data_prefix, or write the info file again')
        size = path.stat().st_size
        if size % self.dtype.itemsize:
            raise ValueError(
                f'labels {path}: found {size} bytes, expected a multiple of {self.dtype.itemsize} ({self.dtype} for a '
                'point); the file is cut off or of another data set'
            )
        ids = np.unique(np.fromfile(path, self.dtype).astype(np.int64) & self._CLASS_BITS)
        unknown = np.setdiff1d(ids, self.known_ids)
        if len(unknown):
            raise ValueError(
                f'labels {path}: found the ids {unknown[:5].tolist()}, expected those of the data set, '
                f'{self.known_ids}. Map your classes to these (0 is not learned), or add yours to known_ids here and '
                'to the label mapping of the data set'
            )

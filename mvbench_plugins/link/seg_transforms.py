"""What the segmentation configs do with points beyond the stock transforms."""

from __future__ import annotations

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

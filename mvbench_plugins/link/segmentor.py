"""Segmentation of LiDAR points with LinK."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.models.segmentors import MinkUNet
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_checkpoints

from .seg_checkpoint import convert_segmentation


@MODELS.register_module()
class LinKSegmentor(MinkUNet):
    """MinkUNet's segmentor, which loads official LinK files directly.

    Args:
        kwargs: those of :class:`~mmdet3d.models.segmentors.MinkUNet`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        accept_official_checkpoints(self, convert_segmentation)

    def loss(self, inputs: dict, data_samples: Sequence[Det3DDataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Raises:
            ValueError: the whole batch has too few voxels to normalise over.
        """
        if len(inputs['voxels']['voxels']) < 2:
            names = [sample.metainfo.get('lidar_path', 'point cloud') for sample in data_samples]
            raise ValueError(f'training batch without points: {names}; remove empty scans from the annotation file')
        return super().loss(inputs, data_samples)

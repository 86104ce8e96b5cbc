"""From points to hard voxels, for detection."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.models import Det3DDataPreprocessor
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from .point_checks import check_points


@MODELS.register_module()
class VoxelDetDataPreprocessor(Det3DDataPreprocessor):
    """``Det3DDataPreprocessor`` with hard voxels that refuses damaged point clouds.

    A coordinate that is not a number would become the index of some voxel, another one on each device. Empty point
    clouds pass.

    Args:
        voxel_layer: range, voxel size, caps ``max_voxels`` (training, test) and ``max_num_points`` of a voxel, which
            keeps the first points that come.
        num_features: values of a point: x, y, z in metres, intensity, time lag in seconds.
        kwargs: further arguments of :class:`~mmdet3d.models.Det3DDataPreprocessor`.
    """

    def __init__(self, voxel_layer: dict, num_features: int = 5, **kwargs: object) -> None:
        super().__init__(voxel=True, voxel_type='hard', voxel_layer=voxel_layer, **kwargs)
        self.num_features = num_features

    def voxelize(self, points: Sequence[Tensor], data_samples: Sequence[Det3DDataSample] | None) -> dict[str, Tensor]:
        """Voxelise a batch, as the stock preprocessor.

        Args:
            points: ``[N, num_features]`` of each sample.
            data_samples: their data samples, whose ``lidar_path`` names them in messages.

        Raises:
            ValueError: points of another size, or with values that are not finite.
        """
        for i, cloud in enumerate(points):
            path = None if data_samples is None else data_samples[i].get('lidar_path')
            check_points(cloud, self.num_features, str(path or f'point cloud {i} of the batch'))
        return super().voxelize(points, data_samples)

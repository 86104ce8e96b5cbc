"""From points to voxels, for segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet3d.models import Det3DDataPreprocessor
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from mvbench_plugins.ops.voxel_keys import group_keys, pack_voxels

from .point_checks import check_points


@MODELS.register_module()
class VoxelSegDataPreprocessor(Det3DDataPreprocessor):
    """The stock voxels of type ``minkunet``, on any device and in any batch.

    A voxel is a rounded position, counted from the least of its sample; it has the features and the label of its first
    point. Voxels are ordered by (x, y, z), unless there are too many in training: then a random choice of them.

    Args:
        voxel_size: edge of a voxel in metres.
        max_voxels: most voxels of a sample in training; None: all.
        num_features: values of a point.
        kwargs: further arguments of :class:`~mmdet3d.models.Det3DDataPreprocessor`.
    """

    def __init__(self, voxel_size: float, max_voxels: int | None = None, num_features: int = 4, **kwargs) -> None:
        super().__init__(**kwargs)
        self.voxel = True  # without the stock voxel layer, which asks for a range
        self.voxel_size = voxel_size
        self.max_voxels = max_voxels
        self.num_features = num_features

    def voxelize(self, points: Sequence[Tensor], data_samples: Sequence[Det3DDataSample] | None) -> dict[str, Tensor]:
        """Voxelise a batch.

        Notes in the data samples: ``point2voxel_map`` (voxel of each point, within its sample), ``batch_idx`` and
        ``gt_pts_seg.voxel_semantic_mask``.

        Args:
            points: ``[N, num_features]`` of each sample, x, y, z in metres first.
            data_samples: their data samples.

        Returns:
            ``voxels`` ``[V, num_features]`` and ``coors`` ``[V, 4]`` (b, x, y, z) of all samples.

        Raises:
            ValueError: points of another size, with values that are not finite, or not as many as labels.
        """
        voxels, coors = [], []
        for i, cloud in enumerate(points):
            sample = None if data_samples is None else data_samples[i]
            self._check(cloud, sample)
            grid = (cloud[:, :3] / cloud.new_tensor(self.voxel_size)).round().long()
            if len(grid):
                grid = grid - grid.amin(0)
            in_voxels = group_keys(pack_voxels(F.pad(grid, (1, 0)), reach=0).keys)
            chosen = in_voxels.first
            if self.training and self.max_voxels is not None and len(chosen) > self.max_voxels:
                chosen = chosen[torch.randperm(len(chosen), device=chosen.device)[: self.max_voxels]]
            voxels.append(cloud[chosen])
            coors.append(F.pad(grid[chosen], (1, 0), value=i))
            if sample is not None:
                sample.point2voxel_map = in_voxels.group
                sample.batch_idx = coors[-1][:, 0]
                if 'pts_semantic_mask' in sample.get('gt_pts_seg', ()):
                    labels = sample.gt_pts_seg.pts_semantic_mask
                    sample.gt_pts_seg.voxel_semantic_mask = labels[chosen].long()
        return dict(voxels=torch.cat(voxels), coors=torch.cat(coors))

    def _check(self, cloud: Tensor, sample: Det3DDataSample | None) -> None:
        name = 'point cloud' if sample is None else sample.metainfo.get('lidar_path', 'point cloud')
        check_points(cloud, self.num_features, name)
        labels = None if sample is None else sample.get('gt_pts_seg', {}).get('pts_semantic_mask')
        if labels is not None and len(labels) != len(cloud):
            raise ValueError(
                f'{name}: {len(cloud)} points, but {len(labels)} labels; the two files do not belong together'
            )

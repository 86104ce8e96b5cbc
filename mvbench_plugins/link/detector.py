"""CenterPoint for LinK: mmdet3d's detector, with samples that may be empty and official checkpoints."""

from __future__ import annotations

from mmdet3d.models.detectors import CenterPoint
from mmdet3d.registry import MODELS
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_checkpoints

from .det_checkpoint import convert_detection


@MODELS.register_module()
class LinKCenterPoint(CenterPoint):
    """``CenterPoint`` on LiDAR points that takes batches whose last samples have no voxel.

    Official files load under their own key names.

    Args:
        pts_backbone: 2D backbone; starts as torch does unless it has an ``init_cfg`` (``SECOND`` would take its own).
        kwargs: those of ``CenterPoint``.
    """

    def __init__(self, pts_backbone: dict, **kwargs: object) -> None:
        super().__init__(pts_backbone=pts_backbone, **kwargs)
        self.pts_backbone.init_cfg = pts_backbone.get('init_cfg')
        accept_official_checkpoints(self, convert_detection)

    def extract_pts_feat(
        self,
        voxel_dict: dict[str, Tensor],
        points: list[Tensor],
        img_feats: None = None,
        batch_input_metas: list[dict] | None = None,
    ) -> list[Tensor]:
        """Maps of the neck.

        Args:
            voxel_dict: ``voxels`` ``[N, slots, C]``, ``num_points`` ``[N]``, ``coors`` ``[N, 4]`` as (b, z, y, x).
            points: points of each sample ``[M, C]``; their count is that of the samples.
            img_feats: not used.
            batch_input_metas: not used.
        """
        coors = voxel_dict['coors']
        features = self.pts_voxel_encoder(voxel_dict['voxels'], voxel_dict['num_points'], coors)
        # mmdet3d reads the batch size off the last voxel, which fails on samples without any.
        maps = self.pts_middle_encoder(features, coors, len(points))
        return self.pts_neck(self.pts_backbone(maps))

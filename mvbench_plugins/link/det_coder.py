"""From the maps of CenterPoint's head to boxes, one class per cell."""

from __future__ import annotations

import torch
from mmdet3d.models.task_modules.coders import CenterPointBBoxCoder
from mmdet3d.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class OneClassPerCellCoder(CenterPointBBoxCoder):
    """Decodes every cell to one box of its best class, and keeps all above the threshold.

    ``CenterPointBBoxCoder`` takes the best ``max_num`` pairs of class and cell, whereby one cell may come twice.

    Args:
        pc_range: ``(x_min, y_min)`` of the map in metres.
        out_size_factor: edge of a cell in voxels.
        voxel_size: ``(x, y)`` edges of a voxel in metres.
        post_center_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)`` in metres, the range in which the centres of
            detections must lie, its borders included.
        score_threshold: only detections with a higher score.
        code_size: numbers of a box.
    """

    def decode_cells(
        self, rot_sine: Tensor, rot_cosine: Tensor, hei: Tensor, dim: Tensor, vel: Tensor, reg: Tensor
    ) -> Tensor:
        """Boxes of all cells ``[B, H * W, 9]``: x, y, z of the centre, dx, dy, dz, yaw, vx, vy.

        Args:
            rot_sine: ``[B, 1, H, W]``, as all others with their channels.
            rot_cosine: of the yaw.
            hei: z of the centre.
            dim: dx, dy, dz.
            vel: vx, vy.
            reg: place of the centre in its cell, in cells.
        """
        height, width = reg.shape[-2:]
        row, column = torch.meshgrid(
            torch.arange(height, device=reg.device), torch.arange(width, device=reg.device), indexing='ij'
        )
        x = (column + reg[:, :1, :, :].squeeze(1)) * self.out_size_factor * self.voxel_size[0] + self.pc_range[0]
        y = (row + reg[:, 1:, :, :].squeeze(1)) * self.out_size_factor * self.voxel_size[1] + self.pc_range[1]
        yaw = torch.atan2(rot_sine, rot_cosine)
        boxes = torch.cat([x[:, None], y[:, None], hei, dim, yaw, vel], dim=1)
        return boxes.flatten(2).transpose(1, 2)

    def decode(
        self,
        heat: Tensor,
        rot_sine: Tensor,
        rot_cosine: Tensor,
        hei: Tensor,
        dim: Tensor,
        vel: Tensor,
        reg: Tensor,
        task_id: int = -1,
    ) -> list[dict[str, Tensor]]:
        """Detections of each sample, as the head of mmdet3d expects them.

        Args:
            heat: scores ``[B, num_classes, H, W]``.
            rot_sine: as for :meth:`decode_cells`, like the following ones.
            rot_cosine: likewise.
            hei: likewise.
            dim: likewise.
            vel: likewise.
            reg: likewise.
            task_id: not used.

        Returns:
            For each sample ``bboxes`` ``[n, 9]``, ``scores`` ``[n]`` and ``labels`` ``[n]``.
        """
        scores, labels = heat.flatten(2).max(dim=1)  # [B, H * W]
        boxes = self.decode_cells(rot_sine, rot_cosine, hei, dim, vel, reg)
        limits = boxes.new_tensor(self.post_center_range)
        centre = boxes[..., :3]
        kept = (scores > self.score_threshold) & ((centre >= limits[:3]) & (centre <= limits[3:])).all(-1)
        return [
            dict(bboxes=boxes[b, keep], scores=scores[b, keep], labels=labels[b, keep]) for b, keep in enumerate(kept)
        ]

"""CenterPoint's head with the targets, the normalisation and the decoding of its authors."""

from __future__ import annotations

import torch
from mmdet3d.models.dense_heads import CenterHead
from mmdet3d.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

_BOX_DIM = 9  # with velocity
_VELOCITY = slice(7, 9)
#: Order of the ten numbers of a box in the targets.
_MAPS = ('reg', 'height', 'dim', 'rot', 'vel')


@MODELS.register_module()
class LinKCenterHead(CenterHead):
    """``CenterHead`` that counts objects instead of peaks.

    Differences: the focal loss takes its positives and its divisor from the objects' slots (two objects of a class in
    one cell are two), and unknown velocities are learned as 0 instead of being left out. With
    :class:`~mvbench_plugins.link.det_coder.OneClassPerCellCoder` and ``nms_type='rotate'``, each cell gives at most
    one box, and the classes of a task suppress each other. Arguments are those of ``CenterHead``, where ``loss_cls`` is
    a :class:`~mvbench_plugins.link.det_losses.SlotFocalLoss`.
    """

    def init_weights(self) -> None:
        """As ``CenterHead``, but the shared convolution and those of the heat maps start as torch does."""
        super().init_weights()
        for part in (self.shared_conv, *(head.heatmap for head in self.task_heads)):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
        for head in self.task_heads:
            nn.init.constant_(head.heatmap[-1].bias, head.init_bias)

    def get_targets_single(self, gt_instances_3d: InstanceData) -> tuple[list[Tensor], ...]:
        """Targets of one sample for all tasks, as ``CenterHead``'s, with velocities that are not known set to 0.

        Raises:
            ValueError: the boxes have no velocity.
        """
        boxes = gt_instances_3d.bboxes_3d
        if boxes.tensor.shape[1] != _BOX_DIM:
            raise ValueError(
                f'gt_bboxes_3d: found {boxes.tensor.shape[1]} columns, expected {_BOX_DIM} with the velocity: load '
                'annotations with with_velocity=True (the default of NuScenesDataset)'
            )
        known = boxes.clone()
        known.tensor[:, _VELOCITY] = known.tensor[:, _VELOCITY].nan_to_num(nan=0.0)
        return super().get_targets_single(InstanceData(bboxes_3d=known, labels_3d=gt_instances_3d.labels_3d))

    def slot_classes(self, labels: Tensor) -> list[Tensor]:
        """Class within the task of the object in each slot ``[K]``, for all tasks; slots are filled class by class.

        Args:
            labels: ``[n]`` of one sample.
        """
        num_slots = self.train_cfg['max_objs'] * self.train_cfg['dense_reg']
        slots, first = [], 0
        for count in self.num_classes:
            classes = labels[(labels >= first) & (labels < first + count)].sort().values[:num_slots] - first
            slots.append(nn.functional.pad(classes.long(), (0, num_slots - len(classes))))
            first += count
        return slots

    def loss_by_feat(
        self, preds_dicts: tuple[list[dict]], batch_gt_instances_3d: list[InstanceData], *args: object, **kwargs: object
    ) -> dict[str, Tensor]:
        """Losses of all tasks.

        Args:
            preds_dicts: maps of each task.
            batch_gt_instances_3d: boxes and labels of each sample.
            args: not used.
            kwargs: not used.
        """
        targets = zip(*self.get_targets(batch_gt_instances_3d), strict=True)
        by_sample = [self.slot_classes(instances.labels_3d) for instances in batch_gt_instances_3d]
        classes = map(torch.stack, zip(*by_sample, strict=True))
        losses = {}
        for task, ((heatmap, boxes, cells, filled), task_classes) in enumerate(zip(targets, classes, strict=True)):
            maps = preds_dicts[task][0]
            filled = filled.float()
            losses[f'task{task}.loss_heatmap'] = self.loss_cls(maps['heatmap'], heatmap, cells, task_classes, filled)
            predicted = torch.cat([maps[name] for name in _MAPS], dim=1).float().flatten(2)  # [B, 10, H * W]
            predicted = predicted.gather(2, cells[:, None].expand(-1, predicted.shape[1], -1)).transpose(1, 2)
            weights = filled[..., None] * filled.new_tensor(self.train_cfg['code_weights'])
            losses[f'task{task}.loss_bbox'] = self.loss_bbox(predicted, boxes, weights, avg_factor=filled.sum() + 1e-4)
        return losses

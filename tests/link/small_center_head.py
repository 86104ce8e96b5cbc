"""A small head of LinK's detectors, on a map of 16 x 16 cells of 1 m around the origin."""

from __future__ import annotations

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor, nn

import mvbench_plugins.link.det_coder
import mvbench_plugins.link.det_head
import mvbench_plugins.link.det_losses  # noqa: F401  registers

GRID = dict(pc_range=[-8.0, -8.0], voxel_size=[0.25, 0.25], out_size_factor=4)
LIMITS = [-10.0, -10.0, -5.0, 10.0, 10.0, 5.0]
MAPS = dict(reg=2, height=1, dim=3, rot=2, vel=2)


def build_head() -> nn.Module:
    """Two tasks: class a, and classes b and c."""
    return MODELS.build(
        dict(
            type='LinKCenterHead',
            in_channels=8,
            tasks=[dict(num_class=1, class_names=['a']), dict(num_class=2, class_names=['b', 'c'])],
            common_heads={name: (count, 2) for name, count in MAPS.items()},
            share_conv_channel=8,
            bias=True,
            bbox_coder=dict(type='OneClassPerCellCoder', post_center_range=LIMITS, score_threshold=0.1, **GRID),
            separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3, bias=True),
            loss_cls=dict(type='SlotFocalLoss'),
            loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
            train_cfg=dict(
                point_cloud_range=[-8.0, -8.0, -5.0, 8.0, 8.0, 3.0],
                grid_size=[64, 64, 32],
                voxel_size=[0.25, 0.25, 0.25],
                out_size_factor=4,
                dense_reg=1,
                gaussian_overlap=0.1,
                max_objs=10,
                min_radius=2,
                code_weights=[1.0] * 8 + [0.2] * 2,
            ),
            test_cfg=dict(
                post_center_limit_range=LIMITS,
                score_threshold=0.1,
                nms_type='rotate',
                pre_max_size=100,
                post_max_size=10,
                nms_thr=0.2,
            ),
        )
    )


def instances(boxes: list[list[float]], labels: list[int]) -> InstanceData:
    """Boxes [x, y, z of the centre, dx, dy, dz, yaw, vx, vy] with their labels."""
    boxes = LiDARInstance3DBoxes(torch.tensor(boxes).view(-1, 9), box_dim=9, origin=(0.5, 0.5, 0.5))
    return InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor(labels, dtype=torch.long))


def quiet_maps(num_classes: int) -> dict[str, Tensor]:
    """Maps of one task and one sample on which nothing is found."""
    maps = {name: torch.zeros(1, count, 16, 16) for name, count in MAPS.items()}
    return dict(maps, heatmap=torch.full((1, num_classes, 16, 16), -8.0))


def perfect_maps(head: nn.Module, objects: InstanceData) -> list[list[dict[str, Tensor]]]:
    """Maps of all tasks that say exactly where the objects are."""
    _, boxes, cells, filled = head.get_targets([objects])
    classes = head.slot_classes(objects.labels_3d)
    tasks = []
    for task, num_classes in enumerate(head.num_classes):
        maps = quiet_maps(num_classes)
        for slot in filled[task][0].nonzero().flatten().tolist():
            row, column = divmod(int(cells[task][0, slot]), 16)
            for name, values in zip(MAPS, boxes[task][0, slot].split([2, 1, 3, 2, 2]), strict=True):
                maps[name][0, :, row, column] = values
            maps['heatmap'][0, classes[task][slot], row, column] = 3.0
        tasks.append([maps])
    return tasks

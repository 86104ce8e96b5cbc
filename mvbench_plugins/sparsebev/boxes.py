"""Boxes as numbers: the three layouts of a box, and what turns one into another.

- *LiDAR box*: ``(x, y, z, dx, dy, dz, yaw, vx, vy)`` in metres, radians and m/s, z of the gravity centre, as mmdet3d.
- *Query box*: ``(x, y, z, log dx, log dy, log dz, sin yaw, cos yaw, vx, vy)``, the place relative to the range that is
  perceived, 0 to 1. What a decoder layer refines.
- *Target box*: ``(x, y, log dx, log dy, z, log dz, sin yaw, cos yaw, vx, vy)`` in metres. What is matched, supervised
  and decoded; DETR3D's order, in which released ``code_weights`` are.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Width of query boxes and of target boxes.
CODE_SIZE = 10
# Columns of a query box.
XY, XYZ, LOG_SIZE, SIN, COS, VELOCITY = slice(0, 2), slice(0, 3), slice(3, 6), 6, 7, slice(8, 10)
#: A target box is these columns of a query box, once its place is in metres.
_TARGET_ORDER = (0, 1, 3, 4, 2, 5, 6, 7, 8, 9)


def encode_query_boxes(boxes: Tensor, pc_range: Tensor) -> Tensor:
    """LiDAR boxes ``[..., 9]`` to query boxes ``[..., 10]``.

    Args:
        boxes: places outside of the range become less than 0 or more than 1.
        pc_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)`` in metres.
    """
    place = (boxes[..., :3] - pc_range[:3]) / (pc_range[3:] - pc_range[:3])
    yaw = boxes[..., 6:7]
    return torch.cat([place, boxes[..., 3:6].log(), yaw.sin(), yaw.cos(), boxes[..., 7:9]], dim=-1)


def place_in_metres(query_boxes: Tensor, pc_range: Tensor) -> Tensor:
    """Centres ``[..., 3]`` of query boxes in metres."""
    return query_boxes[..., XYZ] * (pc_range[3:] - pc_range[:3]) + pc_range[:3]


def query_to_target_boxes(query_boxes: Tensor, pc_range: Tensor) -> Tensor:
    """Query boxes ``[..., 10]`` to target boxes ``[..., 10]``."""
    metric = torch.cat([place_in_metres(query_boxes, pc_range), query_boxes[..., 3:]], dim=-1)
    return torch.stack([metric[..., column] for column in _TARGET_ORDER], dim=-1)


def encode_target_boxes(boxes: Tensor) -> Tensor:
    """LiDAR boxes ``[..., 9]`` to target boxes ``[..., 10]``; a size of 0 becomes ``-inf``."""
    x, y, z, dx, dy, dz, yaw, vx, vy = boxes.unbind(-1)
    return torch.stack([x, y, dx.log(), dy.log(), z, dz.log(), yaw.sin(), yaw.cos(), vx, vy], dim=-1)


def decode_target_boxes(targets: Tensor) -> Tensor:
    """Target boxes ``[..., 10]`` to LiDAR boxes ``[..., 9]``."""
    x, y, log_dx, log_dy, z, log_dz, sin, cos, vx, vy = targets.unbind(-1)
    return torch.stack([x, y, z, log_dx.exp(), log_dy.exp(), log_dz.exp(), torch.atan2(sin, cos), vx, vy], dim=-1)

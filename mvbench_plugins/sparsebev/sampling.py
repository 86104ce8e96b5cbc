"""Adaptive spatio-temporal sampling (paper, section 3.3): where the queries look, in which image, at which level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvbench_plugins.ops.msmv_sampling import FlatViews, msmv_sampling

from .boxes import COS, LOG_SIZE, SIN, VELOCITY, place_in_metres
from .frame_geometry import FrameGeometry

_MIN_DEPTH = 1e-5  # metres; nearer points count as behind the camera
#: Which group's level weights a group of features is sampled with, see :class:`AdaptiveSampling`.
LEVEL_WEIGHT_ORDERS = ('released', 'own')


def place_points(boxes: Tensor, offsets: Tensor, pc_range: Tensor) -> Tensor:
    """Place points relative to boxes, which they turn and grow with.

    Args:
        boxes: query boxes ``[B, Q, 10]``.
        offsets: ``[B, Q, ..., 3]`` in units of the box's size, along its heading, to its left, upwards.
        pc_range: range in metres that the boxes are relative to.

    Returns:
        ``[B, Q, ..., 3]`` in metres.
    """
    boxes = boxes.view(*boxes.shape[:2], *[1] * (offsets.dim() - 3), -1)
    along, left, up = (offsets * boxes[..., LOG_SIZE].exp()).unbind(-1)
    yaw = torch.atan2(boxes[..., SIN], boxes[..., COS])
    sin, cos = yaw.sin(), yaw.cos()
    turned = torch.stack([along * cos - left * sin, along * sin + left * cos, up], dim=-1)
    return place_in_metres(boxes, pc_range) + turned


def move_points(points: Tensor, velocity: Tensor, age: Tensor) -> Tensor:
    """Where points that move steadily were, or will be, at the time of each frame.

    The motion of the ego vehicle is none of it: it is inside of the projections of each frame.

    Args:
        points: ``[B, Q, G, P, 3]`` in metres at the time of the key frame.
        velocity: ``[B, Q, 2]`` on the ground, in m/s.
        age: seconds ``[B, T]`` from each frame to the key frame.

    Returns:
        ``[B, Q, G, T, P, 3]``.
    """
    moved = velocity[:, :, None] * age[:, None, :, None]  # [B, Q, T, 2]
    moved = nn.functional.pad(moved, (0, 1))[:, :, None, :, None]  # [B, Q, 1, T, 1, 3]
    return points[:, :, :, None] - moved


def look_up_views(points: Tensor, frames: FrameGeometry) -> tuple[Tensor, Tensor]:
    """Project points into the first camera that sees them.

    A point sees nothing else of its frame. One that no camera sees is projected into camera 0, out of its image; within
    a cell of the border it still gets something there, as released weights are used to.

    Args:
        points: ``[B, Q, G, T, P, 3]`` in metres.
        frames: projections of the frames.

    Returns:
        ``(u, v)`` ``[B, Q, G, T, P, 2]`` relative to width and height of the image, and the camera ``[B, Q, G, T, P]``.
    """
    rotation, translation = frames.lidar2img[..., :3, :3], frames.lidar2img[..., :3, 3]
    # All cameras of a frame in one product per frame: [B, T, Q * G * P, 3] x [B, T, 3, N * 3].
    flat = points.permute(0, 3, 1, 2, 4, 5).flatten(2, 4)
    projected = flat @ rotation.flatten(2, 3).transpose(2, 3) + translation.flatten(2, 3)[:, :, None]
    projected = projected.unflatten(-1, (-1, 3))  # [B, T, Q * G * P, N, 3]
    with torch.no_grad():
        places = _divide(projected, frames.image_size)
        seen = (projected[..., 2] > _MIN_DEPTH) & (places > 0).all(-1) & (places < 1).all(-1)
        number = projected.shape[3]
        # By comparing numbers, since argmax promises nothing about ties; `number`, no camera, becomes camera 0.
        view = torch.where(seen, torch.arange(number, device=seen.device), number).amin(-1) % number
    chosen = projected.gather(3, view[..., None, None].expand(*view.shape, 1, 3)).squeeze(3)
    batch, queries, groups, num_frames, num_points, _ = points.shape
    layout = (batch, num_frames, queries, groups, num_points)
    places = _divide(chosen, frames.image_size).view(*layout, 2).permute(0, 2, 3, 1, 4, 5)
    return places, view.view(layout).permute(0, 2, 3, 1, 4)


def _divide(projected: Tensor, image_size: tuple[int, int]) -> Tensor:
    """``(u * depth, v * depth, depth)`` in pixels to (u, v) relative to the size of the image."""
    depth = projected[..., 2].clamp(min=_MIN_DEPTH)
    height, width = image_size
    return torch.stack([projected[..., 0] / depth / width, projected[..., 1] / depth / height], dim=-1)


class AdaptiveSampling(BaseModule):
    """Samples the features of all frames at points that each query chooses.

    Released checkpoints were trained with level weights in another order than the features: in memory, the weights of
    (group, frame) stood where those of (frame, group) were read. So the features of frame t and group g of T frames and
    G groups are weighted with the weights of group ``(t * G + g) // T``; with 8 frames and 4 groups, a frame uses the
    weights of group ``t // 2`` for all its groups.

    Args:
        embed_dims: width C of the queries and of the features.
        num_groups: groups G of feature channels, each with its own points.
        num_points: points P per group and frame.
        num_levels: levels L of the feature pyramid.
        num_frames: T.
        pc_range: range in metres that the boxes are relative to.
        level_weight_order: ``'released'``, see above; ``'own'``: each group has its own weights.
    """

    def __init__(
        self,
        embed_dims: int,
        num_groups: int,
        num_points: int,
        num_levels: int,
        num_frames: int,
        pc_range: Sequence[float],
        level_weight_order: str = 'released',
    ) -> None:
        super().__init__()
        if level_weight_order not in LEVEL_WEIGHT_ORDERS:
            raise ValueError(f'level_weight_order: found {level_weight_order!r}, expected one of {LEVEL_WEIGHT_ORDERS}')
        self.num_groups, self.num_points, self.num_levels = num_groups, num_points, num_levels
        self.sampling_offset = nn.Linear(embed_dims, num_groups * num_points * 3)
        self.scale_weights = nn.Linear(embed_dims, num_groups * num_points * num_levels)
        self.register_buffer('pc_range', torch.tensor(pc_range, dtype=torch.float32), persistent=False)
        group, frame = torch.arange(num_groups)[:, None], torch.arange(num_frames)
        order = (frame * num_groups + group) // num_frames if level_weight_order == 'released' else group + 0 * frame
        self.register_buffer('weight_groups', order, persistent=False)  # [G, T]

    def init_weights(self) -> None:
        """Every query starts with the same points, within its box."""
        super().init_weights()
        nn.init.zeros_(self.sampling_offset.weight)
        nn.init.uniform_(self.sampling_offset.bias, -0.5, 0.5)

    def forward(self, boxes: Tensor, feats: Tensor, views: FlatViews, frames: FrameGeometry) -> Tensor:
        """Sampled features.

        Args:
            boxes: query boxes ``[B, Q, 10]``; no gradient goes to their velocity.
            feats: queries ``[B, Q, C]``.
            views: features of all images, flattened into G groups.
            frames: geometry of all images.

        Returns:
            ``[B, Q, G, T * P, C / G]``, the points of a frame next to each other.
        """
        points = self.points(boxes, feats, frames)
        places, view = look_up_views(points, frames)
        weights = self.level_weights(feats)[:, :, self.weight_groups]  # [B, Q, G, T, P, L]
        return msmv_sampling(views, places, view, weights).flatten(3, 4)

    def points(self, boxes: Tensor, feats: Tensor, frames: FrameGeometry) -> Tensor:
        """Points ``[B, Q, G, T, P, 3]`` that the queries choose, in metres."""
        offsets = self.sampling_offset(feats).unflatten(-1, (self.num_groups, self.num_points, 3))
        points = place_points(boxes, offsets, self.pc_range)
        return move_points(points, boxes[..., VELOCITY].detach(), frames.age)

    def level_weights(self, feats: Tensor) -> Tensor:
        """Weights ``[B, Q, G, P, L]`` of the levels, the same for all frames."""
        logits = self.scale_weights(feats)
        return logits.unflatten(-1, (self.num_groups, self.num_points, self.num_levels)).softmax(-1)

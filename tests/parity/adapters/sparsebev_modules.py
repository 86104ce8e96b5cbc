"""SparseBEV: the operator, and single modules of a recorded case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from mmdet3d.registry import TASK_UTILS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from torch import Tensor

from mvbench_plugins.ops.msmv_sampling import flatten_views, msmv_sampling
from mvbench_plugins.sparsebev import color_augmentation, grid_mask
from mvbench_plugins.sparsebev.attention import ScaleAdaptiveSelfAttention
from mvbench_plugins.sparsebev.boxes import encode_target_boxes
from mvbench_plugins.sparsebev.checkpoint import convert_version
from mvbench_plugins.sparsebev.frame_geometry import FrameGeometry
from mvbench_plugins.sparsebev.frames import CAMERAS
from mvbench_plugins.sparsebev.sampling import AdaptiveSampling, look_up_views, place_points

Outputs = dict[str, Any]
_FIRST_STRIDE = 4  # pixels of the image for each of the first level
_BOXES = 'pts_bbox_head.init_query_bbox.weight'
_OFFSETS = 'pts_bbox_head.decoder.layer.sampling.sampling_offset.bias'


def run_operator(case) -> Outputs:
    """Output and gradients of the operator, whose batch is (sample, frame, group) in one."""
    inputs = case.inputs()
    feats = [feat.transpose(1, 2).requires_grad_() for feat in _levels(inputs, 'feat')]  # [K, N, c, H, W]
    num_views = feats[0].shape[1]
    locations = inputs['sampling_locations'][:, :, None, None]  # [K, Q, 1, 1, P, 3]
    points = locations[..., :2].clone().requires_grad_()
    weights = inputs['scale_logits'].softmax(-1)[:, :, None, None].requires_grad_()
    view_ids = (locations[..., 2] * (num_views - 1)).round().long()
    output = msmv_sampling(flatten_views(feats, num_views, 1), points, view_ids, weights)[:, :, 0, 0].transpose(2, 3)
    (output * inputs['grad_output']).sum().backward()
    return {
        'output': output,
        'grad_locations_xy': points.grad[:, :, 0, 0],
        'grad_scale_weights': weights.grad[:, :, 0, 0],
        **{f'grad_feat_{level}': feat.grad.transpose(1, 2) for level, feat in enumerate(feats)},
    }


def run_modules(case, cfg: Config) -> Outputs:
    """Our outputs under their recorded names."""
    inputs, head = case.inputs(), cfg.model.pts_bbox_head
    pc_range = torch.tensor(head.pc_range)
    coder = TASK_UTILS.build(head.bbox_coder)
    outputs = {'encoded_gt': coder.encode(inputs['match_gt_boxes'])}
    outputs |= _matching(inputs, TASK_UTILS.build(cfg.model.train_cfg.assigner), torch.tensor(head.code_weights))
    outputs |= _decoding(inputs, coder) | _sampling(inputs, head.pc_range)

    boxes, unit = inputs['dist_bbox'], inputs['s4d_points_unit']
    points = case.meta['outputs']['sample_points']['shape'][2]
    offsets = unit.reshape(len(unit), unit.shape[1], -1, 3)[:, : boxes.shape[1], :points]
    outputs['sample_points'] = place_points(boxes, offsets, pc_range)
    # The older convention is that of converted weights: here, boxes and offsets take the place of weights.
    turned = convert_version({_BOXES: boxes.flatten(0, 1), _OFFSETS: offsets.flatten()}, 'v0.17.1')
    outputs['sample_points_v017'] = place_points(
        turned[_BOXES].view_as(boxes), turned[_OFFSETS].view_as(offsets), pc_range
    )
    attention = ScaleAdaptiveSelfAttention(embed_dims=8, num_heads=1, dropout=0.0, pc_range=head.pc_range)
    outputs['negative_distance'] = -attention.distances(boxes)
    return outputs | _augmentation(inputs, case.meta['outputs']['grid_masks']['shape'][1:])


def _levels(inputs: dict[str, Tensor], name: str) -> list[Tensor]:
    return [inputs[f'{name}_{level}'] for level in range(sum(key.startswith(f'{name}_') for key in inputs))]


def _matching(inputs: dict[str, Tensor], assigner, code_weights: Tensor) -> Outputs:
    boxes = inputs['match_bbox_pred'].clone()
    boxes[:, :2] = inputs['match_centres']
    targets = encode_target_boxes(inputs['match_gt_boxes'])
    scores, labels = inputs['match_cls_score'], inputs['match_gt_labels']
    (query,), (box,) = assigner.assign(scores[None], boxes[None], labels, targets, code_weights)
    return {
        'match_cost': assigner.cost(scores, boxes, labels, targets, code_weights),
        'match_gt_inds': torch.zeros(len(boxes), dtype=torch.long).index_put((query,), box + 1),
        'normalised_gt': targets,
    }


def _decoding(inputs: dict[str, Tensor], coder) -> Outputs:
    targets = inputs['decode_bbox_pred'].clone()
    targets[:, :2] = inputs['decode_centres'][:, :2] * 70
    targets[:, 4] = inputs['decode_centres'][:, 2] * 12
    boxes, scores, labels = coder.decode(inputs['decode_logits'], targets)
    boxes = LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5)).tensor
    return {'decode_boxes': boxes, 'decode_scores': scores, 'decode_labels': labels}


def _sampling(inputs: dict[str, Tensor], pc_range: list[float]) -> Outputs:
    feats = _levels(inputs, 's4d_feat')
    points = (inputs['s4d_points_unit'] * torch.tensor([50.0, 50.0, 4.0])).permute(0, 1, 3, 2, 4, 5)
    batch, queries, groups, num_frames, num_points, _ = points.shape
    image_size = tuple(_FIRST_STRIDE * side for side in feats[0].shape[-2:])
    lidar2img = inputs['s4d_lidar2img'].unflatten(1, (num_frames, len(CAMERAS)))
    frames = FrameGeometry(lidar2img, torch.zeros(batch, num_frames), image_size)
    weights = inputs['s4d_scale_logits'].softmax(-1)
    sampling = AdaptiveSampling(feats[0].shape[2], groups, num_points, len(feats), num_frames, pc_range)
    sampling.points = lambda boxes, queries, frames: points
    sampling.level_weights = lambda queries: weights
    places, view = look_up_views(points, frames)
    seen = ((places > 0) & (places < 1)).all(-1)
    return {
        's4d_output': sampling(None, None, flatten_views(feats, len(CAMERAS), groups), frames),
        's4d_view': _as_recorded(torch.where(seen, view, -1)),
        's4d_op_weights': _as_recorded(weights[:, :, sampling.weight_groups]),
    }


def _as_recorded(values: Tensor) -> Tensor:
    """``[B, Q, G, T, ...]`` to ``[B * T * G, Q, ...]``."""
    return values.transpose(1, 3).flatten(0, 2)


def _augmentation(inputs: dict[str, Tensor], size: list[int]) -> Outputs:
    images = inputs['aug_img']
    hsv = color_augmentation.rgb_to_hsv(images)
    return {
        'rgb_to_hsv': torch.stack(hsv, 1),
        'hsv_to_rgb': color_augmentation.hsv_to_rgb(*hsv),
        'colour_augmented': _augment(images, inputs),
        'grid_masks': torch.stack([_grid_mask(draws, size) for draws in inputs['grid_draws'].tolist()]),
    }


def _augment(images: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Recorded decisions in place of drawn ones; every step is on, and does nothing where its value says so."""
    per_image = {name: inputs[f'aug_{name}'].float()[:, None, None, None] for name in ('brightness', 'contrast')}
    per_image |= {name: inputs[f'aug_{name}'].float()[:, None, None, None] for name in ('saturation', 'hue')}
    late = (inputs['aug_contrast_mode'] == 1)[:, None, None, None]
    coins: Iterator[Tensor] = iter([late] + 5 * [torch.ones_like(late)])
    values = iter(per_image.values())
    with (
        mock.patch.object(color_augmentation, '_coin', lambda images: next(coins)),
        mock.patch.object(color_augmentation, '_uniform', lambda images, low, high: next(values)),
        mock.patch.object(torch, 'rand', lambda *size, device: inputs['aug_permutation'].argsort(1)),
    ):
        return color_augmentation.augment_colors(images)


def _grid_mask(draws: list[int], size: list[int]) -> Tensor:
    """Recorded distance and offsets in place of drawn ones."""
    numbers = iter(draws)
    with mock.patch.object(grid_mask, '_draw', lambda low, high: next(numbers)):
        return grid_mask.grid_mask(tuple(size))

"""CycleACR: the single functions of the case ``modules``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import Tensor, nn

from mvbench_plugins.cycleacr.boxes import extend_boxes, jitter_boxes, relative_boxes
from mvbench_plugins.cycleacr.checkpoint import convert_state_dict
from mvbench_plugins.cycleacr.interaction import InteractionBlock
from mvbench_plugins.cycleacr.losses import GroupedFocalLoss
from mvbench_plugins.datasets.action.alphaction_files import is_empty, xyxy_from_xywh
from mvbench_plugins.datasets.action.person_transforms import crop_boxes, resize_boxes, resized_size
from mvbench_plugins.datasets.action.second_clips import second_clip_indices

from . import cycleacr


def run_modules(case) -> tuple[dict[str, Any], dict[str, str]]:
    inputs = case.inputs()
    outputs = _boxes(inputs) | _preparation(inputs) | _losses(inputs) | _blocks(case, inputs) | _pathways()
    return outputs | _slowfast_recipe(case, inputs) | _vit_recipe(case, inputs), {}


def _boxes(inputs: dict[str, Tensor]) -> dict[str, Any]:
    boxes = inputs['m_boxes']
    width, height = inputs['box_size'].tolist()
    new_width, new_height = inputs['new_size'].tolist()
    shape = (height, width)
    return dict(
        extend_neg=extend_boxes(boxes, (-0.05, -0.1), shape),
        extend_pos=extend_boxes(boxes, (0.1, 0.05), shape),
        jitter=jitter_boxes(boxes, shape, inputs['jitter_u']),
        ava_boxes=relative_boxes(boxes, (new_height, new_width), (new_width / width, new_height / height)),
    )


def _preparation(inputs: dict[str, Tensor]) -> dict[str, Any]:
    boxes = inputs['m_boxes'].numpy()
    width, height = inputs['box_size'].tolist()
    new_width, new_height = inputs['new_size'].tolist()
    flip = TRANSFORMS.build(dict(type='FlipClip', prob=1.0))
    xywh = inputs['boxes_xywh'].numpy()
    corners = xyxy_from_xywh(xywh, np.broadcast_to(np.array([width, height]), (len(xywh), 2)))

    def sizes(scale: int, max_long: int | None) -> list[tuple[int, ...]]:
        return [resized_size(h, w, scale, max_long)[::-1] for h, w in inputs['frame_hw'].tolist()]

    def indices(clip_len: int, frame_interval: int) -> np.ndarray:
        return np.stack([second_clip_indices(n, clip_len, frame_interval) for n in inputs['raw_frames'].tolist()])

    return dict(
        flip=flip(dict(imgs=[], img_shape=(height, width), gt_bboxes=boxes))['gt_bboxes'],
        resized=resize_boxes(boxes, (height, width), (new_height, new_width)),
        cropped=crop_boxes(boxes, inputs['crop_window'].tolist()),
        from_xywh=corners[~is_empty(corners)],
        resize_slowfast=sizes(256, 464),
        resize_videomae=sizes(256, None),
        index_r101=indices(64, 1),
        index_r50=indices(32, 2),
        index_swin=indices(32, 2),
        index_vit=indices(16, 4),
    )


def _pathways() -> dict[str, Any]:
    """Which of 64 frames reach the two pathways, read off a clip whose frames hold their own number."""
    backbone = MODELS.build(cycleacr.load_config('SlowFast-R101').model.backbone).eval()
    seen = {}
    for name, path in (('slow_r101', backbone.slow_path), ('fast_r101', backbone.fast_path)):
        path.conv1.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0][0, 0, :, 0, 0]})
        )
    clip = torch.arange(64.0).view(1, 1, -1, 1, 1).expand(1, 3, -1, 32, 32)
    with torch.no_grad():
        backbone(clip)
    return seen


def _losses(inputs: dict[str, Tensor]) -> dict[str, Any]:
    loss = GroupedFocalLoss()
    logits, labels = inputs['focal_logits'], inputs['focal_labels'].float()
    found = loss(logits, labels)
    scale = len(logits) / float(inputs['focal_avg'])  # recorded with another number of people per process
    official = dict(
        pose='pose_action', object_interaction='object_interaction', person_interaction='person_interaction'
    )
    outputs = {}
    for name, weight in zip(loss.names, loss.weights, strict=True):
        outputs[f'loss_{official[name]}'] = found[f'loss_{name}'] * scale / weight
        outputs[f'accuracy_{official[name]}'] = found[f'acc_{name}'] * scale
    outputs['loss'] = sum(found[f'loss_{name}'] for name in loss.names) * scale
    outputs['sigmoid_focal'] = loss.multi_label(logits[:, 14:], labels[:, 14:])
    outputs['softmax_focal'] = outputs['loss_pose_action'] * float(inputs['focal_avg'])
    return outputs


def _blocks(case, inputs: dict[str, Tensor]) -> dict[str, Any]:
    weights = case.state_dict()

    def load(prefix: str, **kwargs) -> InteractionBlock:
        block = InteractionBlock(64, dropout=0.0, **kwargs)
        block.load_state_dict(
            {
                key.removeprefix(prefix)
                .replace('temporal_position_k', 'key_position')
                .replace('temporal_position_v', 'value_position'): value.flatten(1) if value.dim() > 2 else value
                for key, value in weights.items()
                if key.startswith(prefix)
            },
            strict=True,
        )
        return block.eval()

    with torch.no_grad():
        a2c = load('a2c.')(inputs['person'].transpose(1, 2), inputs['others'])
        memory = load('mem.', out_dim=96, num_slots=61)(inputs['person1'][:, None], inputs['memory'])
    return dict(block_a2c=a2c.transpose(1, 2), block_mem=memory[:, 0])


def _recipe(backbone: str, schedule: str, base_lr: float, names: list[str]) -> tuple[list[dict], Config]:
    """Optimizer settings of official parameters, in their order."""
    schedule = Config.fromfile(cycleacr.CONFIG_DIR / '_base_' / schedule)
    schedule.optim_wrapper.type = 'OptimWrapper'
    schedule.optim_wrapper.optimizer.lr = base_lr
    model = MODELS.build(cycleacr.load_config(backbone).model)
    wrapper = build_optim_wrapper(model, schedule.optim_wrapper)
    groups = {id(param): group for group in wrapper.optimizer.param_groups for param in group['params']}
    marked = convert_state_dict({name: torch.full((1,), i) for i, name in enumerate(names)}).state_dict
    ours = {int(value[0]): key for key, value in marked.items() if value.dim()}
    params = dict(model.named_parameters())
    return [groups[id(params[ours[i]])] for i in range(len(names))], schedule


def _factors(schedule: Config, steps: int, steps_per_epoch: int | None, lr: float) -> list[float]:
    """Learning rates of all steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedulers = []
    for cfg in schedule.param_scheduler:
        kwargs = dict(optimizer=optimizer)
        if cfg.get('convert_to_iter_based'):
            kwargs['epoch_length'] = steps_per_epoch
        schedulers.append(PARAM_SCHEDULERS.build(cfg, default_args=kwargs))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


def _slowfast_recipe(case, inputs: dict[str, Tensor]) -> dict[str, Any]:
    groups, schedule = _recipe('SlowFast-R101', 'schedule_50k.py', 8e-4, case.meta['slowfast_parameters'])
    factors = _factors(schedule, 50000, None, 1.0)
    return dict(
        slowfast_lr=[group['lr'] for group in groups],
        slowfast_wd=[group['weight_decay'] for group in groups],
        slowfast_lr_factor=[factors[step] for step in inputs['slowfast_iters'].tolist()],
    )


def _vit_recipe(case, inputs: dict[str, Tensor]) -> dict[str, Any]:
    groups, schedule = _recipe('ViT-L/16', 'schedule_vit_20e.py', 1.0, case.meta['vit_parameters'])
    rates = _factors(schedule, 2000, 100, 1.25e-4)
    return dict(
        vit_lr_scale=[group['lr'] for group in groups],
        vit_wd=[group['weight_decay'] for group in groups],
        vit_lr=[rates[step] for step in inputs['vit_steps'].tolist()],
    )

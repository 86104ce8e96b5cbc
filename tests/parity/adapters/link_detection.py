"""LinK's detectors: from a recorded case to our outputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.link.det_checkpoint import convert_detection, turn_maps
from mvbench_plugins.link.det_flips import Mirroring, merge_views
from mvbench_plugins.link.det_tta import LinKCenterPointTTA

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'link'
# By the edge of a voxel in metres: all other released configs differ in their data only.
CONFIGS = {
    0.075: 'link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py',
    0.1: 'link_det_voxel01_4xb2-cyclic-20e_nus-3d.py',
}
MAPS = ('reg', 'height', 'dim', 'rot', 'vel', 'hm')
VIEWS = (Mirroring(False, False), Mirroring(True, False), Mirroring(False, True), Mirroring(True, True))
# Official numbers of a target, [.., vx, vy, sin, cos], in our order, and the other way round.
_CODES = [0, 1, 2, 3, 4, 5, 8, 9, 6, 7]

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out."""
    cfg = _config(case.meta['settings'])
    inputs = case.meta['inputs']
    kind = _decode if 'head.0.reg' in inputs else _train if 'gt_boxes' in inputs else _infer
    return kind(case, cfg), {}


def _config(settings: dict) -> Config:
    """The config of the case's voxel size with the case's own range, caps and thresholds."""
    edge = settings['voxel_size'][0]
    if edge not in CONFIGS:
        raise ValueError(f'no config for voxels of {edge} m; known: {sorted(CONFIGS)}')
    cfg = Config.fromfile(CONFIG_DIR / CONFIGS[edge])
    low, high = settings['point_cloud_range'][:3], settings['point_cloud_range'][3:]
    grid = [round((b - a) / v) for a, b, v in zip(low, high, settings['voxel_size'], strict=True)]
    voxels = dict(point_cloud_range=settings['point_cloud_range'], voxel_size=settings['voxel_size'])
    nms = settings['nms']
    cfg.model.data_preprocessor.voxel_layer.update(
        voxels, max_num_points=settings['max_points_in_voxel'], max_voxels=tuple(settings['max_voxel_num'])
    )
    cfg.model.pts_middle_encoder.sparse_shape = [grid[2] + 1, grid[1], grid[0]]
    head = cfg.model.pts_bbox_head
    head.tasks = [dict(num_class=len(names), class_names=names) for names in settings['tasks']]
    head.loss_bbox.loss_weight = settings['loc_weight']
    head.bbox_coder.update(
        pc_range=settings.get('pc_range', low[:2]),
        voxel_size=settings['voxel_size'][:2],
        out_size_factor=settings['out_size_factor'],
        score_threshold=settings['score_threshold'],
        post_center_range=settings['post_center_limit_range'],
    )
    cfg.model.train_cfg.pts.update(
        voxels,
        grid_size=grid,
        out_size_factor=settings['out_size_factor'],
        gaussian_overlap=settings['gaussian_overlap'],
        min_radius=settings['min_radius'],
        max_objs=settings['max_objs'],
        code_weights=[settings['code_weights'][i] for i in _CODES],
    )
    cfg.model.test_cfg.pts.update(
        score_threshold=settings['score_threshold'],
        post_center_limit_range=settings['post_center_limit_range'],
        pre_max_size=nms['nms_pre_max_size'],
        post_max_size=nms['nms_post_max_size'],
        nms_thr=nms['nms_iou_threshold'],
    )
    return cfg


def _build(case, cfg: Config) -> nn.Module:
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_detection(case.state_dict()).state_dict, strict=True)
    return model


def _batch(inputs: dict[str, Tensor], model: nn.Module, training: bool) -> dict:
    points, samples = [], []
    for b in range(int(inputs['sample'].max()) + 1):
        points.append(inputs['points'][inputs['sample'] == b])
        sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
        if training:
            own = inputs['gt_sample'] == b
            sample.gt_instances_3d = InstanceData(
                bboxes_3d=_our_boxes(inputs['gt_boxes'][own]), labels_3d=inputs['gt_labels'][own]
            )
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=dict(points=points), data_samples=samples), training)


def _our_boxes(boxes: Tensor) -> LiDARInstance3DBoxes:
    """From [x, y, z, w, l, h, vx, vy, angle]."""
    yaw = -boxes[:, 8:] - math.pi / 2
    boxes = torch.cat([boxes[:, [0, 1, 2, 4, 3, 5]], yaw, boxes[:, 6:8]], dim=1)
    return LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5))


def _official_boxes(boxes: Tensor, turned: float = 0.0) -> Tensor:
    """To [x, y, z, w, l, h, vx, vy, angle]; the official angle lies within half a turn before it is turned back."""
    angle = -boxes[..., 6:7] - math.pi / 2 + turned
    angle = torch.atan2(angle.sin(), angle.cos()) - turned
    return torch.cat([boxes[..., [0, 1, 2, 4, 3, 5, 7, 8]], angle], dim=-1)


def _results(results: list[InstanceData], prefix: str, turned: float = 0.0) -> Outputs:
    outputs: Outputs = {}
    for b, result in enumerate(results):
        boxes = torch.cat([result.bboxes_3d.gravity_center, result.bboxes_3d.tensor[:, 3:]], dim=1)
        outputs[f'{prefix}result.{b}.boxes'] = _official_boxes(boxes, turned)
        outputs[f'{prefix}result.{b}.scores'] = result.scores_3d
        outputs[f'{prefix}result.{b}.labels'] = result.labels_3d
    return outputs


def _cells(head: nn.Module, preds: list[list[dict[str, Tensor]]], prefix: str) -> Outputs:
    """All decoded cells."""
    outputs: Outputs = {}
    for task, (maps,) in enumerate(preds):
        sine, cosine = maps['rot'].chunk(2, dim=1)
        boxes = head.bbox_coder.decode_cells(sine, cosine, maps['height'], maps['dim'].exp(), maps['vel'], maps['reg'])
        outputs[f'{prefix}decode.{task}.boxes'] = _official_boxes(boxes)
        outputs[f'{prefix}decode.{task}.scores'] = maps['heatmap'].sigmoid().flatten(2).transpose(1, 2)
    return outputs


def _decode(case, cfg: Config) -> Outputs:
    model = cfg.model
    head = MODELS.build(dict(model.pts_bbox_head, train_cfg=model.train_cfg.pts, test_cfg=model.test_cfg.pts))
    inputs, num_tasks = case.inputs(), len(case.meta['settings']['tasks'])
    tasks = [
        {_our_name(name): turn_maps(name, inputs[f'head.{task}.{name}'], 1) for name in MAPS}
        for task in range(num_tasks)
    ]
    metas = [dict(box_type_3d=LiDARInstance3DBoxes)] * 2
    plain = [[{name: values[:2] for name, values in maps.items()}] for maps in tasks]
    # Rows are samples of four views each.
    views = [[[{name: values[v::4] for name, values in maps.items()}] for maps in tasks] for v in range(4)]
    merged = [[merge_views([views[v][task][0] for v in range(4)], VIEWS)] for task in range(num_tasks)]
    outputs = _cells(head, plain, 'plain.') | _results(head.predict_by_feat(plain, metas), 'plain.')
    outputs |= _cells(head, merged, 'flip.')
    views = list(zip(views, VIEWS, strict=True))
    outputs |= _results(LinKCenterPointTTA.detect(head, views, metas, 0.0), 'flip.')
    turned = case.meta['settings']['tt_rotation']  # clockwise
    outputs |= _results(LinKCenterPointTTA.detect(head, views, metas, -turned), 'flip_rot.', turned)
    return outputs


def _our_name(name: str) -> str:
    return 'heatmap' if name == 'hm' else name


def _infer(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).eval()
    batch = _batch(case.inputs(), model, training=False)
    outputs: Outputs = {}
    _record_encoder(model.pts_middle_encoder, outputs)
    model.pts_neck.register_forward_hook(lambda module, args, out: outputs.update(neck=out[0]))
    model.pts_bbox_head.shared_conv.register_forward_hook(lambda module, args, out: outputs.update(shared_conv=out))
    preds = []
    model.pts_bbox_head.register_forward_hook(lambda module, args, out: preds.append(out))
    voxels = batch['inputs']['voxels']
    order = _lexicographic(voxels['coors'])
    outputs['voxel.coordinates'] = voxels['coors'][order]
    outputs['voxel.num_points'] = voxels['num_points'][order]
    with torch.no_grad():
        outputs['reader'] = model.pts_voxel_encoder(voxels['voxels'], voxels['num_points'], None)[order]
        samples = model(**batch, mode='predict')
    for task, (maps,) in enumerate(preds[0]):
        for name in MAPS:
            outputs[f'head.{task}.{name}'] = turn_maps(name, maps[_our_name(name)], 1)
    outputs |= _cells(model.pts_bbox_head, preds[0], '')
    return outputs | _results([sample.pred_instances_3d for sample in samples], '')


def _lexicographic(coors: Tensor) -> Tensor:
    """Order of voxels by (batch, z, y, x)."""
    order = torch.arange(len(coors))
    for column in (3, 2, 1, 0):
        order = order[coors[order, column].argsort(stable=True)]
    return order


def _record_encoder(encoder: nn.Module, outputs: Outputs, prefix: str = '') -> None:
    """What the parts of the encoder give, voxels in their recorded order."""

    def entered(module: nn.Module, args: tuple, out) -> None:
        outputs[f'{prefix}conv_input'] = out.features[_lexicographic(out.indices)]

    encoder.conv_input.register_forward_hook(entered)
    encoder.register_forward_hook(lambda module, args, out: outputs.update({f'{prefix}bev': out}))
    for k, level in encoder.levels.items():
        parts: Outputs = {}  # until the order of their voxels is known
        names = dict(down=f'down{k}', link=f'elk{k}', link_tail=f'elk{k}_tail', conv_tail=f'conv{k}_tail')
        for part, name in names.items():
            module = getattr(level, part)
            if module is not None:
                module.register_forward_hook(
                    lambda module, args, out, name=name, parts=parts: parts.update(
                        {name: getattr(out, 'features', out)}
                    )
                )

        def left(module: nn.Module, args: tuple, out, k: str = k, parts: Outputs = parts) -> None:
            order = _lexicographic(out.indices)
            parts[f'conv{k}'] = out.features
            outputs.update({prefix + name: feats[order] for name, feats in parts.items()})
            outputs[f'{prefix}down{k}.coordinates'] = out.indices[order]

        level.register_forward_hook(left)


def _train(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).train()
    head = model.pts_bbox_head
    batch = _batch(case.inputs(), model, training=True)
    outputs: Outputs = _targets(case, head, [sample.gt_instances_3d for sample in batch['data_samples']])
    _record_encoder(model.pts_middle_encoder, outputs, 'train.')
    model.pts_neck.register_forward_hook(lambda module, args, out: outputs.update({'train.neck': out[0]}))
    calls = []
    head.loss_bbox.register_forward_hook(
        lambda module, args, kwargs, out: calls.append((args, kwargs)), with_kwargs=True
    )
    losses = model(**batch, mode='loss')
    total = sum(losses.values())
    total.backward()
    outputs['loss.total'] = total
    for task, ((predicted, boxes, weights), kwargs) in enumerate(calls):
        heatmap, bbox = losses[f'task{task}.loss_heatmap'], losses[f'task{task}.loss_bbox']
        # Of codes that are permuted or change their sign, errors only change their place.
        errors = ((predicted - boxes).abs() * (weights > 0)).sum((0, 1)) / kwargs['avg_factor']
        outputs[f'loss.{task}.loss'] = heatmap + bbox
        outputs[f'loss.{task}.hm_loss'] = heatmap
        outputs[f'loss.{task}.loc_loss'] = bbox / head.loss_bbox.loss_weight
        outputs[f'loss.{task}.loc_loss_elem'] = errors[[0, 1, 2, 4, 3, 5, 8, 9, 7, 6]]
        outputs[f'loss.{task}.num_positive'] = (weights[..., 0] > 0).sum()
    outputs['grad.norm'] = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    for name in case.meta['outputs']:
        kind, _, key = name.partition('.')
        if kind in ('grad', 'after') and key != 'norm':
            shape = case.meta['state_dict'][key]['shape']
            (ours,) = convert_detection({key: torch.zeros(shape)}).state_dict
            value = model.get_parameter(ours).grad if kind == 'grad' else model.get_buffer(ours)
            last = key.split('.')[3] if '.3.' in key and key.startswith('bbox_head.tasks.') else ''
            outputs[name] = turn_maps(last, value)
    return outputs


def _targets(case, head: nn.Module, instances: list[InstanceData]) -> Outputs:
    outputs: Outputs = {}
    classes = zip(*(head.slot_classes(sample.labels_3d) for sample in instances), strict=True)
    for task, (heatmap, boxes, cells, filled, slots) in enumerate(
        zip(*head.get_targets(instances), map(torch.stack, classes), strict=True)
    ):
        used = case.meta['outputs'][f'target.{task}.anno_box']['shape'][1]
        (index,) = torch.where(heatmap.flatten() > 0)
        official = torch.cat([boxes[..., [0, 1, 2, 4, 3, 5, 8, 9]], -boxes[..., [7, 6]]], dim=-1)
        outputs[f'target.{task}.heatmap_index'] = index
        outputs[f'target.{task}.heatmap_value'] = heatmap.flatten()[index]
        outputs[f'target.{task}.anno_box'] = official[:, :used]
        outputs[f'target.{task}.ind'] = cells[:, :used]
        outputs[f'target.{task}.mask'] = filled[:, :used]
        outputs[f'target.{task}.cat'] = (slots * filled)[:, :used]
    return outputs

"""LinK's block alone and its segmentation networks: from a recorded case to our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, PointData
from mmengine.config import Config
from torch import Tensor, nn

from mvbench_plugins.link.linear_kernel_block import LinearKernelBlock
from mvbench_plugins.link.seg_checkpoint import convert_segmentation, unlabelled_first
from mvbench_plugins.link.voxel_set import VoxelSet

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'link'
# Official configs say by their folders what the network is; what they set is repeated by the case.
CONFIGS = {
    ('semantic_kitti', 'linkunet'): 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg.py',
    ('semantic_kitti', 'linkencoder'): 'linkencoder_cos-3x7_4xb2-25e_semantickitti-seg.py',
    ('nuscenes', 'linkunet'): 'linkunet_cosx-2x3_4xb16-80e_nus-seg.py',
    ('nuscenes', 'linkencoder'): 'linkencoder_cosx-2x3_4xb16-80e_nus-seg.py',
}

Outputs = dict[str, Any]


def run_blocks(case) -> Outputs:
    """The block alone, in all its variants."""
    settings, inputs, weights = case.meta['settings'], case.inputs(), case.state_dict()
    outputs: Outputs = {}
    for name, spec in settings.get('det', {}).items():
        voxels = VoxelSet(inputs['det_coords'][:, [0, 3, 2, 1]])
        shared = 2 if spec['baseop'] in ('cos', 'x') else 1
        block = LinearKernelBlock(
            spec['channels'], spec['baseop'], settings['det_block_size'], 3, groups=shared, num_phases=spec['channels']
        )
        outputs.update(_run_block(name, block, voxels, weights, inputs['det_feats'], inputs['det_grad']))
    for name, spec in settings.get('seg', {}).items():
        voxels = VoxelSet(inputs['seg_coords'][:, [3, 0, 1, 2]], spec['tensor_stride'])
        block = LinearKernelBlock(
            spec['channels'],
            spec['baseop'],
            spec['s'],
            spec['r'],
            groups=spec['groups'],
            level_positions=spec['variant'] == 'encoder' and spec['baseop'] == 'cos_x',
        )
        outputs.update(_run_block(name, block, voxels, weights, inputs['seg_feats'], inputs['seg_grad']))
    return outputs


def _run_block(
    name: str, block: nn.Module, voxels: VoxelSet, weights: dict[str, Tensor], feats: Tensor, weight: Tensor
) -> Outputs:
    prefix = f'{name}.'
    block.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}, strict=True)
    feats = feats.clone().requires_grad_()
    out = block(feats, voxels)
    (0.5 * (out.square() * weight).sum()).backward()
    grads = {f'{prefix}grad.{key}': param.grad for key, param in block.named_parameters()}
    return {f'{prefix}out': out, f'{prefix}grad_feats': feats.grad, **grads}


def run_segmentation(case) -> Outputs:
    """A network in evaluation mode, and one training step from the same weights."""
    model = _build(case)
    inputs, ignored = case.inputs(), case.meta['settings']['ignore_index']
    feats, coors = inputs['feats'], inputs['coords'][:, [3, 0, 1, 2]]
    outputs: Outputs = {}
    _record(model, outputs)
    with torch.no_grad():
        outputs['logits'] = unlabelled_first(model.eval().decode_head(model.backbone(feats, coors)), dim=1)

    num_outputs = model.num_classes
    labels = (inputs['labels'] - 1) % num_outputs  # ours: unlabelled comes last
    assert ignored == 0 and model.decode_head.ignore_index == num_outputs - 1
    sample = Det3DDataSample(gt_pts_seg=PointData(voxel_semantic_mask=labels))
    heads: list[Tensor] = []  # [N, classes], of the encoder [N, classes, 1]
    model.decode_head.conv_seg.register_forward_hook(lambda module, args, out: heads.append(out.flatten(1)))
    losses = model.train().loss(dict(voxels=dict(voxels=feats, coors=coors)), [sample])
    sum(losses.values()).backward()
    outputs['train.logits'] = unlabelled_first(heads[0], dim=1)
    outputs['train.loss_ce'], outputs['train.loss_lovasz'] = losses['loss_ce'], losses['loss_lovasz']
    _record_gradients(case, model, outputs)
    outputs['train.after.stem.1.running_mean'] = model.backbone.stem[1].running_mean
    return outputs


def _build(case) -> nn.Module:
    """The model of the case's config, with the case's settings and weights."""
    settings = case.meta['settings']
    path = case.meta['reference']['config']
    data = 'nuscenes' if 'nuscenes' in path else 'semantic_kitti'
    network = settings['network']
    if (data, network) not in CONFIGS:
        raise ValueError(f'no config corresponds to the official {path}, network {network!r}; known: {sorted(CONFIGS)}')
    cfg = Config.fromfile(CONFIG_DIR / CONFIGS[data, network])
    channels = int(64 * settings['cr'])
    cfg.model.backbone.update(
        channels=channels,
        mode=settings['base_op'],
        block_size=settings['s'],
        num_blocks=settings['r'],
        groups=settings['groups'],
    )
    num_outputs = settings['num_classes']
    cfg.model.decode_head.update(
        channels=channels * (5 if network == 'linkencoder' else 1),
        num_classes=num_outputs,
        ignore_index=num_outputs - 1,
    )
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_segmentation(case.state_dict()).state_dict, strict=True)
    return model


def _record(model: nn.Module, outputs: Outputs) -> None:
    """Outputs of the parts by forward hooks, of the first run only."""

    def record(part: nn.Module, name: str) -> None:
        def given(module: nn.Module, args: tuple, out: Tensor) -> None:  # what a hook returns would take its place
            outputs.setdefault(name, out)

        part.register_forward_hook(given)

    def record_places(module: nn.Module, args: tuple, out: Tensor, name: str) -> None:
        coarser = args[1].coarser
        places = torch.cat([coarser.coors[:, 1:] * coarser.stride, coarser.coors[:, :1]], dim=1)
        outputs.setdefault(name, places)

    backbone = model.backbone
    record(backbone.stem, 'x0')
    for k, stage in enumerate(backbone.stages, start=1):
        record(stage.down, f'x{k}_0')
        record(stage.linear_kernel, f'elk{k}')
        record(stage.linear_kernel_tail, f'elk{k}_tail')
        record(stage.blocks_tail, f'stage{k}_tail')
        stage.register_forward_hook(
            lambda module, args, out, k=k: record_places(module, args, out, f'x{k}_0.coordinates')
        )
    for k, stage in enumerate(getattr(backbone, 'up_stages', ()), start=1):
        record(stage, f'y{k}')


def _record_gradients(case, model: nn.Module, outputs: Outputs) -> None:
    """Gradients under official names, their norm, and how many official parameters get none."""
    weights = case.state_dict()
    # By converting numbered entries: the last layer's rows are turned, which their names do not show.
    sizes = {name: len(value) if value.ndim else 1 for name, value in weights.items()}
    numbered = {name: torch.full((size,), i) for i, (name, size) in enumerate(sizes.items())}
    converted, dropped = convert_segmentation(numbered)
    names = list(weights)
    official = {ours: names[int(number[0])] for ours, number in converted.items()}
    last = 'classifier.2' if 'classifier.2.weight' in weights else 'classifier.0'
    params = dict(model.named_parameters())
    for ours, param in params.items():
        grad = param.grad
        if grad is not None and official[ours].startswith(last):
            grad = unlabelled_first(grad)
        outputs[f'train.grad.{official[ours]}'] = grad
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    idle = [name for name in dropped if not name.endswith(buffers)]
    idle += [name for name, param in params.items() if param.grad is None]
    outputs['train.unused_parameters'] = torch.tensor(len(idle))
    outputs['train.grad_norm'] = torch.stack([p.grad.norm() for p in params.values() if p.grad is not None]).norm()

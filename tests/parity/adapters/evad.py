"""EVAD: from a recorded case to our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from adapters.evad_modules import run_modules
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.evad.action_rois import extend_boxes
from mvbench_plugins.evad.checkpoint import convert_state_dict

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'evad'
CONFIGS = {
    'ViT_B_16x4': 'evad_vit-b-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py',
    'ViT_B_16x4_KTP': 'evad_vit-b-ktp-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py',
    'ViT_B_16x4_KTP_EW': 'evad_vit-b-ktp-ew-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py',
    'ViT_L_16x4_KTP': 'evad_vit-l-ktp-k700-pre_8xb1-16x4x1-12e_ava22-rgb.py',
    'ViT_L_16x4_KTP_v2.1': 'evad_vit-l-ktp-k700-pre_8xb1-16x4x1-12e_ava21-rgb.py',
}

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out."""
    register_all_modules()
    name = case.meta['reference']['config'].rpartition('/')[2].removesuffix('.yaml')  # "v2.1" is no suffix
    if name not in CONFIGS:
        raise ValueError(f'no config corresponds to the official {name!r}; known: {sorted(CONFIGS)}')
    cfg = Config.fromfile(CONFIG_DIR / CONFIGS[name])
    return dict(infer=_infer, train=_train, modules=run_modules)[case.kind](case, cfg), {}


def _build(case, cfg: Config) -> nn.Module:
    cfg.model.backbone.drop_path_rate = 0.0  # recorded without stochastic depth
    cfg.model.head.refinement.drop_path_rate = 0.0
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_state_dict(case.state_dict()).state_dict, strict=True)
    model.head.localizer.roi_extractor.register_forward_pre_hook(_misread_pyramid)
    model.head.refinement.pooling.register_forward_pre_hook(_misread_clip)
    return model


# Whole models were recorded with mmcv's RoIAlign in place of detectron2's, and with maps whose channels lie innermost
# in memory. mmcv's kernels do not look at strides: they read that memory as if its rows lay innermost. detectron2, with
# which the released weights were trained, copies such maps first, and so does this suite: released weights would be
# worth nothing otherwise. (The single localisation stage of the "modules" case was recorded with contiguous maps, and
# agrees without further ado.) To be compared with these recordings, our maps are read here as they were there; their
# gradients, which the kernel wrote in the right order, are not affected.


def _misread_pyramid(module: nn.Module, args: tuple) -> tuple:
    """Maps ``[B, C, h, w]`` whose memory is ``[B, h, w, C]``."""
    feats, rois = args
    return [_with_values(feat, feat.permute(0, 2, 3, 1).reshape(feat.shape)) for feat in feats], rois


def _misread_clip(module: nn.Module, args: tuple) -> tuple:
    """Slices ``[:, :, i]`` of a map ``[B, C, t, h, w]`` whose memory is ``[B, t, h, w, C]``.

    The kernel looks for the next clip's slice where the first one ends: there lies the same clip's next slice.
    """
    maps, boxes = args
    batch, num_slices, height, width, channels = maps.shape
    blocks = maps.reshape(batch * num_slices, channels, height, width).permute(0, 2, 3, 1)
    found = torch.arange(batch)[:, None] + torch.arange(num_slices)
    return _with_values(maps, blocks[found]), boxes


def _with_values(maps: Tensor, values: Tensor) -> Tensor:
    """Other values, with the gradient of the maps as they are."""
    return maps + (values - maps).detach()


def _batch(inputs: dict[str, Tensor], cfg: Config) -> tuple[Tensor, list[ActionDataSample]]:
    """Padded clips, and data samples with the unpadded size and, in training, the people."""
    clips = [inputs[f'clip_{i}'] for i in range(len(inputs['ori_hw']))]
    # Recorded clips are normalised already.
    preprocessor = MODELS.build({**cfg.model.data_preprocessor, 'mean': [0.0] * 3, 'std': [1.0] * 3})
    samples = []
    for i, clip in enumerate(clips):
        sample = ActionDataSample(metainfo=dict(img_shape=tuple(clip.shape[-2:])))
        if f'gt_boxes_{i}' in inputs:
            labels = nn.functional.pad(inputs[f'gt_actions_{i}'], (1, 0))
            sample.gt_instances = InstanceData(bboxes=inputs[f'gt_boxes_{i}'], labels=labels)
        samples.append(sample)
    return preprocessor.preprocess(clips, samples)


def _infer(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).eval()
    model.head.refinement.train()  # for the action logits of all blocks; nothing in it is random any more
    inputs = case.inputs()
    batch, samples = _batch(inputs, cfg)
    shapes = [sample.img_shape for sample in samples]
    outputs: Outputs = {}
    _record_backbone(model.backbone, outputs)
    _record_refinement(model.head.refinement, outputs)
    model.neck.register_forward_hook(
        lambda module, args, out: outputs.update({f'fpn_p{i}': level for i, level in enumerate(out, start=2)})
    )
    model.head.localizer.register_forward_hook(lambda module, args, out: outputs.update(_stages(out)))
    with torch.no_grad():
        samples = model(batch, samples, mode='predict')
        boxes = outputs[f'stage{len(model.head.localizer.stages) - 1}_boxes']
        outputs['extended_boxes'] = extend_boxes(boxes, model.head.refinement.extend, shapes)
    logits = outputs[f'stage{len(model.head.localizer.stages) - 1}_person_logits']
    outputs['person_scores'] = logits.softmax(-1)[..., 0]
    clipped = extend_boxes(boxes, (0.0, 0.0), shapes)
    ratio = [(ori_w / w, ori_h / h) * 2 for (ori_h, ori_w), (h, w) in zip(inputs['ori_hw'].tolist(), shapes)]
    outputs['person_boxes'] = clipped * clipped.new_tensor(ratio)[:, None]
    found = [sample.pred_instances for sample in samples]
    outputs['det_image'] = torch.tensor([i for i, people in enumerate(found) for _ in range(len(people))])
    outputs['det_boxes'] = torch.cat([people.bboxes for people in found])
    outputs['det_action_scores'] = torch.cat([people.scores[:, 1:] for people in found])
    return outputs


def _stages(predictions) -> Outputs:
    outputs = {}
    for k, stage in enumerate(predictions):
        outputs[f'stage{k}_person_logits'] = stage.person_logits
        outputs[f'stage{k}_boxes'] = stage.boxes
        outputs[f'stage{k}_queries'] = stage.queries
    return outputs


def _record_backbone(backbone: nn.Module, outputs: Outputs) -> None:
    gone: list[Tensor] = []  # positions of the surviving tokens, from pruning to pruning

    def embedded(module: nn.Module, args: tuple, out: Tensor) -> None:
        outputs['tokens'] = out

    def selected(module: nn.Module, args: tuple, out: Tensor) -> None:
        scores, num_key, _ = args
        total = outputs['tokens'].shape[1] - num_key
        before = gone[-1] if gone else torch.arange(total).expand(len(out), -1)
        after = before.gather(1, out)
        step, blank = len(gone), scores.new_zeros(len(out), total)
        outputs[f'ktp{step}_score'] = blank.scatter(1, before, scores * total)
        outputs[f'ktp{step}_kept'] = blank.scatter(1, after, 1.0)
        gone.append(after)

    def encoded(module: nn.Module, args: tuple, out) -> None:
        for block, tap in zip(module.out_indices, out.key_maps, strict=True):
            outputs[f'key_feat{block}'] = tap
        outputs['enc_key'] = out.key
        total = outputs['tokens'].shape[1] - out.key.shape[1]
        blank = out.others.new_zeros(len(out.others), total, out.others.shape[-1])
        outputs['enc_nonkey'] = blank.scatter(1, out.positions[..., None].expand_as(out.others), out.others)
        outputs['kept_order'] = out.positions

    backbone.pos_drop.register_forward_hook(embedded)
    backbone.selection.register_forward_hook(selected)
    backbone.register_forward_hook(encoded)


def _record_refinement(refinement: nn.Module, outputs: Outputs) -> None:
    def rebuilt(module: nn.Module, args: tuple) -> None:
        outputs['dense_map'] = args[0].permute(0, 4, 1, 2, 3)

    def pooled(module: nn.Module, args: tuple, out: Tensor) -> None:
        outputs['roi_features'] = out

    def first_block(module: nn.Module, args: tuple) -> None:
        outputs['decoder_in'] = args[0]

    refinement.pooling.register_forward_pre_hook(rebuilt, prepend=True)
    refinement.pooling.register_forward_hook(pooled)
    refinement.blocks[0].norm1.register_forward_pre_hook(first_block)
    for k, head in enumerate(refinement.action_heads):
        head.register_forward_hook(lambda module, args, out, k=k: outputs.update({f'action_logits{k}': out}))


def _train(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).train()
    inputs = case.inputs()
    batch, samples = _batch(inputs, cfg)
    matches: list[tuple[Tensor, Tensor]] = []
    match = model.head._match

    def recorded(*args):
        matches.append(match(*args))
        return matches[-1]

    model.head._match = recorded
    losses = model(batch, samples, mode='loss')
    total = sum(losses.values())
    total.backward()
    outputs: Outputs = {'loss_total': total}
    names = dict(loss_person='loss_ce', loss_action='loss_bce', loss_bbox='loss_bbox', loss_giou='loss_giou')
    for name, loss in losses.items():
        prefix, _, kind = name.rpartition('.')
        outputs['_'.join([names[kind], *([prefix[1:]] if prefix else [])])] = loss * len(losses)
    for i, (query, person) in enumerate(matches[-len(samples) :]):
        outputs[f'matched_query_{i}'] = query[person.argsort()]
    params = dict(model.named_parameters())
    for name in case.meta['outputs']:
        if name.startswith('grad:'):
            (ours,) = convert_state_dict({name.removeprefix('grad:'): torch.empty(0)}).state_dict
            outputs[name] = params[ours].grad
    return outputs

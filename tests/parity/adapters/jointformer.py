"""JointFormer: from a recorded case to our outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from torch import Tensor, nn

from mvbench_plugins.jointformer import detector
from mvbench_plugins.jointformer.aggregation import soft_aggregate
from mvbench_plugins.jointformer.checkpoint import convert_state_dict
from mvbench_plugins.jointformer.labels import one_hot, unknown_labels

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / 'jointformer' / '_base_' / 'jointformer.py'
_OPTIONS = {
    'single_object',
    'update_block_depth',
    'enhance_block_depth',
    'topk_num',
    'topk_range',
    'topk_block',
    'topk_clstoken',
    'mem_every',
    'include_last',
    'max_memory_frames',
    'start_warm',
    'end_warm',
    'it',
    'vost_loss',
    'num_frames',
    'num_ref_frames',
}

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out.

    Raises:
        ValueError: the case has another kind, an unknown option or one that we do not have.
    """
    register_all_modules()
    if case.kind == 'modules':
        from adapters.jointformer_modules import run as run_modules

        return run_modules(case)
    kinds = dict(video=_segment, train=_train)
    if case.kind not in kinds:
        raise ValueError(f'{case.path}: found kind {case.kind!r}, expected one of {sorted([*kinds, "modules"])}')
    return kinds[case.kind](case, _build(case)), {}


def _build(case) -> nn.Module:
    """The model of the released config, with the options and the weights of the case."""
    options = case.meta['options']
    if unknown := set(options) - _OPTIONS:
        raise ValueError(f'{case.path}: "options": found {sorted(unknown)}, expected some of {sorted(_OPTIONS)}')
    if not options.get('include_last', True):
        raise ValueError(f'{case.path}: "options": found include_last false, expected true as in all released settings')
    model = Config.fromfile(CONFIG).model
    model.backbone.update(mask_channels=1 if options.get('single_object') else 2)
    for ours, theirs in (('token_depth', 'update_block_depth'), ('enhance_depth', 'enhance_block_depth')):
        model.backbone[ours] = options.get(theirs, model.backbone[ours])
    for name in ('mem_every', 'max_memory_frames'):
        model.test_cfg[name] = options.get(name, model.test_cfg[name])
    model.test_cfg.topk = _topk(options)
    for ours, theirs in (('start', 'start_warm'), ('end', 'end_warm')):
        model.loss_ce[ours] = options.get(theirs, model.loss_ce[ours])
    if options.get('vost_loss'):
        model.loss_ce.ignore_index = model.loss_dice.ignore_index = 255
    model.train_cfg.num_ref_frames = options.get('num_ref_frames', model.train_cfg.num_ref_frames)
    built = MODELS.build(model)
    built.load_state_dict(convert_state_dict(case.state_dict()).state_dict, strict=True)
    return built


def _topk(options: dict) -> dict | None:
    blocks = options.get('topk_block')
    if options.get('topk_num') is None or blocks in (None, 'None'):
        return None
    token = {'N': False, 'Y': True}[options.get('topk_clstoken', 'N')]
    return dict(k=options['topk_num'], scope=options.get('topk_range', 'all_frames'), blocks=blocks, token=token)


def _segment(case, model: nn.Module) -> Outputs:
    model.eval()
    inputs = case.inputs()
    frames, annotated = inputs['frames'], inputs['annotated'].tolist()
    outputs, labels = {}, []
    for t, image in enumerate(frames):
        for k in range(model.memory.num_objects):
            read = [min(annotated) + step for step in model.memory.frames_of(k)]
            outputs[f't{t}/bank_object{k + 1}'] = torch.tensor(read)
        masks = None
        if t in annotated:
            new = unknown_labels(inputs['labels'][t], labels, f'{case.path}: frame {t}')
            labels += new
            masks = one_hot(inputs['labels'][t], new)
        with _recorded(model) as seen:
            prob = model.step(image, masks, is_last=t == len(frames) - 1)
        index_mask = torch.tensor([0, *labels], dtype=torch.uint8)[prob.argmax(0)]
        outputs.update({f't{t}/{name}': value for name, value in seen.items()})
        outputs.update({f't{t}/prob': prob, f't{t}/index_mask': index_mask})
    return outputs


@contextmanager
def _recorded(model: nn.Module) -> Iterator[Outputs]:
    """What the parts of the model take and give on one frame; stems are repeated for each object, as recorded."""
    seen: Outputs = {}
    backbone = model.backbone

    def stem(image: Tensor):
        out = originals['stem'](image)
        seen.update(f4=out.f4, f8=out.f8)
        return out

    def enhance(f16: Tensor, token: Tensor) -> Tensor:
        out = originals['enhance'](f16, token)
        seen.update({name: seen[name].expand(len(f16), -1, -1, -1) for name in ('f4', 'f8')})
        seen.update(f16=f16, enhanced_f16=out)
        return out

    def update_token(*args) -> Tensor:
        seen['cls_after_feature'] = originals['update_token'](*args)
        return seen['cls_after_feature']

    def memorize(frames: Tensor, *args):
        memory, token = originals['memorize'](frames, *args)
        seen.update(memory_input=frames, cls_after_memory=token)
        return memory, token

    def decoded(module: nn.Module, args: tuple, out: tuple[Tensor, Tensor]) -> None:
        seen.update(object_logits=out[0][:, 0], fusion=out[1])
        seen['logits'], seen['segment_prob'] = soft_aggregate(out[0][:, 0].sigmoid())

    replaced = dict(stem=stem, enhance=enhance, update_token=update_token, memorize=memorize)
    originals = {name: getattr(backbone, name) for name in replaced}
    hooks = [model.mask_head.register_forward_hook(decoded)]
    for i, block in enumerate(backbone.blocks3):  # called for memorised frames only
        hooks.append(
            block.register_forward_pre_hook(lambda module, args, i=i: seen.update({f'memory_block{i}': args[0]}))
        )
    try:
        with mock.patch.multiple(backbone, **replaced):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _train(case, model: nn.Module) -> Outputs:
    model.train()
    options, inputs = case.meta['options'], case.inputs()
    images, targets, counts = inputs['rgb'], inputs['cls_gt'].long(), inputs['num_objects'].tolist()
    model.num_slots = inputs['selector'].shape[1]
    if images.shape[1] != options['num_frames']:
        raise ValueError(f'{case.path}: found {images.shape[1]} frames, expected num_frames={options["num_frames"]}')
    _check_slots(case, inputs)
    _set_draws(model.draws, inputs)
    samples = []
    for clip, count in zip(targets, counts, strict=True):
        frames = [DetDataSample(gt_sem_seg=PixelData(sem_seg=target)) for target in clip]
        samples.append(TrackDataSample(video_data_samples=frames, metainfo=dict(num_objects=count)))

    clip = []
    original = detector.segment_clip

    def recorded(*args):
        for output in original(*args):
            clip.append(output)
            yield output

    hub = MessageHub.get_current_instance()
    before = hub.get_info('iter', 0)
    outputs: Outputs = {}
    try:
        hub.update_info('iter', options['it'])
        with mock.patch.object(detector, 'segment_clip', recorded):
            losses = model.loss(dict(img=images), samples)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        iterations = {name.split('/')[0].removeprefix('loss@') for name in case.meta['outputs'] if '@' in name}
        for iteration in sorted(map(int, iterations)):
            hub.update_info('iter', iteration)
            outputs.update(_losses(model, clip, targets[:, :, 0], counts, f'loss@{iteration}/'))
    finally:
        hub.update_info('iter', before)
    for t, output in enumerate(clip, start=1):
        outputs.update({f'logits_{t}': output.logits, f'masks_{t}': output.prob})
    names = list(case.meta['state_dict'])
    ours = convert_state_dict({name: torch.tensor(i) for i, name in enumerate(names)}).state_dict
    for name, number in ours.items():
        outputs[f'grad/{names[number]}'] = model.get_parameter(name).grad
    grads = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    outputs['grad_norm'] = torch.stack(grads).norm()
    return outputs


def _check_slots(case, inputs: dict[str, Tensor]) -> None:
    """Our model makes the first masks and the selector itself, of the labels and the number of objects."""
    slots = inputs['selector'].shape[1]
    first = one_hot(inputs['cls_gt'][:, 0, 0], range(1, slots + 1))
    used = torch.arange(slots) < inputs['num_objects'][:, None]
    for name, ours in (('first_frame_gt', first[:, None]), ('selector', used)):
        if not torch.equal(inputs[name].double(), ours.double()):
            raise ValueError(f'{case.path}: input {name!r} is not what follows of cls_gt and num_objects')


def _set_draws(draws, inputs: dict[str, Tensor]) -> None:
    """The recorded draws take the place of random ones."""

    def references(step: int, batch_size: int) -> Tensor:
        if step <= draws.num_ref_frames:
            return torch.arange(step).expand(batch_size, -1)
        chosen = inputs['ref_frames'][step - draws.num_ref_frames - 1]
        return torch.cat([torch.zeros(batch_size, 1, dtype=torch.long), chosen], dim=1)

    draws.references = references
    draws.updates_token = lambda step: bool(inputs['token_update'][step - 1])


@torch.no_grad()
def _losses(model: nn.Module, clip: list, targets: Tensor, counts: list[int], prefix: str) -> Outputs:
    """The losses at the current iteration, and their sum."""
    outputs: Outputs = {}
    for t, output in enumerate(clip, start=1):
        outputs[f'ce_loss_{t}'] = model.loss_ce(output.logits, targets[:, t], counts)
        outputs[f'dice_loss_{t}'] = model.loss_dice(output.prob, targets[:, t])
    outputs['total_loss'] = sum(outputs.values())
    outputs['p'] = model.loss_ce.current_share
    return {prefix + name: value for name, value in outputs.items()}

"""CycleACR: from a recorded case to our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.cycleacr.checkpoint import convert_state_dict

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'cycleacr'
CONFIGS = {
    'SlowFast-R50': 'cycleacr_slowfast-r50.py',
    'SlowFast-R101': 'cycleacr_slowfast-r101.py',
    'Swin-B': 'cycleacr_swin-b.py',
    'ViT-B/16': 'cycleacr_vit-b.py',
    'ViT-L/16': 'cycleacr_vit-l.py',
}

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names."""
    register_all_modules()
    if case.meta['case'] == 'modules':
        from .cycleacr_modules import run_modules

        return run_modules(case)
    return (_train if 'labels' in case.meta['inputs'] else _infer)(case), {}


def load_config(backbone: str) -> Config:
    """The model config that corresponds to a recorded backbone."""
    if backbone not in CONFIGS:
        raise ValueError(f'no config corresponds to the backbone {backbone!r}; known: {sorted(CONFIGS)}')
    return Config.fromfile(CONFIG_DIR / '_base_' / CONFIGS[backbone])


def _build(case) -> nn.Module:
    """The model with the case's weights, without dropout, stochastic depth and random choices."""
    recorded = case.meta['model']
    cfg = load_config(recorded['backbone'])
    if 'drop_path_rate' in cfg.model.backbone:
        cfg.model.backbone.drop_path_rate = 0.0
    if 'slow_pathway' in cfg.model.backbone:
        cfg.model.backbone.slow_jitter = False
    cfg.model.head.dropout = 0.0
    cfg.model.head.num_classes = recorded['num_classes']
    cfg.model.head.max_persons = recorded['max_person']
    cfg.model.memory = dict(
        before=recorded['memory_before'], after=recorded['memory_after'], max_per_second=recorded['max_per_sec']
    )
    cfg.model.train_cfg = dict(jitter=False)
    cfg.model.test_cfg = dict(extend=tuple(recorded['test_extend']))
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_state_dict(case.state_dict()).state_dict, strict=True)
    return model


def _samples(inputs: dict[str, Tensor], train: bool) -> list[ActionDataSample]:
    samples = []
    for i, (w, h) in enumerate(inputs['img_size'].tolist()):
        sample = ActionDataSample(
            metainfo=dict(
                img_shape=(h, w), video_id=str(int(inputs['movie'][i])), timestamp=int(inputs['timestamp'][i])
            )
        )
        own = inputs['box_clip'] == i
        if train:
            labels = nn.functional.pad(inputs['labels'][own].float(), (1, 0))
            sample.gt_instances = InstanceData(bboxes=inputs['boxes'][own], labels=labels)
        else:
            sample.proposals = InstanceData(bboxes=inputs['boxes'][own], scores=inputs['box_scores'][own])
        samples.append(sample)
    return samples


def _fill(bank, inputs: dict[str, Tensor]) -> None:
    """The recorded bank: rows of equal movie and second are one entry."""
    keys = list(zip(inputs['bank_movie'].tolist(), inputs['bank_time'].tolist(), strict=True))
    for movie, second in dict.fromkeys(keys):
        rows = torch.tensor([key == (movie, second) for key in keys])
        loss = float(inputs['bank_loss'][rows][0]) if 'bank_loss' in inputs else None
        bank.update(str(int(movie)), int(second), inputs['bank_features'][rows], loss)


def _record(model: nn.Module, outputs: Outputs) -> None:
    head = model.head

    def save(name: str, convert=lambda out: out):
        def hook(module: nn.Module, args: tuple, out: Any) -> None:
            outputs[name] = convert(out)

        return hook

    def maps(module: nn.Module, args: tuple, out: Any) -> None:
        outputs.update({f'backbone_{i}': part for i, part in enumerate(out if isinstance(out, tuple) else (out,))})

    def people(module: nn.Module, args: tuple, out: Tensor) -> None:
        (found,) = args
        side = round(found.local.shape[1] ** 0.5)
        outputs['local_features'] = found.local.transpose(1, 2).unflatten(2, (side, side))
        outputs['roi_features'] = found.pooled
        outputs['context_features'] = found.context.transpose(1, 2)
        # Projected once per clip here, once per person officially.
        outputs['context_reduced'] = head.cycle.context_reduce(found.context)[found.clip].transpose(1, 2)
        outputs['actor_features'] = out

    def squeeze(out: Tensor) -> Tensor:
        return out[:, 0]

    model.backbone.register_forward_hook(maps)
    head.roi_align.register_forward_pre_hook(lambda module, args: outputs.update(proposals=args[1][:, 1:]))
    head.cycle.register_forward_hook(people)
    head.cycle.actor_reduce.register_forward_hook(save('actor_reduced'))
    head.cycle.local_reduce.register_forward_hook(save('local_reduced'))
    for i in range(len(head.cycle.local_a2c_blocks)):
        head.cycle.local_a2c_blocks[i].register_forward_hook(save(f'local_a2c_{i}', lambda out: out.transpose(1, 2)))
        head.cycle.local_c2a_blocks[i].register_forward_hook(save(f'local_c2a_{i}', squeeze))
        head.cycle.global_a2c_blocks[i].register_forward_hook(save(f'global_a2c_{i}', squeeze))
    head.interaction.register_forward_pre_hook(lambda module, args: outputs.update(memory=args[2]))
    for i in range(len(head.interaction.person_blocks)):
        head.interaction.person_blocks[i].register_forward_hook(save(f'instance_person_{i}', squeeze))
        head.interaction.memory_blocks[i].register_forward_hook(save(f'instance_memory_{i}', squeeze))
    head.fc1.register_forward_pre_hook(lambda module, args: outputs.update(fused=args[0]))
    head.dropout.register_forward_pre_hook(lambda module, args: outputs.update(mlp=args[0]))
    head.cls_score.register_forward_hook(save('logits'))


def _infer(case) -> Outputs:
    model = _build(case).eval()
    inputs = case.inputs()
    outputs: Outputs = {}
    _record(model, outputs)
    _fill(model.memory, inputs)
    samples = _samples(inputs, train=False)
    with torch.no_grad():
        # Two passes: what the first one finds replaces or enters the bank.
        features = model.extract(inputs['clip'], samples)
        for sample, feature in zip(samples, features, strict=True):
            model.memory.update(sample.video_id, sample.timestamp, feature.actor_features)
        keys = [(sample.video_id, sample.timestamp) for sample in samples]
        memory = model.memory.assemble(keys, [feature.actor_features for feature in features])
        samples = model.classify(features, memory, samples)
    outputs['scores'] = torch.cat([sample.pred_instances.scores[:, 1:] for sample in samples])
    # Recorded before the outer edges are taken: the boxes that go in.
    outputs['det_boxes'] = torch.cat([sample.proposals.bboxes for sample in samples])
    return outputs


def _train(case) -> Outputs:
    model = _build(case).train()
    inputs = case.inputs()
    outputs: Outputs = {}
    _record(model, outputs)
    _fill(model.train_memory, inputs)
    model.last_loss = float(inputs['cur_loss'])
    losses = model(inputs['clip'], _samples(inputs, train=True), mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    outputs['loss'] = total
    weights = dict(zip(getattr(model.head.loss, 'names', ()), getattr(model.head.loss, 'weights', ()), strict=True))
    official = dict(
        pose='loss_pose_action',
        object_interaction='loss_object_interaction',
        person_interaction='loss_person_interaction',
    )
    for name, weight in weights.items():
        outputs[official[name]] = losses[f'loss_{name}'] / weight  # recorded before its weight
    params = dict(model.named_parameters())
    marked = {key: torch.full((1,), i) for i, key in enumerate(case.meta['state_dict'])}
    ours = {int(value[0]): key for key, value in convert_state_dict(marked).state_dict.items() if value.dim()}
    for name, spec in case.meta['outputs'].items():
        if name.startswith('grad:'):
            key = name.removeprefix('grad:')
            outputs[name] = params[ours[int(marked[key][0])]].grad.reshape(spec['shape'])
    return outputs

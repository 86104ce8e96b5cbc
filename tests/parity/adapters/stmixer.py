"""STMixer: from a recorded case to our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmaction.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.common.xyzr import decode_xyzr, log_iof, xyzr_embedding
from mvbench_plugins.ops.pyramid_sampling import FlatPyramid
from mvbench_plugins.stmixer.checkpoint import convert_state_dict
from mvbench_plugins.stmixer.decoder_stage import Predictions, Queries
from mvbench_plugins.stmixer.head import STMixerHead
from mvbench_plugins.stmixer.sampling import flatten_clip_pyramid, level_weights, sample_clip, sampling_points

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'stmixer'
CONFIGS = {
    'PySlowonly-R50-K400-4x16': 'stmixer_slowonly-r50-k400-pre_8xb2-4x16x1-12e_ava22-rgb.py',
    'PySlowfast-R50-K400-8x8': 'stmixer_slowfast-r50-k400-pre_8xb2-32x2x1-12e_ava22-rgb.py',
    'PySlowfast-R101-NL-K600-8x8': 'stmixer_slowfast-r101-nl-k600-pre_8xb2-32x2x1-12e_ava22-rgb.py',
    'VMAE-ViTB-16x4': 'stmixer_vit-b-k400-pre_8xb1-16x4x1-12e_ava22-rgb.py',
    'VMAEv2-ViTB-16x4': 'stmixer_vit-b-v2-k710-pre_8xb1-16x4x1-12e_ava22-rgb.py',
}

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out."""
    register_all_modules()
    runner = dict(infer=_infer, train=_train, modules=_modules)[case.meta['kind']]
    return runner(case), {}


def load_config(official: str) -> Config:
    """The config that corresponds to an official one."""
    if official not in CONFIGS:
        raise ValueError(f'no config corresponds to the official {official!r}; known: {sorted(CONFIGS)}')
    return Config.fromfile(CONFIG_DIR / CONFIGS[official])


def _build(case) -> nn.Module:
    cfg = load_config(case.official_config)
    if 'drop_path_rate' in cfg.model.backbone:
        cfg.model.backbone.drop_path_rate = 0.0  # recorded without stochastic depth
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_state_dict(case.state_dict()).state_dict, strict=True)
    return model


def _samples(inputs: dict[str, Tensor]) -> list[ActionDataSample]:
    """Data samples with the unpadded size and, in training, the people."""
    samples = []
    for i, (w, h) in enumerate(inputs['whwh'][:, :2].tolist()):
        # The head takes sizes as they are: recorded ones need not be whole numbers of pixels.
        sample = ActionDataSample(metainfo=dict(img_shape=(h, w)))
        if f'gt_boxes_{i}' in inputs:
            sample.gt_instances = InstanceData(
                bboxes=inputs[f'gt_boxes_{i}'],
                labels=nn.functional.pad(inputs[f'gt_labels_{i}'], (1, 0)),
            )
        samples.append(sample)
    return samples


def _record_stages(head: STMixerHead, outputs: Outputs) -> None:
    def record(prefix: str):
        def hook(module: nn.Module, args: tuple, out: tuple[Queries, Predictions]) -> None:
            queries, predictions = out
            outputs[f'{prefix}_spatial_query'] = queries.spatial
            outputs[f'{prefix}_temporal_query'] = queries.temporal
            outputs[f'{prefix}_xyzr'] = queries.position
            outputs[f'{prefix}_human_logits'] = predictions.person_logits
            outputs[f'{prefix}_action_logits'] = predictions.action_logits
            outputs[f'{prefix}_boxes'] = predictions.boxes

        return hook

    for k, stage in enumerate(head.stages):
        stage.register_forward_hook(record(f'stage{k}'))
        stage.box_head.register_forward_hook(
            lambda module, args, out, k=k: outputs.update({f'stage{k}_xyzr_delta': out})
        )


def _detections(samples: list[ActionDataSample]) -> Outputs:
    outputs = {}
    for i, sample in enumerate(samples):
        outputs[f'det{i}_boxes'] = sample.pred_instances.bboxes
        outputs[f'det{i}_scores'] = sample.pred_instances.scores[:, 1:]
    return outputs


def _infer(case) -> Outputs:
    model = _build(case).eval()
    inputs = case.inputs()
    outputs: Outputs = {}

    def record_levels(name: str):
        def hook(module: nn.Module, args: tuple, out: Any) -> None:
            levels = out if isinstance(out, (list, tuple)) else [out]
            outputs.update({f'{name}_{i}': level for i, level in enumerate(levels)})

        return hook

    model.backbone.register_forward_hook(record_levels('backbone'))
    model.neck.register_forward_hook(record_levels('neck'))
    _record_stages(model.head, outputs)
    with torch.no_grad():
        samples = model(inputs['video'], _samples(inputs), mode='predict')
    last = f'stage{len(model.head.stages) - 1}'
    outputs['human_scores'] = outputs[f'{last}_human_logits'].softmax(-1)[..., 0]
    outputs['action_scores'] = outputs[f'{last}_action_logits'].sigmoid()
    return outputs | _detections(samples)


def _train(case) -> Outputs:
    # Recorded in float64. In float32 single gradients depend on the number of threads: the slope of bilinear sampling
    # jumps where a point crosses a pixel boundary.
    model = _build(case).train().double()
    inputs = {name: value.double() for name, value in case.inputs().items()}
    outputs: Outputs = {}
    _record_stages(model.head, outputs)
    matches = _record_matches(model.head)
    losses = model(inputs['video'], _samples(inputs), mode='loss')
    total = sum(losses.values())
    total.backward()
    num_stages, num_clips = len(model.head.stages), len(inputs['whwh'])
    outputs['loss_total'] = total
    names = dict(loss_person='loss_ce', loss_action='loss_bce', loss_bbox='loss_bbox', loss_giou='loss_giou')
    for name, loss in losses.items():
        prefix, _, kind = name.rpartition('.')
        stage = prefix.removeprefix('d') or num_stages - 1
        outputs[f'stage{stage}_{names[kind]}'] = loss * len(losses)
    for k in range(num_stages):
        outputs[f'stage{k}_assigned_query'] = _assigned(matches[k * num_clips : (k + 1) * num_clips])
        outputs[f'stage{k}_cost'] = _cost(
            model.head, outputs[f'stage{k}_human_logits'], outputs[f'stage{k}_boxes'], inputs
        )
    params = dict(model.named_parameters())
    for name in case.meta['outputs']:
        if name.startswith('grad:'):
            (ours,) = convert_state_dict({name.removeprefix('grad:'): torch.empty(0)}).state_dict
            outputs[name] = params[_backbone_name(ours, case)].grad
    return outputs


def _backbone_name(name: str, case) -> str:
    """Names of a single backbone entry cannot be told without the others: convert it among them."""
    if not name.startswith('backbone.') or '.pathway' not in name:
        return name
    official = case.state_dict()
    marked = {key: torch.tensor(i) for i, key in enumerate(official)}
    converted = convert_state_dict(marked).state_dict
    return next(ours for ours, value in converted.items() if value == marked[name])


def _record_matches(head: STMixerHead) -> list[tuple[Tensor, Tensor]]:
    """Every matching from now on, in order: queries and their people."""
    matches: list[tuple[Tensor, Tensor]] = []
    match = head._match

    def recorded(*args):
        matches.append(match(*args))
        return matches[-1]

    head._match = recorded
    return matches


def _assigned(matches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The query of each person, clips in order."""
    return torch.cat([query[person.argsort()] for query, person in matches])


def _cost(head: STMixerHead, logits: Tensor, boxes: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Matching costs of all queries of all clips with all people of all clips, ``[B * N, people]``."""
    whwh = inputs['whwh'].to(boxes)
    people = [inputs[f'gt_boxes_{i}'].to(boxes) for i in range(len(whwh))]
    blocks = []
    for i in range(len(whwh)):
        columns = []
        for j, target in enumerate(people):
            queries = InstanceData(bboxes=boxes[i].detach(), scores=logits[i].detach())
            gt = InstanceData(bboxes=target, labels=torch.zeros(len(target), dtype=torch.long))
            w, h = whwh[i, :2].tolist()
            total = 0
            for cost in head.assigner.match_costs:
                if type(cost).__name__ == 'BBoxL1Cost' and i != j:
                    relative = torch.cdist(queries.bboxes / whwh[i], target / whwh[j], p=1)
                    total = total + relative * cost.weight
                else:
                    total = total + cost(queries, gt, dict(img_shape=(h, w)))
            columns.append(total)
        blocks.append(torch.cat(columns, dim=1))
    return torch.cat(blocks)


def _modules(case) -> Outputs:
    cfg = load_config(case.official_config)
    head = MODELS.build(cfg.model.head)
    inputs = case.inputs()
    prefix = 'head.stages.0.'
    weights = convert_state_dict(case.state_dict()).state_dict
    stage = head.stages[0]
    stage.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()}, strict=True)
    stage.eval()
    outputs = _stage_forward(stage, head, inputs)
    outputs |= _stage_gradients(stage, head, inputs, case)
    outputs |= _matching_and_losses(head, inputs)
    outputs |= _decoding(head, inputs)
    outputs |= _preparation(cfg, inputs)
    outputs['slow_frame_index'] = _slow_frames(load_config('PySlowfast-R50-K400-8x8'))
    return outputs


def _stage_forward(stage: nn.Module, head: STMixerHead, inputs: dict[str, Tensor]) -> Outputs:
    feats = [inputs[f'feat_{i}'] for i in range(4)]
    pyramid = flatten_clip_pyramid(feats, head.strides, head.num_groups)
    queries = Queries(inputs['xyzr'], inputs['spatial_query'], inputs['temporal_query'])
    boxes = decode_xyzr(queries.position)
    outputs: Outputs = {
        'roi_boxes': boxes,
        'iof_log': log_iof(boxes),
        'position_embedding': xyzr_embedding(queries.position, stage.embed_dims),
    }
    for letter, branch in (('s', stage.spatial), ('t', stage.temporal)):
        branch.attention_norm.register_forward_hook(
            lambda module, args, out, letter=letter: outputs.update({f'stage_attention_{letter}': out})
        )
    holder = nn.Module()
    holder.stages = [stage]
    holder_outputs: Outputs = {}
    _record_stages(holder, holder_outputs)
    with torch.no_grad():
        stage(pyramid, queries)
        # Recorded without attention in front.
        offsets = stage.sampling_offset(queries.spatial).unflatten(-1, (stage.num_groups, stage.num_points, 3))
        points = sampling_points(queries.position, offsets)
        sampled = sample_clip(pyramid, points, stage.num_frames)
        outputs['sample_points'] = points.flatten(2, 3)[:, :, None]
        outputs['level_weights'] = level_weights(points, pyramid).flatten(2, 3)[:, :, None]
        outputs['sampled_feature'] = sampled
        outputs['mix_spatial'] = stage.spatial.mixing(sampled.mean(3), queries.spatial)
        outputs['mix_temporal'] = stage.temporal.mixing(sampled.mean(4), queries.temporal)
    return outputs | {name.replace('stage0_', 'stage_'): value for name, value in holder_outputs.items()}


def _stage_gradients(stage: nn.Module, head: STMixerHead, inputs: dict[str, Tensor], case) -> Outputs:
    leaves = {
        name: inputs[name].clone().requires_grad_()
        for name in ('xyzr', 'spatial_query', 'temporal_query', *(f'feat_{i}' for i in range(4)))
    }
    pyramid: FlatPyramid = flatten_clip_pyramid([leaves[f'feat_{i}'] for i in range(4)], head.strides, head.num_groups)
    _, predictions = stage(pyramid, Queries(leaves['xyzr'], leaves['spatial_query'], leaves['temporal_query']))
    (
        (predictions.person_logits * inputs['cotangent_human']).sum()
        + (predictions.action_logits * inputs['cotangent_action']).sum()
        + (predictions.boxes * inputs['cotangent_boxes']).sum()
    ).backward()
    params = dict(stage.named_parameters())
    outputs = {}
    for output in case.meta['outputs']:
        name = output.removeprefix('grad_')
        if name == output:
            continue
        if name in leaves:
            outputs[output] = leaves[name].grad
        else:
            (ours,) = convert_state_dict({f'stm_head.decoder_stages.0.{name}': torch.empty(0)}).state_dict
            outputs[output] = params[ours.removeprefix('head.stages.0.')].grad
    return outputs


def _matching_and_losses(head: STMixerHead, inputs: dict[str, Tensor]) -> Outputs:
    predictions = Predictions(inputs['pred_human_logits'], inputs['pred_action_logits'], inputs['pred_boxes'])
    samples = _samples(inputs)
    targets = [sample.gt_instances for sample in samples]
    matches = _record_matches(head)
    losses = head._stage_loss(
        predictions, targets, [sample.img_shape for sample in samples], torch.tensor(float(sum(map(len, targets))))
    )
    return {
        'cost': _cost(head, predictions.person_logits, predictions.boxes, inputs),
        'assigned_query': _assigned(matches),
        'unweighted_loss_ce': losses['loss_person'] / head.loss_person.loss_weight,
        'unweighted_loss_bce': losses['loss_action'] / head.loss_action.loss_weight,
        'unweighted_loss_bbox': losses['loss_bbox'] / head.loss_bbox.loss_weight,
        'unweighted_loss_giou': losses['loss_giou'] / head.loss_giou.loss_weight,
    }


def _decoding(head: STMixerHead, inputs: dict[str, Tensor]) -> Outputs:
    """Post-processing of given predictions: they stand in for the stages."""
    predictions = Predictions(inputs['pred_human_logits'], inputs['pred_action_logits'], inputs['pred_boxes'])
    head.forward = lambda feats, shapes: [predictions]
    return _detections(head.predict([], _samples(inputs)))


def _preparation(cfg: Config, inputs: dict[str, Tensor]) -> Outputs:
    """The test pipeline from decoded frames on, and the preprocessor without its padding."""
    frames = inputs['clip_frames'].numpy()
    height, width = frames.shape[1:3]
    results = dict(
        imgs=[frame[..., ::-1].copy() for frame in frames],  # recorded in BGR order, decoded in RGB order here
        img_shape=(height, width),
        gt_bboxes=(inputs['clip_boxes'] * torch.tensor([width, height] * 2)).numpy(),
        num_clips=1,
        clip_len=len(frames),
    )
    for step in cfg.test_pipeline[2:-1]:
        results = TRANSFORMS.build(step)(results)
    preprocessor = MODELS.build({**cfg.model.data_preprocessor, 'pad_size_divisor': 1})
    batch, _ = preprocessor.preprocess([torch.from_numpy(results['imgs'])], None)
    return {'prepared_clip': batch[0], 'prepared_boxes': torch.from_numpy(results['gt_bboxes'])}


def _slow_frames(cfg: Config) -> Tensor:
    """Which of 32 frames reach the slow pathway, read off a clip whose frames hold their own number."""
    backbone = MODELS.build(cfg.model.backbone).eval()
    seen = []
    backbone.slow_path.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0][0, 0, :, 0, 0]))
    clip = torch.arange(32.0).view(1, 1, -1, 1, 1).expand(1, 3, -1, 32, 32)
    with torch.no_grad():
        backbone(clip)
    return seen[0]

"""EVAD: single modules of a recorded case."""

from __future__ import annotations

import re
from typing import Any

import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.common.video_vit import fit_positions
from mvbench_plugins.evad.action_rois import extend_boxes
from mvbench_plugins.evad.backbone import _feed_forward
from mvbench_plugins.evad.checkpoint import convert_state_dict
from mvbench_plugins.evad.pruning import take_tokens
from mvbench_plugins.evad.refinement import _refine

Outputs = dict[str, Any]


def run_modules(case, cfg: Config) -> Outputs:
    """Our outputs under their recorded names."""
    inputs = case.inputs()
    model = MODELS.build(cfg.model).eval()
    weights = convert_state_dict(case.state_dict()).state_dict
    unknown = weights.keys() - model.state_dict().keys()
    if unknown:
        raise ValueError(f'{case.path}: the model has no entries {sorted(unknown)}')
    model.load_state_dict({**model.state_dict(), **weights})
    with torch.no_grad():
        outputs = _block(model.backbone, _index(weights, r'backbone\.blocks\.(\d+)\.'), inputs, case)
        outputs |= _stage(model.head.localizer, _index(weights, r'head\.localizer\.stages\.(\d+)\.'), inputs)
        outputs |= _decoder(model.head.refinement, _index(weights, r'head\.refinement\.blocks\.(\d+)\.'), inputs, case)
    outputs['extended'] = extend_boxes(inputs['stage_boxes'], model.head.refinement.extend, _shapes(inputs))
    return outputs | _matching(model.head, inputs)


def _index(weights: dict[str, Tensor], pattern: str) -> int:
    """Which one of several like modules the case has weights of."""
    (index,) = {int(found[1]) for key in weights if (found := re.match(pattern, key))}
    return index


def _shapes(inputs: dict[str, Tensor]) -> list[tuple[float, float]]:
    return [(h, w) for w, h, *_ in inputs['whwh'].tolist()]


def _block(backbone: nn.Module, index: int, inputs: dict[str, Tensor], case) -> Outputs:
    tokens = inputs['block_tokens']
    num_key = case.meta['outputs']['block_key']['shape'][1]
    block = backbone.blocks[index]
    tokens, scores = backbone._attend_and_score(block, tokens, num_key)
    kept = backbone.selection(scores, num_key, backbone.keep_rate)
    tokens = torch.cat([tokens[:, :num_key], take_tokens(tokens[:, num_key:], kept)], dim=1)
    tokens = _feed_forward(block, tokens)
    key, others = tokens[:, :num_key], tokens[:, num_key:]
    blank = tokens.new_zeros(len(tokens), scores.shape[1], tokens.shape[-1])
    return {
        'block_key': key,
        'block_kept': torch.zeros_like(scores).scatter(1, kept, 1.0),
        'block_nonkey': blank.scatter(1, kept[..., None].expand_as(others), others),
        'block_order': kept,
    }


def _stage(localizer: nn.Module, index: int, inputs: dict[str, Tensor]) -> Outputs:
    boxes = inputs['stage_boxes']
    outputs: Outputs = {}
    localizer.stages = localizer.stages[index : index + 1]
    localizer.roi_extractor.register_forward_hook(lambda module, args, out: outputs.update(stage_roi=out))
    pyramid = [inputs[f'pyramid_p{level}'] for level in (2, 3, 4, 5)]
    (found,) = localizer(pyramid, boxes, inputs['stage_queries'].view(*boxes.shape[:2], -1))
    outputs['stage_person_logits'] = found.person_logits
    outputs['stage_boxes_out'] = found.boxes
    outputs['stage_queries_out'] = found.queries
    return outputs


def _decoder(refinement: nn.Module, index: int, inputs: dict[str, Tensor], case) -> Outputs:
    tokens = inputs['decoder_tokens']
    num_people = case.meta['outputs']['decoder_action_logits']['shape'][1]
    out = _refine(refinement.blocks[index], tokens, tokens.shape[1])
    num_slices = refinement.pos_embed.shape[1] // (refinement.pos_grid[0] * refinement.pos_grid[1])
    return {
        'decoder_tokens_out': out,
        'decoder_action_logits': refinement.action_heads[index](out[:, -num_people:]),
        'pos_table': refinement.pos_embed,
        'pos_resized': fit_positions(refinement.pos_embed, refinement.pos_grid, (num_slices, 18, 22)),
    }


def _matching(head: nn.Module, inputs: dict[str, Tensor]) -> Outputs:
    logits, boxes, shapes = inputs['match_logits'], inputs['match_boxes'], _shapes(inputs)
    people = [InstanceData(bboxes=inputs[f'match_gt_{i}']) for i in range(len(boxes))]
    outputs: Outputs = {}
    for i, (target, shape) in enumerate(zip(people, shapes, strict=True)):
        queries = InstanceData(bboxes=boxes[i], scores=logits[i])
        gt = InstanceData(bboxes=target.bboxes, labels=torch.zeros(len(target), dtype=torch.long))
        outputs[f'match_cost_{i}'] = sum(cost(queries, gt, dict(img_shape=shape)) for cost in head.assigner.match_costs)
        query, person = head._match(logits[i], boxes[i], target, shape)
        outputs[f'match_query_{i}'] = query[person.argsort()]
    losses, _ = head.person_losses(logits, boxes, people, shapes, torch.tensor(float(sum(map(len, people)))))
    outputs['match_loss_ce'] = losses['loss_person'] / head.loss_person.loss_weight
    outputs['match_loss_bbox'] = losses['loss_bbox'] / head.loss_bbox.loss_weight
    outputs['match_loss_giou'] = losses['loss_giou'] / head.loss_giou.loss_weight
    return outputs

"""JointFormer: single modules of a recorded case."""

from __future__ import annotations

import re
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mvbench_plugins.jointformer.aggregation import memory_frames, soft_aggregate
from mvbench_plugins.jointformer.attention import TopK
from mvbench_plugins.jointformer.backbone import JointConvMAE
from mvbench_plugins.jointformer.losses import BootstrappedCrossEntropy, SlotDiceLoss
from mvbench_plugins.jointformer.mask_head import JointFormerMaskHead
from mvbench_plugins.jointformer.position import grid_positions

Outputs = dict[str, Any]
#: The regimes of the cross entropy: before, within and after its warm-up.
_WARM_UP = dict(start=20000, end=70000)


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs under their recorded names; nothing is left out."""
    inputs, options = case.inputs(), case.meta['options']
    backbone = JointConvMAE(
        mask_channels=1 if options['single_object'] else 2,
        token_depth=options['update_block_depth'],
        enhance_depth=options['enhance_block_depth'],
    ).eval()
    head = JointFormerMaskHead().eval()
    weights = case.state_dict()
    backbone.load_state_dict(_part(weights, 'convmae.'))
    head.load_state_dict(_part(weights, 'decoder.'))
    outputs: Outputs = {}
    with torch.no_grad():
        outputs |= _joint_blocks(backbone, case)
        outputs |= _stems(backbone, inputs)
        outputs |= _epsilons(backbone, inputs)
        outputs |= _decoder(head, inputs)
    for name in case.meta['outputs']:
        if found := re.fullmatch(r'pos_(\d+)x(\d+)', name):
            outputs[name] = grid_positions(backbone.pos_embed, *map(int, found.groups()))
    outputs['others'] = memory_frames(inputs['image'], inputs['probs'], backbone.mask_channels)
    outputs['aggregate_logits'], outputs['aggregate_prob'] = soft_aggregate(inputs['object_probs'])
    return outputs | _losses(case, inputs), {}


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _joint_blocks(backbone: nn.Module, case) -> Outputs:
    # Only the notes say how many keys are kept: of all frames, of every frame, by the token.
    k_all, k_every, k_token = map(int, re.findall(r'k=(\d+)', case.meta['notes']))
    inputs = case.inputs()
    query, token = inputs['query_tokens'], inputs['token']
    frames = inputs['memory_tokens'].unbind(1)
    block = backbone.blocks3[4]
    memory = [block(frame)[2] for frame in frames]
    updated_frame, updated_token, _ = block(frames[0], token)
    feature_rest, feature_token, _ = backbone.blocks4[0](query, token)
    return {
        'read_full': block.read(query, memory),
        'read_topk_all': block.read(query, memory, TopK(k_all)),
        'read_topk_every': block.read(query, memory, TopK(k_every, scope='every_frame')),
        'memory_self': block(frames[0])[0],
        'update_token': updated_token,
        'update_memory': updated_frame,
        'update_topk_token': block(frames[0], token, TopK(k_token))[1],
        'feature_token': feature_token,
        'feature_rest': feature_rest,
        'enhance_query': backbone.blocks5[0].enhance(query, token)[0],
    }


def _stems(backbone: nn.Module, inputs: dict[str, Tensor]) -> Outputs:
    outputs: Outputs = {}
    for kind, name in (('query', 'image'), ('memory', 'image_masks')):
        first = getattr(backbone, f'patch_embed1_{kind}')
        stem = backbone._embed(first, inputs[name])
        outputs[f'embed_{kind}_patch1'] = first(inputs[name])
        outputs[f'embed_{kind}_f4'] = stem.f4
        outputs[f'embed_{kind}_f8'] = stem.f8
        outputs[f'embed_{kind}_tokens'] = stem.tokens - grid_positions(backbone.pos_embed, *stem.grid)
    return outputs


def _epsilons(backbone: nn.Module, inputs: dict[str, Tensor]) -> Outputs:
    tokens = inputs['small_tokens']
    return {
        'eps_conv_block': backbone.blocks2[0](inputs['small_map']),
        'eps_joint_block': backbone.blocks3[4](tokens)[0],
        'eps_final_norm': backbone.norm(tokens),
    }


def _decoder(head: nn.Module, inputs: dict[str, Tensor]) -> Outputs:
    names = ('feat16', 'feat16_enhanced', 'feat8', 'feat4')
    feats = [inputs[name].flatten(0, 1) for name in names]
    logits, fusion = head(*feats)
    shape = inputs['feat16'].shape[:2]
    return {
        # Recorded by itself, on as many of the drawn channels as it has.
        'decoder_cbam': head.fuser_16.attention(feats[0][:, : head.fuser_16.block2.conv1.in_channels]),
        'decoder_logits': logits.view(*shape, *logits.shape[2:]),
        'decoder_fusion': fusion.unflatten(0, shape),
    }


def _losses(case, inputs: dict[str, Tensor]) -> Outputs:
    """Each loss by itself, at every recorded iteration; VOST's ignore label 255."""
    logits, masks = inputs['loss_logits'], inputs['loss_masks']
    num_objects = inputs['loss_target'].flatten(1).amax(1).tolist()
    outputs: Outputs = {}
    hub = MessageHub.get_current_instance()
    for kind, ignore_index, target in (('', None, 'loss_target'), ('vost_', 255, 'loss_target_ignore')):
        entropy = BootstrappedCrossEntropy(**_WARM_UP, ignore_index=ignore_index)
        dice = SlotDiceLoss(ignore_index)
        outputs[f'loss_{kind}dice'] = dice(masks, inputs[target])
        for name in case.meta['outputs']:
            if found := re.fullmatch(rf'loss_{kind}ce_it(\d+)', name):
                hub.update_info('iter', int(found[1]))
                outputs[name] = entropy(logits, inputs[target], num_objects)
                outputs[name.replace('ce_', 'p_')] = entropy.current_share
    hub.update_info('iter', 0)
    return outputs

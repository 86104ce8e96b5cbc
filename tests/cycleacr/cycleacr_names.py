"""Our names and shapes to those of official files, written down a second time, from the published naming."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_EXTRACTOR = 'roi_heads.action.feature_extractor.'
_MODULE = _EXTRACTOR + 'cycleacr_module.'


def _head(name: str, value: Tensor) -> tuple[str, Tensor]:
    part, _, rest = name.partition('.')
    if part == 'cls_score':
        return f'roi_heads.action.predictor.cls_score.{rest}', value
    if part in ('fc1', 'fc2'):
        return f'{_EXTRACTOR}{name}', value
    if rest == 'local_temporal_position':
        return f'{_MODULE}cycle_modeling.{rest}', value[..., None, None, None]
    if rest.endswith('_position'):  # [61, D] to [61, 1, D, 1, 1, 1]
        rest = rest.replace('memory_blocks', 'm_blocks')
        rest = rest.replace('key_position', 'temporal_position_k').replace('value_position', 'temporal_position_v')
        return f'{_MODULE}instance_interaction.{rest}', value[:, None, :, None, None, None]
    if value.dim() == 2:
        value = value[..., None, None, None]
    if part == 'interaction':
        rest = rest.replace('memory_blocks', 'm_blocks').replace('person_blocks', 'p_blocks')
        return f'{_MODULE}instance_interaction.{rest}', value
    first, _, leaf = rest.partition('.')
    if first == 'fuse':
        return f'{_MODULE}roi_dim_reduce.{leaf}', value
    if first.endswith('_reduce'):
        return f'{_MODULE}{first.removesuffix("_reduce")}_dim_reduce.{leaf}', value
    return f'{_MODULE}cycle_modeling.{rest}', value


def _slowfast(name: str) -> str:
    pathway, first, *rest = name.split('.')
    pathway = pathway.removesuffix('_path')
    if first.endswith('_lateral'):
        number = 1 if first == 'conv1_lateral' else int(first[5]) + 1
        return '.'.join([f'fast.Tconv{number}', *rest])
    if first == 'conv1':
        return f'{pathway}.{"conv1" if rest[0] == "conv" else "bn1"}.{rest[1]}'
    block, module, *leaf = rest
    module = 'shortcut' if module == 'downsample' else f'btnk.{module}'
    return '.'.join([pathway, f'res_nl{first[5]}', f'res_{block}', module, *leaf])


def _vit(name: str) -> str:
    for ours, theirs in (
        ('patch_embed.projection', 'patch_embed.proj'),
        ('mlp.layers.0.0', 'mlp.fc1'),
        ('mlp.layers.1', 'mlp.fc2'),
    ):
        name = name.replace(ours, theirs)
    return name


def official(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a whole model under official names and in official shapes."""
    weights = {}
    for name, value in model.items():
        part, _, rest = name.partition('.')
        if part == 'head':
            key, value = _head(rest, value)
        elif rest.startswith(('slow_path', 'fast_path')):
            if rest.endswith('num_batches_tracked'):  # frozen norms have none
                continue
            key = f'backbone.{_slowfast(rest)}'
        elif rest.startswith('blocks.') or 'patch_embed.projection' in rest or rest.startswith('norm.'):
            key = _vit(rest)  # at the top
        else:
            key = f'backbone.{rest}'.replace('backbone.norm3.', 'backbone.norm.')
        weights[key] = value
    return weights


def distinct(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's state dict, filled with values of its own for every entry, so that none can be taken for another."""
    state = model.state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.normal_()
    return state

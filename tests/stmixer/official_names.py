"""Our names to those of official files, written down a second time, from the published naming."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_HEAD = (
    (r'head\.(spatial|temporal)_queries\.', r'stm_head.init_\1_queries.'),
    (r'head\.stages\.(\d+)\.', r'stm_head.decoder_stages.\1.'),
    (r'\.(spatial|temporal)\.attention\.', r'.attention_\1.attn.'),
    (r'\.(spatial|temporal)\.(attention_norm|ffn_norm|ffn)\.', r'.\2_\1.'),
    (r'\.(spatial|temporal)\.mixing_norm\.', r'.samplingmixing.norm_\1.'),
    (r'\.(spatial|temporal)\.mixing\.', r'.samplingmixing.adaptive_mixing_\1.'),
    (r'\.parameter_generator\.', r'.parameter_generator.0.'),
    (r'_(s|t)(patial|emporal)\.', r'_\1.'),
    (r'\.sampling_offset\.', r'.samplingmixing.offset_generator.0.'),
    (r'\.person_head\.3\.', '.human_fc_cls.'),
    (r'\.box_head\.3\.', '.fc_reg.'),
    (r'\.action_head\.3\.', '.fc_action.'),
    (r'\.person_head\.', '.human_cls_fcs.'),
    (r'\.box_head\.', '.reg_fcs.'),
    (r'\.action_head\.', '.action_cls_fcs.'),
    (r'^neck\.', ''),
)


def _resnet_name(name: str) -> str:
    pathway = int(name.startswith('fast_path.'))
    name = name.removeprefix('slow_path.').removeprefix('fast_path.')
    parts = name.split('.')
    if parts[0] == 'conv1':
        return '.'.join([f's1.pathway{pathway}_stem', *parts[1:]])
    stage = 1 if parts[0].startswith('conv1') else int(parts[0][5]) + 1
    if parts[0].endswith('_lateral'):
        return '.'.join([f's{stage}_fuse', dict(conv='conv_f2s', bn='bn')[parts[1]], parts[2]])
    _, block, module, part, leaf = parts
    if module == 'non_local_block':
        part = part if part in ('bn', 'conv_out') else f'conv_{part}'
        return f's{stage}.pathway{pathway}_nonlocal{block}.{part}.{leaf}'
    branch = 'branch1' if module == 'downsample' else f'branch2.{"abc"[int(module[-1]) - 1]}'
    return f's{stage}.pathway{pathway}_res{block}.{branch}{"" if part == "conv" else "_bn"}.{leaf}'


def pyslowfast(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ResNet under the names of PySlowFast."""
    return {_resnet_name(key): value for key, value in backbone.items()}


def stmixer(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a whole CNN model under official names, with the buffer of the loss."""
    weights = {}
    for key, value in model.items():
        if key.startswith('backbone.'):
            key = 'backbone.' + _resnet_name(key.removeprefix('backbone.'))
        else:
            for pattern, replacement in _HEAD:
                key = re.sub(pattern, replacement, key)
        weights[key] = value
    return weights


def videomae(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ViT under the names of VideoMAE."""
    names = (('patch_embed.projection', 'patch_embed.proj'), ('mlp.layers.0.0', 'mlp.fc1'), ('mlp.layers.1', 'mlp.fc2'))
    weights = {}
    for key, value in backbone.items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        weights[key] = value
    return weights


_LEAVES = dict(weight='s', bias='b', running_mean='rm', running_var='riv')


def caffe2(backbone: Mapping[str, Tensor], blocks: tuple[int, ...]) -> dict[str, Tensor]:
    """Weights of a ResNet under the blob names of PySlowFast's Caffe2 files; ``blocks`` of each stage."""
    blobs = {}
    for key, value in pyslowfast(backbone).items():
        if key.endswith('num_batches_tracked'):
            continue
        module, _, leaf = key.rpartition('.')
        suffix = f'_{_LEAVES[leaf]}' if module.endswith('bn') else f'_{leaf[0]}'
        if match := re.fullmatch(r's1\.pathway(\d)_stem\.(conv|bn)', module):
            name = ('t_' if match[1] == '1' else '') + dict(conv='conv1', bn='res_conv1_bn')[match[2]]
        elif match := re.fullmatch(r's(\d)_fuse\.(conv_f2s|bn)', module):
            stage = int(match[1])
            name = 't_pool1' if stage == 1 else f't_res{stage}_{blocks[stage - 2] - 1}_branch2c_bn'
            name += '_subsample' + ('_bn' if match[2] == 'bn' else '')
        elif match := re.fullmatch(r's(\d)\.pathway0_nonlocal(\d+)\.(?:conv_)?(\w+)', module):
            name = f'nonlocal_conv{match[1]}_{match[2]}_{match[3]}'
        else:
            match = re.fullmatch(r's(\d)\.pathway(\d)_res(\d+)\.(.*)', module)
            branch = match[4].replace('branch2.', 'branch2')
            name = ('t_' if match[2] == '1' else '') + f'res{match[1]}_{match[3]}_{branch}'
        blobs[name + suffix] = value
    return blobs

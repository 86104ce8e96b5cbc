"""Official STMixer checkpoints, and the pretrained backbones that it starts from: their key names and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module
from mvbench_plugins.common.video_vit import VIDEOMAE_RULES

#: Stages count from 2 in PySlowFast (the stem is 1), from 1 in mmaction.
_STAGES = ((2, 1), (3, 2), (4, 3), (5, 4))

#: Caffe2 blobs of PySlowFast's model zoo (``*.pkl``) to PySlowFast's own names. ``t_`` marks the fast pathway.
_CAFFE2_RULES: tuple[Rule, ...] = (
    Rule(r'(pred_|lr|model_iter|weight_order|.*_momentum).*', None),
    Rule(r'nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)_(.*)', r's\1.pathway0_nonlocal\2.conv_\3_\4'),
    Rule(r'nonlocal_conv(\d)_(\d+)_bn_(.*)', r's\1.pathway0_nonlocal\2.bn_\3'),
    Rule(r't_pool1_subsample_bn_(.*)', r's1_fuse.bn_\1'),
    Rule(r't_pool1_subsample_(.*)', r's1_fuse.conv_f2s_\1'),
    Rule(r't_res(\d)_\d+_branch2c_bn_subsample_bn_(.*)', r's\1_fuse.bn_\2'),
    Rule(r't_res(\d)_\d+_branch2c_bn_subsample_(.*)', r's\1_fuse.conv_f2s_\2'),
    *(
        rule
        for prefix, pathway in (('', 0), ('t_', 1))
        for rule in (
            Rule(rf'{prefix}res(\d)_(\d+)_branch2([abc])_(.*)', rf's\1.pathway{pathway}_res\2.branch2.\3_\4'),
            Rule(rf'{prefix}res(\d)_(\d+)_branch1_(.*)', rf's\1.pathway{pathway}_res\2.branch1_\3'),
            Rule(rf'{prefix}res_conv1_bn_(.*)', rf's1.pathway{pathway}_stem.bn_\1'),
            Rule(rf'{prefix}conv1_(.*)', rf's1.pathway{pathway}_stem.conv_\1'),
        )
    ),
)
_CAFFE2_LEAVES: tuple[Rule, ...] = (
    Rule(r'(.*bn)_s', r'\1.weight'),
    Rule(r'(.*bn)_b', r'\1.bias'),
    Rule(r'(.*bn)_rm', r'\1.running_mean'),
    Rule(r'(.*bn)_riv', r'\1.running_var'),
    Rule(r'(.*)_w', r'\1.weight'),
    Rule(r'(.*)_b', r'\1.bias'),
)

#: PySlowFast's names to mmaction's, with ``pathwayN.`` in front: the slow pathway is 0, the fast one 1.
_PYSLOWFAST_RULES: tuple[Rule, ...] = (
    Rule(r'head\..*', None),
    Rule(r's1\.(pathway\d)_stem\.(conv|bn)\.(.*)', r'\1.conv1.\2.\3'),
    Rule(r's1_fuse\.conv_f2s\.(.*)', r'pathway0.conv1_lateral.conv.\1'),
    Rule(r's1_fuse\.bn\.(.*)', r'pathway0.conv1_lateral.bn.\1'),
    *(
        rule
        for theirs, ours in _STAGES
        for rule in (
            Rule(rf's{theirs}_fuse\.conv_f2s\.(.*)', rf'pathway0.layer{ours}_lateral.conv.\1'),
            Rule(rf's{theirs}_fuse\.bn\.(.*)', rf'pathway0.layer{ours}_lateral.bn.\1'),
            Rule(rf's{theirs}\.(pathway\d)_res(\d+)\.branch1\.(.*)', rf'\1.layer{ours}.\2.downsample.conv.\3'),
            Rule(rf's{theirs}\.(pathway\d)_res(\d+)\.branch1_bn\.(.*)', rf'\1.layer{ours}.\2.downsample.bn.\3'),
            *(
                Rule(
                    rf's{theirs}\.(pathway\d)_res(\d+)\.branch2\.{letter}{suffix}\.(.*)',
                    rf'\1.layer{ours}.\2.conv{number}.{part}.\3',
                )
                for number, letter in enumerate('abc', start=1)
                for suffix, part in (('', 'conv'), ('_bn', 'bn'))
            ),
            Rule(
                rf's{theirs}\.(pathway\d)_nonlocal(\d+)\.(?:conv_(?=[tpg]))?(theta|phi|g|conv_out|bn)\.(.*)',
                rf'\1.layer{ours}.\2.non_local_block.\3.\4',
            ),
        )
    ),
)

_HEAD_RULES: tuple[Rule, ...] = (
    Rule(r'stm_head\.criterion\.empty_weight', None),  # equals the configured class weights
    Rule(r'stm_head\.init_(spatial|temporal)_queries\.(.*)', r'head.\1_queries.\2'),
    *(
        rule
        for letter, branch in (('s', 'spatial'), ('t', 'temporal'))
        for rule in (
            Rule(
                rf'stm_head\.decoder_stages\.(\d+)\.attention_{letter}\.attn\.(.*)',
                rf'head.stages.\1.{branch}.attention.\2',
            ),
            Rule(
                rf'stm_head\.decoder_stages\.(\d+)\.(attention_norm|ffn|ffn_norm)_{letter}\.(.*)',
                rf'head.stages.\1.{branch}.\2.\3',
            ),
            Rule(
                rf'stm_head\.decoder_stages\.(\d+)\.samplingmixing\.norm_{letter}\.(.*)',
                rf'head.stages.\1.{branch}.mixing_norm.\2',
            ),
            Rule(
                rf'stm_head\.decoder_stages\.(\d+)\.samplingmixing\.adaptive_mixing_{letter}'
                r'\.(parameter_generator|out_proj)(?:\.0)?\.(.*)',
                rf'head.stages.\1.{branch}.mixing.\2.\3',
            ),
        )
    ),
    Rule(
        r'stm_head\.decoder_stages\.(\d+)\.samplingmixing\.offset_generator\.0\.(.*)',
        r'head.stages.\1.sampling_offset.\2',
    ),
    *(
        rule
        for hidden, last, ours in (
            ('human_cls_fcs', 'human_fc_cls', 'person_head'),
            ('reg_fcs', 'fc_reg', 'box_head'),
            ('action_cls_fcs', 'fc_action', 'action_head'),
        )
        for rule in (
            Rule(rf'stm_head\.decoder_stages\.(\d+)\.{hidden}\.([01])\.(.*)', rf'head.stages.\1.{ours}.\2.\3'),
            Rule(rf'stm_head\.decoder_stages\.(\d+)\.{last}\.(.*)', rf'head.stages.\1.{ours}.3.\2'),
        )
    ),
    Rule(r'stm_head\.decoder_stages\.(\d+)\.iof_tau', r'head.stages.\1.iof_tau'),
    Rule(r'lateral_convs\.(.*)', r'neck.lateral_convs.\1'),
)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours: of a whole model, or of a pretrained backbone alone.

    Weights that already have our names pass unchanged.
    """
    state_dict = strip_module(state_dict)
    prefix = 'backbone.'
    backbone = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    rest = {key: value for key, value in state_dict.items() if not key.startswith(prefix)}
    if not backbone and not any(
        re.match(r'(stm_head|head\.(stages|\w+_queries)|lateral_convs|neck)\.', k) for k in rest
    ):
        backbone, rest = rest, {}
    return apply_rules(rest, _HEAD_RULES).with_part(prefix, convert_backbone_state_dict(backbone))


def convert_backbone_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of a backbone: PySlowFast (PyTorch or Caffe2 names) and VideoMAE to mmaction's names, without prefix."""
    if state_dict and all(key.startswith('backbone.') for key in state_dict):
        state_dict = {key.removeprefix('backbone.'): value for key, value in state_dict.items()}
    dropped: dict[str, Tensor] = {}
    if 'conv1_w' in state_dict:  # Caffe2
        state_dict, dropped = apply_rules(state_dict, _CAFFE2_RULES)
        state_dict = apply_rules(state_dict, _CAFFE2_LEAVES).state_dict
    if any(re.match(r's\d(\.pathway|_fuse)', key) for key in state_dict):
        has_fast_pathway = any(re.match(r's\d(\.pathway1|_fuse)', key) for key in state_dict)
        names = {'pathway0.': 'slow_path.' if has_fast_pathway else '', 'pathway1.': 'fast_path.'}
        renamed, left_out = apply_rules(state_dict, _PYSLOWFAST_RULES)
        converted = {}
        for key, value in renamed.items():
            pathway = next((name for name in names if key.startswith(name)), '')
            converted[names.get(pathway, '') + key.removeprefix(pathway)] = value
    else:
        converted, left_out = apply_rules(state_dict, VIDEOMAE_RULES)
    return Conversion(converted, dropped | left_out)

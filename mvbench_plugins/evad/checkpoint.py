"""Official EVAD checkpoints, and the VideoMAE files that it starts from: their key names and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module
from mvbench_plugins.common.video_vit import VIDEOMAE_RULES

_STAGE = r'det_head\.s0_headseries\.(\d+)\.'
_OUR_STAGE = r'head.localizer.stages.\1.'
_BLOCK = r'det_head\.decoder\.blocks\.(\d+)\.'

_RULES: tuple[Rule, ...] = (
    Rule(r'criterion\.empty_weight', None),  # equals the configured class weights
    *(
        Rule(rf'fpn_{theirs}{level}\.(.*)', rf'neck.{ours}.{level - 2}.conv.\1')
        for theirs, ours in (('lateral', 'lateral_convs'), ('output', 'fpn_convs'))
        for level in (2, 3, 4, 5)
    ),
    Rule(r'init_proposal_boxes\.(.*)', r'proposals.init_proposal_bboxes.\1'),
    Rule(r'init_proposal_features\.(.*)', r'proposals.init_proposal_features.\1'),
    Rule(_STAGE + r'self_attn\.(.*)', _OUR_STAGE + r'attention.attn.\2'),
    *(
        Rule(_STAGE + rf'inst_interact\.{theirs}\.(.*)', _OUR_STAGE + rf'instance_interactive_conv.{ours}.\2')
        for theirs, ours in (
            ('dynamic_layer', 'dynamic_layer'),
            ('norm1', 'norm_in'),
            ('norm2', 'norm_out'),
            ('out_layer', 'fc_layer'),
            ('norm3', 'fc_norm'),
        )
    ),
    *(
        Rule(_STAGE + rf'{theirs}\.(.*)', _OUR_STAGE + rf'{ours}.\2')
        for theirs, ours in (
            ('norm1', 'attention_norm'),
            ('norm2', 'instance_interactive_conv_norm'),
            ('norm3', 'ffn_norm'),
            ('linear1', 'ffn.layers.0.0'),
            ('linear2', 'ffn.layers.1'),
            ('cls_module', 'cls_fcs'),
            ('reg_module', 'reg_fcs'),
            ('class_logits', 'fc_cls'),
            ('bboxes_delta', 'fc_reg'),
        )
    ),
    Rule(r'det_head\.(mask_token|encoder_to_decoder\..*)', r'head.refinement.\1'),
    Rule(_BLOCK + r'mlp\.fc1\.(.*)', r'head.refinement.blocks.\1.mlp.layers.0.0.\2'),
    Rule(_BLOCK + r'mlp\.fc2\.(.*)', r'head.refinement.blocks.\1.mlp.layers.1.\2'),
    Rule(_BLOCK + r'act_module\.([01])\.(.*)', r'head.refinement.action_heads.\1.\2.\3'),
    Rule(_BLOCK + r'action_logits\.(.*)', r'head.refinement.action_heads.\1.3.\2'),
    Rule(_BLOCK + r'((?:norm|attn).*)', r'head.refinement.blocks.\1.\2'),
)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of a whole model under official names to ours; our own pass unchanged."""
    state_dict = strip_module(state_dict)
    prefix = 'backbone.'
    encoder = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if re.match(r'(backbone\.|patch_embed\.|blocks\.|norm\.)', key)
    }
    rest = {key: value for key, value in state_dict.items() if key not in encoder and not key.startswith(prefix)}
    return apply_rules(rest, _RULES).with_part(prefix, convert_backbone_state_dict(encoder))


def convert_backbone_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of VideoMAE or VideoMAEv2, pretrained or fine-tuned, to mmaction's names."""
    return apply_rules(strip_module(state_dict), VIDEOMAE_RULES)

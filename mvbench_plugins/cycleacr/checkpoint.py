"""Official CycleACR checkpoints (SlowFast, Swin, ViT): their key names and shapes, and ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module
from mvbench_plugins.common.video_vit import VIDEOMAE_RULES

_MODULE = r'roi_heads\.action\.feature_extractor\.cycleacr_module\.'
_HEAD_RULES: tuple[Rule, ...] = (
    Rule(_MODULE + r'(actor|context|local)_dim_reduce\.(.*)', r'head.cycle.\1_reduce.\2'),
    Rule(_MODULE + r'roi_dim_reduce\.(.*)', r'head.cycle.fuse.\1'),
    Rule(_MODULE + r'cycle_modeling\.(.*)', r'head.cycle.\1'),
    Rule(_MODULE + r'instance_interaction\.p_blocks\.(.*)', r'head.interaction.person_blocks.\1'),
    Rule(
        _MODULE + r'instance_interaction\.m_blocks\.(\d+)\.temporal_position_k',
        r'head.interaction.memory_blocks.\1.key_position',
    ),
    Rule(
        _MODULE + r'instance_interaction\.m_blocks\.(\d+)\.temporal_position_v',
        r'head.interaction.memory_blocks.\1.value_position',
    ),
    Rule(_MODULE + r'instance_interaction\.m_blocks\.(.*)', r'head.interaction.memory_blocks.\1'),
    Rule(r'roi_heads\.action\.feature_extractor\.(fc[12])\.(.*)', r'head.\1.\2'),
    Rule(r'roi_heads\.action\.predictor\.cls_score\.(.*)', r'head.cls_score.\1'),
)

_SLOWFAST_RULES: tuple[Rule, ...] = (
    Rule(r'(slow|fast)\.conv1\.(.*)', r'\1_path.conv1.conv.\2'),
    Rule(r'(slow|fast)\.bn1\.(.*)', r'\1_path.conv1.bn.\2'),
    Rule(r'fast\.Tconv1\.conv\.(.*)', r'slow_path.conv1_lateral.conv.\1'),
    *(Rule(rf'fast\.Tconv{stage + 1}\.conv\.(.*)', rf'slow_path.layer{stage}_lateral.conv.\1') for stage in (1, 2, 3)),
    Rule(r'(slow|fast)\.res_nl(\d)\.res_(\d+)\.btnk\.(conv\d)\.(conv|bn)\.(.*)', r'\1_path.layer\2.\3.\4.\5.\6'),
    Rule(r'(slow|fast)\.res_nl(\d)\.res_(\d+)\.shortcut\.(conv|bn)\.(.*)', r'\1_path.layer\2.\3.downsample.\4.\5'),
)

_SWIN_RULES: tuple[Rule, ...] = (Rule(r'norm\.(.*)', r'norm3.\1'),)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of a whole model under official names and shapes to ours; our own pass unchanged."""
    state_dict = strip_module(state_dict)
    prefix = 'backbone.'
    head = {key: value for key, value in state_dict.items() if key.startswith(('roi_heads.', 'head.'))}
    # ViT files have the backbone's entries at the top, the others below "backbone.".
    backbone = {key.removeprefix(prefix): value for key, value in state_dict.items() if key not in head}
    converted, dropped = apply_rules(head, _HEAD_RULES)
    # Kernels of one position become matrices; positions lose their empty axes.
    converted = {key: value.flatten(1) if value.dim() > 2 else value for key, value in converted.items()}
    return Conversion(converted, dropped).with_part(prefix, convert_backbone_state_dict(backbone))


def convert_backbone_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of a backbone under official names to ours, without prefix; what else the file has is left out."""
    dropped: dict[str, Tensor] = {}
    if any(key.startswith('backbone.') for key in state_dict):
        dropped = {key: value for key, value in state_dict.items() if not key.startswith('backbone.')}
        state_dict = {key.removeprefix('backbone.'): state_dict[key] for key in state_dict if key not in dropped}
    if 'slow.conv1.weight' in state_dict:
        converted, _ = apply_rules(state_dict, _SLOWFAST_RULES)
        for key in [key for key in converted if key.endswith('.running_mean')]:
            # Frozen norms have no count of batches; mmaction's have one.
            converted[key.replace('running_mean', 'num_batches_tracked')] = torch.tensor(0)
        return Conversion(converted, dropped)
    rules = _SWIN_RULES if 'layers.0.blocks.0.norm1.weight' in state_dict else VIDEOMAE_RULES
    converted, left_out = apply_rules(state_dict, rules)
    return Conversion(converted, dropped | left_out)

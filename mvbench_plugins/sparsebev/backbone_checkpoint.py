"""Official key names of the two large backbones, VoVNet-99 and EVA-02-L, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules

#: Released SparseBEV models below ``img_backbone.``, and DD3D's file, which has that prefix as well.
_VOVNET = r'(?:img_backbone\.)?'
_VOVNET_RULES: tuple[Rule, ...] = (
    *(
        rule
        for theirs, ours in (('conv', 'conv'), ('norm', 'bn'))
        for rule in (
            Rule(_VOVNET + rf'stem\.stem_(\d)/{theirs}\.(.*)', rf'stem.conv\1.{ours}.\2'),
            Rule(
                _VOVNET + rf'(stage\d)\.OSA\d_(\d+)\.layers\.(\d+)\.[^/]+/{theirs}\.(.*)',
                rf'\1.block\2.layers.\3.{ours}.\4',
            ),
            Rule(_VOVNET + rf'(stage\d)\.OSA\d_(\d+)\.concat\.[^/]+/{theirs}\.(.*)', rf'\1.block\2.concat.{ours}.\3'),
        )
    ),
    Rule(_VOVNET + r'(stage\d)\.OSA\d_(\d+)\.ese\.fc\.(.*)', r'\1.block\2.ese.\3'),
)

#: Released SparseBEV models below ``img_backbone.``, and EVA-02's detector file, with or without ``backbone.``.
_EVA02 = r'(?:backbone\.)?'
_EVA02_RULES: tuple[Rule, ...] = (
    Rule(_EVA02 + r'net\.(.*\.)?rope\w*\.freqs_(cos|sin)', None),  # computed, and repeated in every block
    Rule(r'(proposal_generator|roi_heads)\..*', None),
    Rule(_EVA02 + r'net\.patch_embed\.proj\.(.*)', r'patch_embed.\1'),
    Rule(_EVA02 + r'net\.(blocks\.\d+\.attn)\.([qv])_bias', r'\1.\2_proj.bias'),
    Rule(_EVA02 + r'net\.(.*)', r'\1'),
    *(
        rule
        # Where the 1x1 convolution stands in the official row of layers; the 3x3 one follows.
        for level, first in ((2, 4), (3, 1), (4, 0), (5, 1))
        for rule in (
            Rule(_EVA02 + rf'simfp_{level}\.{first}\.norm\.(.*)', rf'pyramid.project.{level - 2}.1.\1'),
            Rule(_EVA02 + rf'simfp_{level}\.{first}\.(.*)', rf'pyramid.project.{level - 2}.0.\1'),
            Rule(_EVA02 + rf'simfp_{level}\.{first + 1}\.norm\.(.*)', rf'pyramid.project.{level - 2}.3.\1'),
            Rule(_EVA02 + rf'simfp_{level}\.{first + 1}\.(.*)', rf'pyramid.project.{level - 2}.2.\1'),
            Rule(_EVA02 + rf'simfp_{level}\.(\d)\.(.*)', rf'pyramid.resample.{level - 2}.\1.\2'),
        )
    ),
)


def convert_vovnet(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of VoVNet under official names, without or with ``img_backbone.``, to ours; our own pass unchanged."""
    return apply_rules(state_dict, _VOVNET_RULES)


def convert_eva02(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights of EVA-02 with its pyramid under official names to ours; our own pass unchanged.

    Official names are those of a released model below ``img_backbone.``, or of the detector it was pretrained as, with
    or without ``backbone.``. The detector's heads and the rotary tables are dropped.
    """
    return apply_rules(state_dict, _EVA02_RULES)

"""Official checkpoints of LinK's detectors: their key names and box convention, and ours.

The official boxes are ``[w, l, h]`` with an angle ``a = -yaw - pi/2``. All numbers of a box come straight from the last
convolutions of the head, which allows to turn the weights instead of the boxes: the logarithms of width and length swap
places, and ``(sin yaw, cos yaw) = (-cos a, -sin a)``. The losses weigh alike what is swapped, so that such a model can
be trained on, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module

_ENCODER = 'pts_middle_encoder.'
_CONVS_PER_BLOCK = 17  # entries of a block of the 2D backbone after its padding, which ours has no layer for
_RULES: tuple[Rule, ...] = (
    Rule(r'backbone\.(conv_input|extra_conv)\.(.*)', rf'{_ENCODER}\1.\2'),
    Rule(r'backbone\.down([2-4])\.(.*)', rf'{_ENCODER}levels.\1.down.\2'),
    Rule(r'backbone\.conv([1-4])\.(\d)\.conv([12])\.bias', rf'{_ENCODER}levels.\1.conv.\2.conv\3_bias'),
    Rule(r'backbone\.conv([1-4])\.(.*)', rf'{_ENCODER}levels.\1.conv.\2'),
    Rule(r'backbone\.conv([1-4])_tail\.(.*)', rf'{_ENCODER}levels.\1.conv_tail.\2'),
    Rule(r'backbone\.elk([1-4])\.(.*)', rf'{_ENCODER}levels.\1.link.\2'),
    Rule(r'backbone\.elk([1-4])_tail\.(.*)', rf'{_ENCODER}levels.\1.link_tail.\2'),
    *(
        Rule(rf'neck\.blocks\.([01])\.{k}\.(.*)', rf'pts_backbone.blocks.\1.{k - 1}.\2')
        for k in range(1, _CONVS_PER_BLOCK + 1)
    ),
    Rule(r'neck\.deblocks\.(.*)', r'pts_neck.deblocks.\1'),
    Rule(r'bbox_head\.shared_conv\.0\.(.*)', r'pts_bbox_head.shared_conv.conv.\1'),
    Rule(r'bbox_head\.shared_conv\.1\.(.*)', r'pts_bbox_head.shared_conv.bn.\1'),
    *(
        Rule(rf'bbox_head\.tasks\.(\d)\.{theirs}\.{place}\.(.*)', rf'pts_bbox_head.task_heads.\1.{ours}.{layer}.\2')
        for theirs, ours in [('hm', 'heatmap'), *((name, name) for name in ('reg', 'height', 'dim', 'rot', 'vel'))]
        for place, layer in [(0, '0.conv'), (1, '0.bn'), (3, '1')]
    ),
)
_LAST_LAYER = re.compile(r'bbox_head\.tasks\.\d\.(dim|rot)\.3\.(weight|bias)')


def is_official_detection(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of a detector under official names."""
    return any(key.startswith('bbox_head.tasks.') for key in strip_module(state_dict))


def turn_maps(name: str, values: Tensor, dim: int = 0) -> Tensor:
    """Channels of the map ``dim`` or ``rot`` of official boxes to those of ours; it is its own inverse.

    Args:
        name: name of the map; others pass unchanged.
        values: any tensor.
        dim: dimension of the channels.
    """
    if name == 'dim':
        return values.index_select(dim, torch.tensor([1, 0, 2], device=values.device))
    return -values.flip(dim) if name == 'rot' else values


def convert_detection(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; our own pass unchanged.

    The weights of sparse convolutions keep their layout, of which the model takes both.
    """
    weights = dict(strip_module(state_dict))
    for key in weights:
        last = _LAST_LAYER.fullmatch(key)
        if last:
            weights[key] = turn_maps(last[1], weights[key])
    return apply_rules(weights, _RULES)

"""Official LinK segmentation checkpoints: their key names and ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module

_RULES: tuple[Rule, ...] = (
    Rule(r'stem\.(.*)', r'backbone.stem.\1'),
    *(
        rule
        for k in range(1, 5)
        for rule in (
            Rule(rf'down{k}\.0\.net\.(.*)', rf'backbone.stages.{k - 1}.down.\1'),
            Rule(rf'stage{k}\.(.*)', rf'backbone.stages.{k - 1}.blocks.\1'),
            Rule(rf'stage{k}_tail\.(.*)', rf'backbone.stages.{k - 1}.blocks_tail.\1'),
            Rule(rf'elk{k}\.(.*)', rf'backbone.stages.{k - 1}.linear_kernel.\1'),
            Rule(rf'elk{k}_tail\.(.*)', rf'backbone.stages.{k - 1}.linear_kernel_tail.\1'),
            Rule(rf'up{k}\.0\.net\.(.*)', rf'backbone.up_stages.{k - 1}.up.\1'),
            Rule(rf'up{k}\.1\.(\d)\.net\.(.*)', rf'backbone.up_stages.{k - 1}.blocks.\1.net.\2'),
            Rule(rf'up{k}\.1\.(\d)\.downsample\.(.*)', rf'backbone.up_stages.{k - 1}.blocks.\1.shortcut.\2'),
        )
    ),
)
_UNET_HEAD = (Rule(r'classifier\.0\.(.*)', r'decode_head.conv_seg.\1'),)
# The encoder was built with the decoder's layers, which it never calls.
_ENCODER_HEAD = (Rule(r'up\d\..*', None), Rule(r'classifier\.(.*)', r'decode_head.conv_seg.\1'))


def is_official_segmentation(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of a segmentation network under official names."""
    return 'classifier.0.weight' in strip_module(state_dict)


def convert_segmentation(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; our own pass unchanged.

    Officially, output 0 stands for unlabelled points. Here it comes last, as in mmdet3d's data sets: the rows of the
    last layer move up by one.
    """
    weights = dict(strip_module(state_dict))
    if not is_official_segmentation(weights):
        return Conversion(weights, {})
    last, head = ('classifier.2', _ENCODER_HEAD) if 'classifier.2.weight' in weights else ('classifier.0', _UNET_HEAD)
    for name in (f'{last}.weight', f'{last}.bias'):
        weights[name] = unlabelled_last(weights[name])
    return apply_rules(weights, (*head, *_RULES))


def unlabelled_last(values: Tensor, dim: int = 0) -> Tensor:
    """Official order of the classes, unlabelled first, to ours."""
    return torch.roll(values, -1, dim)


def unlabelled_first(values: Tensor, dim: int = 0) -> Tensor:
    """The way back."""
    return torch.roll(values, 1, dim)

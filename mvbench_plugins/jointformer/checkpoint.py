"""Official JointFormer checkpoints, and the ConvMAE files that it starts from: their key names and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mvbench_plugins.common.checkpoint import (
    Conversion,
    Rule,
    accept_official_backbones,
    accept_official_checkpoints,
    apply_rules,
    strict_mismatches,
    strip_module,
)

#: Prefix of the backbone in the model, for tools/convert_checkpoint.py.
BACKBONE = 'backbone.'

_RULES: tuple[Rule, ...] = (
    Rule(r'convmae\.(.*)', BACKBONE + r'\1'),
    Rule(r'decoder\.(.*)', r'mask_head.\1'),
)
_MEMORY_STEM = 'patch_embed1_memory.proj.weight'
_RGB = 3
_SINGLE_OBJECT = _RGB + 1
_CONVMAE_KEY = 'patch_embed1.proj.weight'
# ConvMAE's own position grid is of another size; the rest belongs to its pretext task or to a classifier.
_CONVMAE_UNUSED = r'pos_embed|mask_token|decoder_.*|stage\d_output_decode\..*|head\..*|fc_norm\..*'
_SETTINGS = {  # by which models differ, with the entries that show them
    f'{BACKBONE}blocks4.': 'token_depth',
    f'{BACKBONE}blocks5.': 'enhance_depth',
    BACKBONE + _MEMORY_STEM: '3 + mask_channels',
    f'{BACKBONE}blocks': 'depths, embed_dims',
}
_SHOWN = 6  # entries in an error


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; our own pass unchanged.

    Of a bare ConvMAE file the backbone is made, of the released depths, see :func:`convert_convmae`.
    """
    weights = strip_module(state_dict)
    if _CONVMAE_KEY in weights:
        converted, dropped = convert_convmae(weights)
        return Conversion({BACKBONE + key: value for key, value in converted.items()}, dropped)
    return apply_rules(weights, _RULES)


def convert_convmae(state_dict: Mapping[str, Tensor], token_depth: int = 2, enhance_depth: int = 1) -> Conversion:
    """Weights of a pretrained ConvMAE encoder to those of the backbone; the backbone's own names pass unchanged.

    Both stems start alike; ``blocks4`` and ``blocks5``, and the linear layers before them, start as copies of the last
    joint blocks and of ``patch_embed4``. Channels of masks are left to :func:`fit_model`.

    Args:
        state_dict: weights under ConvMAE's names.
        token_depth: number of ``blocks4``.
        enhance_depth: number of ``blocks5``.
    """
    weights = strip_module(state_dict)
    if _CONVMAE_KEY not in weights:
        return Conversion(dict(weights), {})
    dropped = {key: value for key, value in weights.items() if re.fullmatch(_CONVMAE_UNUSED, key)}
    converted = {key: value for key, value in weights.items() if key not in dropped}
    for key in [key for key in converted if key.startswith('patch_embed1.')]:
        value = converted.pop(key)
        for stem in ('query', 'memory'):
            converted[key.replace('patch_embed1', f'patch_embed1_{stem}')] = value
    depth = 1 + max(int(match[1]) for key in converted if (match := re.match(r'blocks3\.(\d+)\.', key)))
    for name, count in (('4', token_depth), ('5', enhance_depth)):
        for key in [key for key in converted if key.startswith('patch_embed4.')]:
            converted[key.replace('patch_embed4', f'patch_embed4_block{name}')] = converted[key]
        for i in range(count):
            source = f'blocks3.{depth - count + i}.'
            for key in [key for key in converted if key.startswith(source)]:
                converted[key.replace(source, f'blocks{name}.{i}.')] = converted[key]
    return Conversion(converted, dropped)


def fit_model(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the stem of memory frames the channels of masks that the model expects.

    Behind the RGB weights of ConvMAE the channels are drawn (truncated normal of 0.02, as published). A model of stage
    0, for single objects, gets a channel of zeros for the other objects: it tests as it was trained, and its fifth
    channel starts to learn with the next stage. (The published code draws it anew at each start.)

    Args:
        state_dict: weights under our names.
        model: the whole model or its backbone.
    """
    weights = dict(state_dict)
    for key, wanted in model.state_dict().items():
        if not key.endswith(_MEMORY_STEM) or key not in weights:
            continue
        weight = weights[key]
        more = wanted.shape[1] - weight.shape[1]
        if more > 0 and weight.shape[1] in (_RGB, _SINGLE_OBJECT) and weight.shape[:1] == wanted.shape[:1]:
            extra = weight.new_zeros(len(weight), more, *weight.shape[2:])
            if weight.shape[1] == _RGB:
                nn.init.trunc_normal_(extra, std=0.02)
            weights[key] = torch.cat([weight, extra], dim=1)
    return weights


def accept_official_files(model: nn.Module) -> None:
    """Let the model load official files directly, its backbone those of ConvMAE; refuse files of other settings.

    Where names or shapes differ, mmengine would keep random weights and only log it.

    Args:
        model: :class:`~mvbench_plugins.jointformer.detector.JointFormer`.
    """
    accept_official_checkpoints(model, convert_state_dict)
    model.register_load_state_dict_pre_hook(_fit)  # behind those of the lines above: names are ours
    model.register_load_state_dict_pre_hook(_check_settings)

    def convert(state_dict: Mapping[str, Tensor]) -> Conversion:
        return convert_convmae(state_dict, len(model.backbone.blocks4), len(model.backbone.blocks5))

    accept_official_backbones(model.backbone, convert)
    model.backbone.register_load_state_dict_pre_hook(_fit)


def _fit(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
    own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    state_dict.update({prefix + key: value for key, value in fit_model(own, module).items()})


def _check_settings(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *_) -> None:
    weights = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    misfits = strict_mismatches(model, weights)
    if not misfits:
        return
    settings = {name for line in misfits if (name := _setting(line.split()[1]))}
    shown = '; '.join(' '.join(line.split()) for line in misfits[:_SHOWN])
    more = f'; and {len(misfits) - _SHOWN} more' if len(misfits) > _SHOWN else ''
    hint = f' (settings of model.backbone: {"; ".join(sorted(settings))})' if settings else ''
    raise ValueError(
        f'{local_metadata.get("source", "The checkpoint")} does not fit this JointFormer: {shown}{more}{hint}. Use the '
        'config that belongs to the checkpoint. To take only its backbone, set model.backbone.init_cfg='
        "dict(type='Pretrained', checkpoint=FILE, prefix='backbone.'), with 'convmae.' for an official file"
    )


def _setting(key: str) -> str | None:
    return next((name for start, name in _SETTINGS.items() if key.startswith(start)), None)

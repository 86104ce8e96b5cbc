"""Official SparseBEV checkpoints, and the detectors that it starts from: their key names and ours.

Some released files say ``version: 'v0.17.1'`` beside their weights: they were trained with the boxes of mmdet3d 0.17,
whose yaw ``t'`` and sizes belong to today's as ``t = -t' - pi/2``, ``dx = dy'``, ``dy = dx'``. All numbers of a box but
its centre come straight from one linear layer (or from the embedding of the queries), which allows to turn the weights
instead of the boxes: the logarithms of the sizes swap places, and ``(sin t, cos t) = (-cos t', -sin t')``. Sampling
points follow: what was ``R(-t') (s' o')`` is ``R(t) (s o)`` with offsets ``o = (-o_y', o_x', o_z')``, rows of another
linear layer. Nothing else sees sizes or angles, and the losses weigh alike what is swapped, so that such a model can be
trained on, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mvbench_plugins.common.checkpoint import Conversion, Rule, accept_official_checkpoints, apply_rules, strip_module

from .backbone_checkpoint import convert_eva02, convert_vovnet

#: Prefix of the backbone in the model, for tools/convert_checkpoint.py.
BACKBONE = 'img_backbone.'
#: Where the loader of files notes their entry ``version``, in the metadata of the weights.
VERSION_NOTE = 'file_version'

_HEAD = 'pts_bbox_head.'
_RULES: tuple[Rule, ...] = (
    Rule(r'pts_bbox_head\.code_weights', None),  # of the loss: the config has them
    Rule(
        r'pts_bbox_head\.transformer\.decoder\.decoder_layer\.self_attn\.attention\.attn\.(.*)',
        r'pts_bbox_head.decoder.layer.self_attn.attention.\1',
    ),
    Rule(r'pts_bbox_head\.transformer\.decoder\.decoder_layer\.(.*)', r'pts_bbox_head.decoder.layer.\1'),
)

_LAYER = 'pts_bbox_head.decoder.layer.'
_SETTINGS = {  # of the head: those by which released models differ, with the entries whose shapes show them
    f'{_HEAD}init_query_bbox.': 'num_query',
    f'{_LAYER}sampling.sampling_offset.': 'num_points',
    f'{_LAYER}sampling.scale_weights.': 'num_levels x num_points',
    f'{_LAYER}mixing.parameter_generator.': 'num_frames x num_points',
}
_CLASS_ENTRIES = (f'{_HEAD}label_enc.', f'{_LAYER}cls_branch.6.')
_SHOWN = 6  # entries in an error, two for each layer
_TURNED = 'v0.17.1'
_CURRENT = 'v1.0.0'
_BOX_ENTRIES = {  # and the dimension along which the ten numbers of a box lie
    'pts_bbox_head.init_query_bbox.weight': 1,
    f'{_LAYER}reg_branch.4.weight': 0,
    f'{_LAYER}reg_branch.4.bias': 0,
}
_OFFSET_ENTRIES = (f'{_LAYER}sampling.sampling_offset.weight', f'{_LAYER}sampling.sampling_offset.bias')
# Columns of a query box: x, y, z, log dx, log dy, log dz, sin, cos, vx, vy.
_BOX_ORDER = (0, 1, 2, 4, 3, 5, 7, 6, 8, 9)
_BOX_SIGN = (1, 1, 1, 1, 1, 1, -1, -1, 1, 1)
_OFFSET_ORDER = (1, 0, 2)
_OFFSET_SIGN = (-1, 1, 1)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; our own pass unchanged.

    Of a file without SparseBEV's head, a pretrained detector (nuImages, DD3D, EVA-02), only the backbone is kept.
    """
    weights, dropped = dict(strip_module(state_dict)), {}
    if not any(key.startswith(_HEAD) for key in weights):
        weights = {re.sub(r'^backbone\.', BACKBONE, key): value for key, value in weights.items()}
        dropped = {key: weights.pop(key) for key in list(weights) if not key.startswith(BACKBONE)}
    backbone = {key.removeprefix(BACKBONE): weights.pop(key) for key in list(weights) if key.startswith(BACKBONE)}
    converted, unused = apply_rules(weights, _RULES)
    dropped.update(unused)
    # The rules of one kind of backbone know none of the names of the others.
    for convert in (convert_vovnet, convert_eva02):
        backbone, unused = convert(backbone)
        dropped.update({BACKBONE + key: value for key, value in unused.items()})
    converted.update({BACKBONE + key: value for key, value in backbone.items()})
    return Conversion(converted, dropped)


def convert_version(state_dict: Mapping[str, Tensor], version: str | None) -> dict[str, Tensor]:
    """Weights under our names for today's boxes, see the module.

    Args:
        state_dict: weights under our names.
        version: the file's entry ``version``; None if it has none.

    Raises:
        ValueError: the version is unknown.
    """
    weights = dict(state_dict)
    if version in (None, _CURRENT):
        return weights
    if version != _TURNED:
        raise ValueError(
            f'entry "version": found {version!r}, expected none, {_CURRENT!r} (boxes of mmdet3d 1.0 and later) or '
            f'{_TURNED!r} (older boxes, which are converted); remove the entry if the boxes are those of mmdet3d 1.x'
        )
    for name, dim in _BOX_ENTRIES.items():
        if name in weights:
            weights[name] = _permuted(weights[name], dim, _BOX_ORDER, _BOX_SIGN)
    for name in _OFFSET_ENTRIES:
        if name in weights:
            offsets = weights[name].unflatten(0, (-1, len(_OFFSET_ORDER)))  # [G * P, 3, ...]
            weights[name] = _permuted(offsets, 1, _OFFSET_ORDER, _OFFSET_SIGN).flatten(0, 1)
    return weights


def accept_official_files(model: nn.Module) -> None:
    """Let the detector load official files directly, and refuse files without its head or of other settings.

    Where shapes differ, mmengine would keep random weights and only log it. Another number of classes is no mistake.

    Args:
        model: :class:`~mvbench_plugins.sparsebev.detector.SparseBEV`.
    """
    accept_official_checkpoints(model, convert_state_dict)
    model.register_load_state_dict_pre_hook(_check_and_turn)  # after that of the line above: names are ours


def _check_and_turn(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *_) -> None:
    source = local_metadata.get('source', 'The checkpoint')
    weights = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    expected = model.state_dict()
    _check_head(expected, weights, source)
    _check_settings(expected, weights, source)
    try:
        turned = convert_version(weights, local_metadata.get(VERSION_NOTE))
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None
    state_dict.update({prefix + key: value for key, value in turned.items()})


def _check_head(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    head = [key for key in expected if key.startswith(_HEAD)]
    found = [key for key in head if key in weights and weights[key].shape == expected[key].shape]
    if len(found) * 2 < len(head):
        raise ValueError(
            f'{source} holds no head of this SparseBEV: {len(found)} of the {len(head)} entries of {_HEAD[:-1]} were '
            'found. Use the config that belongs to the checkpoint. To start from a pretrained detector, set '
            "model.img_backbone.init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix=PREFIX), with the prefix of "
            "its backbone, such as 'backbone.'"
        )


def _check_settings(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    misfits = []
    for key, value in expected.items():
        if key in weights and weights[key].shape != value.shape and not key.startswith(_CLASS_ENTRIES):
            setting = next((f' ({name})' for start, name in _SETTINGS.items() if key.startswith(start)), '')
            misfits.append(f'{key} is {list(weights[key].shape)}, expected {list(value.shape)}{setting}')
    layers = [
        {key for key in entries if key.startswith(BACKBONE) and not key.endswith('num_batches_tracked')}
        for entries in (weights, expected)
    ]
    misfits += [f'{key} is not in the model' for key in sorted(layers[0] - layers[1])]
    misfits += [f'{key} is not in the file' for key in sorted(layers[1] - layers[0])]
    if misfits:
        more = f'; and {len(misfits) - _SHOWN} more' if len(misfits) > _SHOWN else ''
        raise ValueError(
            f'{source} is of a SparseBEV with other settings: {"; ".join(misfits[:_SHOWN])}{more}. Use the config that '
            'belongs to the checkpoint, or correct these settings of model.pts_bbox_head or model.img_backbone. To '
            'train a model of other settings from these weights, delete the entries of the head that do not fit'
        )


def _permuted(values: Tensor, dim: int, order: Sequence[int], sign: Sequence[int]) -> Tensor:
    """Entry i along ``dim`` is entry ``order[i]`` of the input, times ``sign[i]``."""
    shape = [-1 if d == dim else 1 for d in range(values.dim())]
    return values.index_select(dim, torch.tensor(order, device=values.device)) * values.new_tensor(sign).view(shape)

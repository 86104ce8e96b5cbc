"""SparseBEV: what a recorded case was made with, where that is not what its official config says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mvbench_plugins.sparsebev.checkpoint import convert_version
from mvbench_plugins.sparsebev.frames import CAMERAS

_HEAD = 'pts_bbox_head.'
_EVA02 = 'img_backbone.backbone.net.'
_LAYER = f'{_HEAD}transformer.decoder.decoder_layer.'

_OLDER = 'v0.17.1'

# Official settings, by the last part of their names; the path in front of it tells nothing more.
#: Ours, below ``model``.
_OURS = {
    'stop_prev_grad': ('num_grad_frames',),
    'depth': ('img_backbone.depth',),
    'pc_range': (f'{_HEAD}pc_range', f'{_HEAD}bbox_coder.pc_range'),
    'point_cloud_range': (f'{_HEAD}pc_range', f'{_HEAD}bbox_coder.pc_range'),
    'code_weights': (f'{_HEAD}code_weights',),
    'post_center_range': (f'{_HEAD}bbox_coder.post_center_range',),
    'max_num': (f'{_HEAD}bbox_coder.max_num',),
    'score_threshold': (f'{_HEAD}bbox_coder.score_threshold',),
}
#: The weights, inputs and outputs of a case show them, and are asked instead.
_SHOWN = frozenset(
    'num_query num_frames num_points num_levels num_layers num_classes num_outs embed_dims query_denoising '
    'query_denoising_groups batch_size final_dim real_img_size '
    'embed_dim num_heads img_size window_size window_block_indexes'.split()
)
#: Cases are recorded without what is drawn at random, and saving memory changes no number.
_WITHOUT_EFFECT = frozenset('img_color_aug use_grid_mask drop_path_rate pretrained init_cfg load_from with_cp'.split())
_KNOWN = frozenset({*_OURS, *_SHOWN, *_WITHOUT_EFFECT, 'version'})


def apply_changes(case, cfg: Config | None = None) -> None:
    """Set what the case changed of its official config.

    Args:
        case: says so in ``changes``, by dotted or nested official names.
        cfg: to be changed; None: changes are only checked.

    Raises:
        ValueError: a change that we do not know.
    """
    for path, value in _changes(case).items():
        name = _name(path)
        if name not in _KNOWN:
            raise ValueError(
                f'{case.path}: "changes": found {path!r} ({value!r}), expected official settings out of '
                f'{sorted(_KNOWN)}; say in {__name__} which setting of ours it is'
            )
        if name in _OURS and cfg is not None:
            value = value or None if name == 'stop_prev_grad' else value  # officially, 0 stands for all frames
            cfg.merge_from_dict({f'model.{ours}': value for ours in _OURS[name]})


def recorded_version(case) -> str | None:
    """The entry ``version`` of the official file; None: there was none.

    Raises:
        ValueError: a version that we do not know, or a training step with older boxes.
    """
    version = next((value for path, value in _changes(case).items() if _name(path) == 'version'), None)
    try:
        convert_version({}, version)
    except ValueError as error:
        raise ValueError(f'{case.path}: {error}') from None
    if version == _OLDER and case.kind == 'training':
        raise ValueError(
            f'{case.path}: found a training step of version {version!r}, expected an inference: released files of that '
            'version are tested, training has boxes of today'
        )
    return version


def fit_counts(case, model: ConfigDict) -> None:
    """Set counts and widths to those of the case's weights, inputs and outputs.

    Args:
        case: an inference or a training step.
        model: config of the model.
    """
    weights, inputs, outputs = (
        {name: recipe['shape'] for name, recipe in case.meta[part].items()}
        for part in ('state_dict', 'inputs', 'outputs')
    )
    head = model.pts_bbox_head
    labels, width = weights[f'{_HEAD}label_enc.weight']
    head.num_classes, head.in_channels = labels - 1, width + 1
    head.num_query = weights[f'{_HEAD}init_query_bbox.weight'][0]
    head.num_frames = inputs['lidar2img'][1] // len(CAMERAS)
    head.num_points = weights[f'{_LAYER}sampling.sampling_offset.bias'][0] // (3 * head.num_groups)
    head.num_levels = weights[f'{_LAYER}sampling.scale_weights.bias'][0] // (head.num_points * head.num_groups)
    if 'all_cls_scores' in outputs:
        head.num_decoder_layers = outputs['all_cls_scores'][0]
    elif 'loss_cls' in outputs:
        head.num_decoder_layers = sum(name.endswith('loss_cls') for name in outputs)
    boxes = sum(shape[0] for name, shape in inputs.items() if name.startswith('gt_boxes_'))
    if boxes and 'dn_box_noise' in inputs:
        head.denoising.num_groups = inputs['dn_box_noise'][0] // boxes
    elif boxes:
        head.denoising = None
    if model.img_backbone.type == 'EVA02SimplePyramid':
        _fit_eva02(weights, model.img_backbone)
        model.img_backbone.out_channels = head.in_channels
    if model.img_neck is not None:
        lateral = [f'img_neck.lateral_convs.{i}.conv.weight' for i in range(len(model.img_neck.in_channels))]
        model.img_neck.update(
            in_channels=[weights[name][1] for name in lateral],
            out_channels=head.in_channels,
            num_outs=head.num_levels,
        )


def _fit_eva02(weights: Mapping[str, Sequence[int]], backbone: ConfigDict) -> None:
    """The design of the backbone, of which the rotary tables tell more than the weights."""
    depth = sum(re.fullmatch(rf'{_EVA02}blocks\.\d+\.norm1\.weight', name) is not None for name in weights)
    width = weights[f'{_EVA02}pos_embed'][2]
    windowed, whole = (weights[f'{_EVA02}rope_{kind}.freqs_cos'] for kind in ('win', 'glb'))
    tables = [weights[f'{_EVA02}blocks.{i}.attn.rope.freqs_cos'] for i in range(depth)]
    backbone.update(
        embed_dims=width,
        depth=depth,
        num_heads=width // whole[1],
        patch_size=weights[f'{_EVA02}patch_embed.proj.weight'][2],
        window=math.isqrt(windowed[0]),
        rotary_grid=math.isqrt(whole[0]),
        global_blocks=[i for i, table in enumerate(tables) if table == whole],
        frozen_blocks=min(backbone.frozen_blocks, depth),
    )


def _changes(case) -> dict[str, Any]:
    """Changed values by dotted official names; cases say some of them beside their ``changes``."""

    def leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield from leaves(f'{prefix}.{name}', inner)
        else:
            yield prefix.removeprefix('.'), value

    beside = {name: case.meta[name] for name in ('version', 'pc_range') if name in case.meta}
    return beside | dict(leaves('', case.meta.get('changes') or {}))


def _name(path: str) -> str:
    """The setting itself; the version is ``VERSION.name`` in the official code, and ``version`` in files."""
    return path.removesuffix('.name').split('.')[-1].lower()

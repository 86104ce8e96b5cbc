"""Small models with the backbones of the released ones, and what official files call their weights."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

# The released models with narrow layers.
_HEAD = """
        in_channels=32, num_query=16, num_frames=2, num_groups=2, num_heads=2, num_decoder_layers=2,
        feedforward_channels=32, dropout=0.0, denoising=None, bbox_coder=dict(score_threshold=0.0),
"""
NARROW = {
    'r50': f"""
    img_backbone=dict(depth=18, base_channels=8, init_cfg=None),
    img_neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    pts_bbox_head=dict({_HEAD}),
""",
    'vov99_future': f"""
    img_backbone=dict(
        stem_channels=(4, 4, 8), conv_channels=(4, 6, 8, 10), out_channels=(8, 12, 16, 20), num_blocks=(1, 2, 1, 1),
        num_convs=2, init_cfg=None,
    ),
    img_neck=dict(in_channels=[8, 12, 16, 20], out_channels=32),
    pts_bbox_head=dict({_HEAD}),
""",
    'eva02-l_future': f"""
    img_backbone=dict(
        embed_dims=48, depth=4, num_heads=3, patch_size=8, window=4, global_blocks=(1, 3), rotary_grid=6,
        out_channels=32, init_cfg=None,
    ),
    pts_bbox_head=dict({_HEAD}),
""",
}

_CODE_WEIGHTS = 'pts_bbox_head.code_weights'  # of the loss, which official files have beside the weights

# Our names to those of official files, written down a second time, from the published naming.
_OFFICIAL = (
    (r'^pts_bbox_head\.decoder\.layer\.', 'pts_bbox_head.transformer.decoder.decoder_layer.'),
    (r'\.self_attn\.attention\.', '.self_attn.attention.attn.'),
)
_OFFICIAL_VOVNET = (
    (r'\.stem\.conv(\d)\.conv\.', r'.stem.stem_\1/conv.'),
    (r'\.stem\.conv(\d)\.bn\.', r'.stem.stem_\1/norm.'),
    (r'\.stage(\d)\.block(\d)\.', r'.stage\1.OSA\1_\2.'),
    (r'(OSA\d_\d)\.layers\.(\d)\.', r'\1.layers.\2.\1_\2/'),
    (r'(OSA\d_\d)\.concat\.', r'\1.concat.\1_concat/'),
    (r'/bn\.', '/norm.'),
    (r'\.ese\.', '.ese.fc.'),
)
_OFFICIAL_EVA02 = (
    (r'^img_backbone\.(patch_embed)\.', r'img_backbone.backbone.net.\1.proj.'),
    (r'^img_backbone\.(blocks|pos_embed)', r'img_backbone.backbone.net.\1'),
    (r'\.attn\.([qv])_proj\.bias', r'.attn.\1_bias'),
    (r'^img_backbone\.pyramid\.resample\.(\d)\.', lambda m: f'img_backbone.backbone.simfp_{int(m[1]) + 2}.'),
    (
        r'^img_backbone\.pyramid\.project\.(\d)\.(\d)\.',
        # The projection follows 4, 1, 0 and 1 layers that change the resolution; its norms belong to its convolutions.
        lambda m: (
            f'img_backbone.backbone.simfp_{int(m[1]) + 2}.{(4, 1, 0, 1)[int(m[1])] + int(m[2]) // 2}.'
            + ('norm.' if int(m[2]) % 2 else '')
        ),
    ),
)


def official_names(weights: dict[str, Tensor], kind: str = 'r50') -> dict[str, Tensor]:
    """Weights of a whole model under official names."""
    named = {}
    rules = {'r50': (), 'vov99_future': _OFFICIAL_VOVNET, 'eva02-l_future': _OFFICIAL_EVA02}[kind]
    for key, value in weights.items():
        for pattern, replacement in (*_OFFICIAL, *rules):
            key = re.sub(pattern, replacement, key)
        named[key] = value
    if any(key.startswith('pts_bbox_head.') for key in named):
        named[_CODE_WEIGHTS] = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    if kind == 'eva02-l_future':
        named['img_backbone.backbone.net.rope_win.freqs_cos'] = torch.ones(16, 16)
        named['img_backbone.backbone.net.blocks.0.attn.rope.freqs_sin'] = torch.ones(16, 16)
    return named


def random_model(config: Path, seed: int) -> nn.Module:
    """Values of its own for every entry, so that none can be taken for another."""
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    for value in model.state_dict().values():
        value.normal_() if value.is_floating_point() else value.random_(1000)
    return model


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert torch.equal(got[name], value), name

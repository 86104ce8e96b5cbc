"""What the parity adapter makes of a recorded case whose backbone is no ResNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from adapters import sparsebev
from cases import Case
from mmdet3d.registry import MODELS
from mmengine.config import Config
from official_models import official_names

EVA02 = 'vit_eva02_1600x640_trainval_future'
DESIGN = dict(embed_dims=24, depth=3, num_heads=2, patch_size=8, window=3, global_blocks=[2], rotary_grid=6)
FRAMES = 3


def test_the_design_of_eva02_is_read_from_the_weights_and_all_frames_are_recorded_together():
    cfg = Config.fromfile(sparsebev.CONFIG_DIR / sparsebev.CONFIGS[EVA02]).model
    cfg.img_backbone.update(DESIGN, out_channels=32, init_cfg=None)
    cfg.pts_bbox_head.update(in_channels=32, num_query=16, num_frames=FRAMES, num_decoder_layers=2)
    with torch.device('meta'):
        weights = official_names(MODELS.build(cfg).state_dict(), 'eva02-l_future')
    shapes = {name: list(value.shape) for name, value in weights.items()}
    net = 'img_backbone.backbone.net'
    windowed, whole = [3**2, 12], [6**2, 12]
    for name, shape in (('rope_win', windowed), ('rope_glb', whole)):
        shapes[f'{net}.{name}.freqs_cos'] = shapes[f'{net}.{name}.freqs_sin'] = shape
    for block, shape in enumerate((windowed, windowed, whole)):
        shapes |= {f'{net}.blocks.{block}.attn.rope.freqs_{kind}': shape for kind in ('cos', 'sin')}
    projections = np.tile(np.eye(4, dtype=np.float32), (1, FRAMES * 6, 1, 1))
    case = Case(
        Path('made/case'),
        dict(
            system='SparseBEV',
            kind='inference',
            reference=dict(config=f'configs/{EVA02}.py'),
            seed=0,
            changes={'img_backbone.window_size': 3},
            state_dict={name: dict(shape=shape, mean=0.0, std=0.1) for name, shape in shapes.items()},
            inputs=dict(
                img=dict(shape=[1, FRAMES * 6, 3, 64, 64], dtype='uint8', low=0, high=256),
                lidar2img=dict(shape=list(projections.shape), dtype='float32', value=projections.ravel().tolist()),
                img_timestamp=dict(shape=[1, FRAMES * 6], dtype='float64', low=0, high=1),
            ),
            outputs=dict(all_cls_scores=dict(shape=[2, 1, 16, cfg.pts_bbox_head.num_classes])),
        ),
        {},
    )
    outputs = sparsebev.run(case)[0]
    assert outputs['backbone_0'].shape == (FRAMES * 6, 32, 32, 32)
    fitted = Config.fromfile(sparsebev.CONFIG_DIR / sparsebev.CONFIGS[EVA02]).model
    sparsebev.fit_counts(case, fitted)
    assert {name: fitted.img_backbone[name] for name in DESIGN} == DESIGN

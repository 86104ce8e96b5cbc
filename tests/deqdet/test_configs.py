"""Every config builds the published model and the official optimisation recipe."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from adapters.deqdet import CONFIGS
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

# Millions of parameters of the official models, without those that they never call (specification, section 1).
PARAMS_M = {
    'deqdet_r50_8xb2-1x_coco.py': 77.76,
    'deqdet_r50_300-query_8xb2-crop-ms-2x_coco.py': 77.81,
    'deqdet_r101_300-query_8xb2-crop-ms-2x_coco.py': 96.80,
    'deqdet_swin-s_300-query_8xb2-crop-ms-2x_coco.py': 97.61,
    'deqdet_swin-l_300-query_8xb2-1x_coco.py': 270.6 - 23.27,
    'deqdet_swin-l_300-query-384-dim_8xb2-1x_coco.py': 293.8 - 23.27,
    'deqdet_swin-l_300-query-512-dim_8xb2-1x_coco.py': 317.5 - 23.27,
    'ffndet_r50_8xb2-1x_coco.py': 168.5,
}
QUERIES = {name: 100 if '_r50_8xb2-1x' in name else 900 if '900-query' in name else 300 for name in CONFIGS.values()}


@pytest.fixture(scope='module')
def models(config_dir):
    """Every config with its model, without memory for the weights."""
    built = {}
    # Swin reads its drop-path rates back from a tensor, which the meta device cannot.
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        for name in CONFIGS.values():
            cfg = Config.fromfile(config_dir / 'deqdet' / name)
            built[name] = cfg, MODELS.build(cfg.model)
    return built


def test_parameter_counts(models):
    for name, expected in PARAMS_M.items():
        count = sum(p.numel() for p in models[name][1].parameters()) / 1e6
        assert count == pytest.approx(expected, abs=0.06), name


def test_entries_of_the_official_checkpoints(models):
    """As many entries as the released files hold, less the 24 that are never called (specification, section 7)."""
    for name, official in (
        ('deqdet_r50_8xb2-1x_coco.py', 420),
        ('deqdet_r101_300-query_8xb2-crop-ms-2x_coco.py', 726),
        ('deqdet_swin-s_300-query_8xb2-crop-ms-2x_coco.py', 459),
        ('deqdet_swin-l_300-query_8xb2-1x_coco.py', 459),
    ):
        assert len(models[name][1].state_dict()) + 24 == official, name


def test_queries_and_detections_per_image(models):
    for name, (_, model) in models.items():
        assert model.rpn_head.num_proposals == QUERIES[name], name
        assert model.roi_head.test_cfg.max_per_img == min(QUERIES[name], 300), name


@pytest.mark.parametrize('name', CONFIGS.values())
def test_optimizer_recipe(models, name):
    cfg, model = models[name]
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
    norms = tuple(
        n
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.modules.batchnorm._NormBase | torch.nn.LayerNorm | torch.nn.GroupNorm)
    )
    swin = 'swin' in name
    seen = set()
    for key, param in model.named_parameters():
        if not param.requires_grad:
            continue
        got = groups[id(param)]['lr'], groups[id(param)]['weight_decay']
        is_norm = key.rpartition('.')[0] in norms
        if key.startswith('roi_head.bbox_head.'):
            kind, want = 'decoder', (1e-4, 0.1)
        elif swin and key.startswith('backbone.') and (is_norm or key.endswith('relative_position_bias_table')):
            kind, want = 'slow', (2.5e-6, 0.0)
        elif swin and is_norm:
            kind, want = 'norm', (2.5e-5, 0.0)
        else:
            kind, want = 'rest', (2.5e-5, 0.01)
        seen.add(kind)
        assert got == pytest.approx(want), key
    assert seen == ({'decoder', 'slow', 'norm', 'rest'} if swin else {'decoder', 'rest'})
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults['betas'] == (0.9, 0.999)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0, norm_type=2)


@pytest.mark.parametrize('name', CONFIGS.values())
def test_schedule_and_pipeline(models, name):
    cfg, _ = models[name]
    twice = '-2x' in name
    epochs, milestones = (24, [16, 22]) if twice else (12, [8, 11])
    assert cfg.train_cfg.max_epochs == epochs
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end, warmup.by_epoch) == ('LinearLR', 0.001, 500, False)
    assert (steps.type, steps.milestones, steps.gamma, steps.end) == ('MultiStepLR', milestones, 0.1, epochs)
    assert cfg.train_dataloader.batch_size == 2 and cfg.auto_scale_lr.base_batch_size == 16
    kinds = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    if 'crop-ms' in name:
        assert kinds == ['LoadImageFromFile', 'LoadAnnotations', 'RandomFlip', 'RandomChoice', 'PackDetInputs']
        plain, cropped = cfg.train_dataloader.dataset.pipeline[3].transforms
        assert [step.type for step in cropped] == ['RandomChoiceResize', 'RandomCrop', 'RandomChoiceResize']
        assert cropped[0].scales == [(400, 1333), (500, 1333), (600, 1333)]
        assert cropped[1].crop_size == (384, 600) and cropped[1].allow_negative_crop
        assert cropped[2] == plain[0] and plain[0].scales == [(side, 1333) for side in range(480, 801, 32)]
    else:
        assert kinds == ['LoadImageFromFile', 'LoadAnnotations', 'Resize', 'RandomFlip', 'PackDetInputs']
        assert cfg.train_dataloader.dataset.pipeline[2].scale == (1333, 800)


def test_frozen_parts(models):
    _, model = models['deqdet_r50_8xb2-1x_coco.py']
    model.train()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stem = ('backbone.conv1.', 'backbone.bn1.', 'backbone.layer1.')
    assert 'rpn_head.init_proposal_bboxes.weight' in frozen and len(frozen) == 34
    assert all(name.startswith(stem) for name in frozen - {'rpn_head.init_proposal_bboxes.weight'})
    assert not any(m.training for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    _, swin = models['deqdet_swin-s_300-query_8xb2-crop-ms-2x_coco.py']
    assert [name for name, p in swin.named_parameters() if not p.requires_grad] == [
        'rpn_head.init_proposal_bboxes.weight'
    ]


def test_equilibrium_settings(models):
    for name, (_, model) in models.items():
        if name.startswith('deqdet'):
            head = model.roi_head
            assert head.supervision_position == (1, 3, 6, 9, 12, 20), name
            assert (head.refinement_steps, head.rag, head.extra_supervisions_on_init_head) == (20, 2, 2), name
            assert vars(head.perturb) == dict(
                content_prob=0.2, position_prob=0.2, content_intensity=0.1, position_intensity=25.0
            ), name
        else:
            assert len(model.roi_head.bbox_head) == 6, name

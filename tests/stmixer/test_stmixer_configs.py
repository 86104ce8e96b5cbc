"""Every config builds the published model and the official optimisation recipe."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from adapters.stmixer import CONFIGS
from mmaction.registry import DATASETS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

SLOWONLY, SLOWFAST, SLOWFAST_NL, VIT, VIT_V2 = CONFIGS.values()
# Millions of parameters of backbone, neck and decoder of the official models (specification, section 1).
PARAMS_M = {
    SLOWONLY: (31.63, 0.98, 151.88),
    SLOWFAST: (33.64, 1.11, 159.35),
    SLOWFAST_NL: (59.16, 1.11, 159.35),
    VIT: (86.23, 10.28, 159.35),
    VIT_V2: (86.23, 10.28, 159.35),
}
# Entries of the official files, less the loss's buffer (section 7).
ENTRIES = {SLOWONLY: 670, SLOWFAST: 1012, SLOWFAST_NL: 1663, VIT: 528, VIT_V2: 528}


@pytest.fixture(scope='module')
def models(config_dir):
    """Every config with its model, without memory for the weights."""
    built = {}
    # The ViT reads its drop-path rates back from a tensor, which the meta device cannot.
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        for path in sorted((config_dir / 'stmixer').glob('*.py')):
            cfg = Config.fromfile(path)
            built[path.name] = cfg, MODELS.build(cfg.model)
    return built


def test_all_configs_are_covered(models):
    assert set(PARAMS_M) < set(models) and len(models) >= 10


@pytest.mark.parametrize('name', PARAMS_M)
def test_parameters_and_entries_of_the_official_models(models, name):
    model = models[name][1]
    parts = (model.backbone, model.neck, model.head)
    counts = [sum(p.numel() for p in part.parameters()) / 1e6 for part in parts]
    assert counts == pytest.approx(PARAMS_M[name], abs=0.006)
    assert len(model.state_dict()) == ENTRIES[name]
    assert all(p.requires_grad for p in model.parameters())


def _decays(name: str, param: torch.Tensor, vit: bool) -> bool:
    """The published rule, on official grounds: norms of a CNN, vectors of a ViT; only in the backbone."""
    if not name.startswith('backbone.'):
        return True
    return param.dim() > 1 if vit else not re.search(r'\.bn\.(weight|bias)$', name)


def test_optimizer_recipe(models):
    for name, (cfg, model) in models.items():
        if 'toy' in name:
            continue
        vit = 'vit' in name
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
        spared = 0
        for key, param in model.named_parameters():
            decays = _decays(key, param, vit)
            spared += not decays
            got = groups[id(param)]['lr'], groups[id(param)]['weight_decay']
            assert got == (1e-5 if vit else 2e-5, 1e-4 if decays else 0.0), (name, key)
        assert spared > 100, name
        assert type(optimizer) is torch.optim.AdamW and optimizer.defaults['betas'] == (0.9, 0.999)
        assert 'clip_grad' not in cfg.optim_wrapper, name


def test_batches(models):
    for name, (cfg, _) in models.items():
        if 'toy' in name:
            continue
        per_gpu = int(re.search(r'_8xb(\d)-', name)[1])
        assert per_gpu == (1 if 'vit' in name else 2)
        assert {cfg[f'{split}_dataloader'].batch_size for split in ('train', 'val', 'test')} == {per_gpu}, name
        assert cfg.auto_scale_lr.base_batch_size == 8 * per_gpu, name


def test_schedule(models):
    """Simulated with 10 iterations per epoch: what the optimizer sees at each of them."""
    for name, (cfg, _) in models.items():
        if 'toy' in name:
            continue
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        schedulers = []
        for scheduler in cfg.param_scheduler:
            scheduler = dict(scheduler, optimizer=optimizer)
            if scheduler.pop('convert_to_iter_based', False):
                kind = PARAM_SCHEDULERS.get(scheduler.pop('type'))
                schedulers.append(kind.build_iter_from_epoch(**scheduler, epoch_length=10))
            else:
                schedulers.append(PARAM_SCHEDULERS.build(scheduler))
        rates = []
        for _epoch in range(cfg.train_cfg.max_epochs):
            for _iteration in range(10):
                rates.append(optimizer.param_groups[0]['lr'])
                optimizer.step()
                for scheduler in schedulers:
                    if not scheduler.by_epoch:
                        scheduler.step()
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
        assert len(rates) == 120
        assert rates[0] == pytest.approx(0.1) and 0.5 < rates[10] < 0.6
        assert rates[20:50] == pytest.approx([1.0] * 30)
        assert rates[50:80] == pytest.approx([0.1] * 30)
        assert rates[80:] == pytest.approx([0.01] * 40)
        assert cfg.randomness.seed == 2


def test_decoder_and_losses(models):
    for name, (_, model) in models.items():
        if 'toy' in name:
            continue
        head = model.head
        assert (len(head.stages), head.spatial_queries.num_embeddings, head.strides) == (6, 100, (4, 8, 16, 32))
        assert head.num_frames == (4 if 'slowonly' in name else 8)
        weights = [loss.loss_weight for loss in (head.loss_person, head.loss_action, head.loss_bbox, head.loss_giou)]
        assert weights == [2.0, 48.0 if name == VIT_V2 else 24.0, 2.0, 2.0], name
        assert head.loss_person.class_weight == [1.0, 0.1] and head.loss_action.use_sigmoid
        costs = {type(cost).__name__: cost.weight for cost in head.assigner.match_costs}
        assert costs == dict(ClassificationCost=2.0, BBoxL1Cost=2.0, IoUCost=2.0)
        assert dict(head.test_cfg) == dict(person_score_thr=0.6, fallback_topk=3)


def test_frozen_statistics(models):
    """Only SlowOnly keeps its pretrained batch norm statistics; its affine parameters learn all the same."""
    for name, (_, model) in models.items():
        model.train()
        norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm3d)]
        assert {norm.training for norm in norms} <= {'slowonly' not in name}, name


def test_drop_path_of_the_vit(models):
    blocks = models[VIT][1].backbone.blocks
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


def test_pipelines(models):
    for name, (cfg, _) in models.items():
        train, test = (cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val'))
        for pipeline in (train, test):
            for step in pipeline:
                TRANSFORMS.build(step)
        assert cfg.test_dataloader.dataset.pipeline == test, name
        if 'toy' in name:
            continue
        kinds = [step.type for step in train]
        assert kinds == [
            'SampleKeyFrameClip',
            'LoadClipFrames',
            'ClipBoxes',
            'ResizeShortSide',
            'FlipClip',
            'ClipBoxes',
            'FormatShape',
            'PackActionInputs',
        ]
        assert [step.type for step in test] == [kind for kind in kinds if kind != 'FlipClip']
        assert train[3].scale == [256, 320] and test[3].scale == 256 and train[4].prob == 0.5
        frames, interval = map(int, re.search(r'-(\d+)x(\d+)x1-', name).groups())
        for step in (train[0], test[0]):
            assert (step.clip_len, step.frame_interval) == (frames, interval), name


def test_classes_agree(models):
    """The labels of data set and metric have one column more than the head has classes."""
    for name, (cfg, model) in models.items():
        classes = {'ava22': 80, 'jhmdb': 21, 'ucf101-24': 24, 'toy': 8}
        expected = next(number for data, number in classes.items() if data in name)
        assert model.head.num_classes == expected and model.head.stages[0].action_head[-1].out_features == expected
        for split in ('train', 'val', 'test'):
            assert cfg[f'{split}_dataloader'].dataset.num_classes == expected + 1, name
            assert DATASETS.get(cfg[f'{split}_dataloader'].dataset.type) is not None, name
        assert cfg.val_evaluator.get('num_classes', expected + 1) == expected + 1
        assert METRICS.get(cfg.val_evaluator.type) is not None and cfg.test_evaluator == cfg.val_evaluator


def test_ava21_replaces_every_annotation_file(config_dir):
    cfg = Config.fromfile(config_dir / '_base_' / 'datasets' / 'ava21.py')
    for split, part in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = cfg[f'{split}_dataloader']
        assert loader.dataset.ann_file == f'annotations/ava_{part}_v2.1.csv' and loader.batch_size == 2
    assert cfg.test_evaluator == cfg.val_evaluator
    for field in ('ann_file', 'exclude_file', 'label_file'):
        assert 'v2.1' in cfg.val_evaluator[field], field

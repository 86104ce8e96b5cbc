"""Every config builds the published model, its recipe and its data."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch
from adapters.evad import CONFIGS
from evad_batches import make_batch
from mmaction.registry import DATASETS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mvbench_plugins.common.flops import count_flops

FULL, KTP, KTP_EW, VIT_L, VIT_L_V21 = CONFIGS.values()
KTP_V2 = 'evad_vit-b-ktp-v2-k710-pre_8xb2-16x4x1-12e_ava22-rgb.py'
RELEASED = (FULL, KTP, KTP_EW, KTP_V2, VIT_L, VIT_L_V21)


@pytest.fixture(scope='module')
def models(config_dir):
    """Every config with its model, without memory for the weights."""
    built = {}
    # Drop-path rates are read back from a tensor, which the meta device cannot.
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        for path in sorted((config_dir / 'evad').glob('*.py')):
            cfg = Config.fromfile(path)
            built[path.name] = cfg, MODELS.build(cfg.model)
    return built


def _released(models):
    return {name: models[name] for name in RELEASED}


def test_all_configs_are_covered(models):
    assert {name for name in models if 'toy' not in name} == set(RELEASED)


@pytest.mark.parametrize('name', RELEASED)
def test_parameters_and_entries_of_the_official_models(models, name):
    """Section 1, in millions, and section 7, less the loss's buffer."""
    model = models[name][1]
    total, backbone, localizer, refinement = (
        (439.54, 303.86, 79.29, 52.42) if 'vit-l' in name else (185.36, 86.23, 79.29, 16.37)
    )
    parts = (model, model.backbone, model.head.localizer, model.head.refinement)
    counts = [sum(p.numel() for p in part.parameters()) / 1e6 for part in parts]
    # The table's share of the decoder is without the projection into it.
    counts[3] -= sum(p.numel() for p in model.head.refinement.encoder_to_decoder.parameters()) / 1e6
    assert counts == pytest.approx((total, backbone, localizer, refinement), abs=0.006)
    assert len(model.state_dict()) == (792 if 'vit-l' in name else 528)
    assert all(p.requires_grad for p in model.parameters())


def test_pruning_and_refinement(models):
    """The table of section 1, sections 2.4, 2.5, 2.8 and 2.9."""
    for name, (_, model) in _released(models).items():
        large, backbone, refinement = 'vit-l' in name, model.backbone, model.head.refinement
        assert backbone.keep_rate == {FULL: 1.0, KTP_EW: 0.6}.get(name, 0.7), name
        assert backbone.enhanced_weight == (4.0 if name == KTP_EW else 1.0), name
        assert backbone.prune_blocks == ((6, 12, 18) if large else (3, 6, 9)), name
        assert backbone.out_indices == ((5, 11, 17, 23) if large else (2, 5, 8, 11)), name
        assert len(backbone.blocks) == 2 * len(refinement.blocks) == (24 if large else 12), name
        rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in backbone.blocks]
        depth = len(rates)
        assert rates == pytest.approx([(0.2 if large else 0.1) * i / (depth - 1) for i in range(depth)]), name
        rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in refinement.blocks]
        assert rates == pytest.approx([0.1 * i / (len(rates) - 1) for i in range(len(rates))]), name
        assert {block.attn.embed_dims // block.attn.num_heads for block in (*backbone.blocks, *refinement.blocks)} == {
            64
        }
        assert refinement.extend == ((0.0, 0.0) if name == FULL else (0.4, 0.2)), name
        assert not refinement.keep_places and backbone.with_cp and refinement.with_cp, name
        assert {norm.eps for norm in backbone.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}
        assert {norm.eps for norm in refinement.blocks.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}
        assert {head[1].eps for head in refinement.action_heads} == {1e-5}


def test_losses_and_stages(models):
    for name, (_, model) in _released(models).items():
        head = model.head
        assert len(head.localizer.stages) == 6 and model.proposals.num_proposals == 100
        weights = [loss.loss_weight for loss in (head.loss_person, head.loss_action, head.loss_bbox, head.loss_giou)]
        assert weights == [2.0, 6.0 if 'vit-l' in name else 12.0, 5.0, 2.0], name
        assert head.loss_person.class_weight == [1.0, 0.1] and head.loss_action.use_sigmoid
        costs = {type(cost).__name__: cost.weight for cost in head.assigner.match_costs}
        assert costs == dict(ClassificationCost=2.0, BBoxL1Cost=5.0, IoUCost=2.0)
        assert dict(head.test_cfg) == dict(person_score_thr=0.7)
        extractor = head.localizer.roi_extractor
        assert (extractor.finest_scale, list(extractor.featmap_strides)) == (56, [4, 8, 16, 32])
        preprocessor = model.data_preprocessor
        assert preprocessor.pad_size_divisor == 32 and preprocessor.mean.numel() == 3


def test_optimizer_recipe(models):
    """Section 6: the head learns 8 times as fast; vectors, biases and the mask token do not decay."""
    for name, (cfg, model) in _released(models).items():
        base = 1e-5 if 'vit-l' in name else 2.5e-5
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
        for key, param in model.named_parameters():
            decays = param.dim() > 1 and not key.endswith(('.bias', 'mask_token'))
            rate = base * 8 if key.startswith('head.') else base
            got = groups[id(param)]['lr'], groups[id(param)]['weight_decay']
            assert got == pytest.approx((rate, 1e-4 if decays else 0.0)), (name, key)
        proposals = groups[id(model.proposals.init_proposal_bboxes.weight)]
        assert (proposals['lr'], proposals['weight_decay']) == pytest.approx((base, 1e-4)), name
        assert type(optimizer) is torch.optim.AdamW and optimizer.defaults['betas'] == (0.9, 0.999)
        assert optimizer.defaults['eps'] == 1e-8 and 'clip_grad' not in cfg.optim_wrapper, name


def test_schedule(models):
    """Simulated with 10 iterations per epoch: what the backbone's group sees at each of them."""
    for name, (cfg, _) in _released(models).items():
        full, first = (1e-5, 2.5e-6) if 'vit-l' in name else (2.5e-5, 2.5e-6)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=full)
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
        assert len(rates) == 120 and rates[0] == pytest.approx(first), name
        assert rates[10] == pytest.approx((first + full) / 2, rel=0.05), name
        assert rates[20:50] == pytest.approx([full] * 30)
        assert rates[50:80] == pytest.approx([0.1 * full] * 30)
        assert rates[80:] == pytest.approx([0.01 * full] * 40)
        # After the 5th epoch, and after each from the 6th on.
        assert (cfg.train_cfg.val_begin, cfg.train_cfg.val_interval) == (5, 1), name


def test_batches_and_pretrained_files(models):
    files = {}
    for name, (cfg, _) in _released(models).items():
        per_gpu = int(re.search(r'_8xb(\d)-', name)[1])
        assert per_gpu == (1 if 'vit-l' in name else 2)
        assert {cfg[f'{split}_dataloader'].batch_size for split in ('train', 'val', 'test')} == {per_gpu}, name
        assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=8 * per_gpu) and cfg.randomness.seed == 0
        files[name] = cfg.model.backbone.init_cfg
        assert files[name].type == 'Pretrained'
    assert files[FULL] == files[KTP] == files[KTP_EW] != files[KTP_V2]
    assert files[VIT_L] == files[VIT_L_V21] != files[FULL]


def test_pipelines(models):
    """Section 5: the same clip in training and test; flipped before it is resized; no other change."""
    for name, (cfg, _) in models.items():
        train, test = (cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val'))
        for step in (*train, *test):
            TRANSFORMS.build(step)
        assert cfg.test_dataloader.dataset.pipeline == test, name
        if 'toy' in name:
            continue
        kinds = ['SampleKeyFrameClip', 'LoadClipFrames', 'ClipBoxes', 'FlipClip', 'ResizeShortSide', 'FormatShape']
        assert [step.type for step in train] == [*kinds, 'PackActionInputs'], name
        assert [step.type for step in test] == [kinds[0], kinds[1], *kinds[4:], 'PackActionInputs'], name
        assert train[3].prob == 0.5 and train[4].scale == test[2].scale == 288, name


def test_clip_of_a_key_frame(models):
    """16 frames, every 4th, the key frame is element 8; at the ends of the video frames repeat."""
    sample = TRANSFORMS.build(models[KTP][0].train_dataloader.dataset.pipeline[0])
    results = dict(key_frame=100, total_frames=1000, start_index=0, img_key='v,903')
    frames = sample.transform(dict(results))['frame_inds']
    assert frames.tolist() == list(range(100 - 32, 100 + 29, 4)) and frames[8] == 100
    assert sample.transform({**results, 'key_frame': 5})['frame_inds'].tolist()[:8] == [0] * 7 + [1]


def test_flip_then_resize(models):
    """Section 5: ``x' = W - 1 - x`` on the frame, then the exact ratio; sizes are rounded."""
    pipeline = models[KTP][0].train_dataloader.dataset.pipeline
    image = np.arange(100 * 131 * 3, dtype=np.uint8).reshape(100, 131, 3)
    results = dict(
        imgs=[image] * 2,
        img_shape=(100, 131),
        original_shape=(100, 131),
        gt_bboxes=np.array([[10.0, 20.0, 150.0, 70.0]], np.float32),
        modality='RGB',
    )
    for step in pipeline[2:5]:
        step = dict(step, prob=1.0) if step.type == 'FlipClip' else step
        results = TRANSFORMS.build(step).transform(results)
    assert results['imgs'][0].shape == (288, 377, 3) and tuple(results['img_shape']) == (288, 377)
    np.testing.assert_allclose(results['gt_bboxes'], [[0.0, 57.6, 120 * 2.88, 201.6]], rtol=1e-5)


def test_data_sets_and_metric(models):
    """The labels of data set and metric have one column more than the head has classes."""
    for name, (cfg, model) in models.items():
        classes = model.head.num_classes
        assert 'toy' in name or classes == 80, name
        assert {head[-1].out_features for head in model.head.refinement.action_heads} == {classes}, name
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            assert dataset.num_classes == classes + 1 and DATASETS.get(dataset.type) is not None, name
        assert METRICS.get(cfg.val_evaluator.type) is not None and cfg.test_evaluator == cfg.val_evaluator
        if 'toy' not in name:
            version = 'v2.1' if name == VIT_L_V21 else 'v2.2'
            assert all(version in cfg[f'{split}_dataloader'].dataset.ann_file for split in ('train', 'val', 'test'))


@pytest.mark.parametrize(('name', 'published'), [(FULL, 347.1), (KTP, 212.9), (KTP_EW, 185.1), (VIT_L, 671.9)])
def test_work_of_the_encoder(models, name, published):
    """Section 1: patches, linear layers and attention at 288 x 288, in billions; tokens are really removed."""
    backbone = models[name][1].backbone.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.empty(1, 3, 16, 288, 288, device='meta'))
    assert counter.get_total_flops() / 2e9 == pytest.approx(published, abs=0.2)


def test_pruning_saves_work(build):
    """By the suite's own count, which the whole model allows."""
    totals = {}
    for keep_rate in (1.0, 0.7):
        found = count_flops(build(backbone=dict(keep_rate=keep_rate)), make_batch([0], sizes=[(64, 96)]))
        assert found['reason'] is None
        totals[keep_rate] = found['total']
    assert totals[0.7] < 0.85 * totals[1.0]

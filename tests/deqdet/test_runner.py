"""The toy config through the stock runner, metric, hook and inferencer."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.runner import Runner


@pytest.fixture(scope='module')
def trained(toy_config, toy_coco, tmp_path_factory) -> tuple[Config, str]:
    """Config and checkpoint after 16 epochs on 32 images of 64 px: enough to see losses fall, not to detect."""
    cfg = toy_config.copy()
    cfg.work_dir = str(tmp_path_factory.mktemp('work'))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(toy_coco)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(toy_coco / 'annotations' / 'instances_val.json')
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 16
    cfg.param_scheduler[0].end, cfg.param_scheduler[1].T_max = 10, 16
    cfg.default_hooks.logger.interval = 4
    cfg.default_hooks.checkpoint.interval = 16
    Runner.from_cfg(cfg).train()
    return cfg, f'{cfg.work_dir}/epoch_16.pth'


def _scalars(work_dir: str) -> list[dict]:
    (path,) = Path(work_dir).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_learns(trained):
    losses = [entry['loss'] for entry in _scalars(trained[0].work_dir) if 'loss' in entry]
    assert len(losses) == 16 and losses[-1] < 0.4 * losses[0]


def test_validation_and_residuals_are_logged(trained):
    entries = _scalars(trained[0].work_dir)
    assert any('coco/bbox_mAP_50' in entry for entry in entries)
    residuals = {key: entry[key] for entry in entries for key in entry if key.startswith('equilibrium/')}
    assert list(residuals) == [f'equilibrium/residual_{k}' for k in range(1, 6)]
    assert all(np.isfinite(value) and value > 0 for value in residuals.values())
    (picture,) = Path(trained[0].work_dir).glob('*/vis_data/equilibrium_residual_val_16.png')
    assert cv2.imread(str(picture)) is not None


def test_fewer_steps_at_test_time(trained):
    """The dial of the config README, through the stock runner's test loop."""
    cfg, checkpoint = trained
    cfg = cfg.copy()
    cfg.work_dir += '/test'
    cfg.load_from = checkpoint
    cfg.merge_from_dict(dict(model=dict(test_cfg=dict(rcnn=dict(refinement_steps=1)))))
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    assert set(metrics) >= {'coco/bbox_mAP', 'coco/bbox_mAP_50'}
    assert runner.model.roi_head.benchmark_info()['equilibrium_layer_applications'] == 2


def test_inferencer_draws_and_agrees_with_the_low_level_path(trained, tmp_path):
    cfg, checkpoint = trained
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k, shape in enumerate([(60, 90, 3), (100, 50, 3)]):
        cv2.imwrite(str(folder / f'{k}.jpg'), rng.integers(0, 256, shape, dtype=np.uint8))
    cfg.dump(tmp_path / 'config.py')
    inferencer = DetInferencer(str(tmp_path / 'config.py'), checkpoint, device='cpu', show_progress=False)
    out = inferencer(str(folder), out_dir=str(tmp_path / 'out'), no_save_pred=False, pred_score_thr=0.0)
    assert sorted(p.name for p in (tmp_path / 'out' / 'vis').iterdir()) == ['0.jpg', '1.jpg']
    assert cv2.imread(str(tmp_path / 'out' / 'vis' / '1.jpg')).shape == (100, 50, 3)
    saved = json.loads((tmp_path / 'out' / 'preds' / '0.json').read_text())
    assert saved['bboxes'] == out['predictions'][0]['bboxes']

    model = init_detector(cfg, checkpoint, device='cpu')
    for k in range(2):
        direct = inference_detector(model, str(folder / f'{k}.jpg')).pred_instances
        torch.testing.assert_close(torch.tensor(out['predictions'][k]['bboxes']), direct.bboxes, rtol=1e-4, atol=1e-2)


def test_unreadable_image_for_the_inferencer(trained, tmp_path):
    cfg, checkpoint = trained
    (tmp_path / 'broken.jpg').write_bytes(b'no picture')
    model = init_detector(cfg, checkpoint, device='cpu')
    with pytest.raises(AssertionError, match='failed to load image.*broken'):
        inference_detector(model, str(tmp_path / 'broken.jpg'))


def test_hook_on_a_model_without_equilibrium(trained):
    from mvbench_plugins.deqdet import EquilibriumResidualHook

    class Other:
        model = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match='EquilibriumResidualHook needs a DEQDetRoIHead.*custom_hooks'):
        EquilibriumResidualHook().before_val_epoch(Other())

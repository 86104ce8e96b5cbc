"""Pictures of a test run by the stock runner: the same as the inferencer draws."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from multiview_world import SCENE, ToyTables, oracle_config

from mvbench_plugins.apis import MultiViewDet3DInferencer

pytestmark = [pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'), pytest.mark.usefixtures('scope_3d')]
WIDTH = 96


@METRICS.register_module()
class CountSamples(BaseMetric):
    """How many samples came."""

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict:
        return dict(samples=len(results))


def run(root: Path, work_dir: Path, **options) -> Runner:
    """Tests the oracle, with these options of the hook."""
    cfg = oracle_config(root)
    cfg.test_dataloader.dataset.pipeline[-1].meta_keys += ('sample_idx',)
    cfg.test_dataloader.update(
        batch_size=3,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            test_cfg=dict(type='TestLoop'),
            test_evaluator=dict(type='mmengine.CountSamples'),
            custom_imports=dict(imports=['mvbench_plugins.apis.multiview_hook'], allow_failed_imports=False),
            default_hooks=dict(
                visualization=dict(type='MultiViewVisualizationHook', draw=True, view_width=WIDTH, **options)
            ),
        )
    )
    runner = Runner.from_cfg(Config.fromstring(cfg.pretty_text, '.py'))
    assert runner.test()['samples'] == 8
    return runner


def test_pictures_are_those_of_the_inferencer(toy_multiview, tmp_path):
    runner = run(toy_multiview, tmp_path / 'work', test_out_dir='out', score_thr=0.2)
    tokens = ToyTables(toy_multiview).tokens() + ToyTables(toy_multiview).tokens('scene-0093')
    found = sorted(Path(runner.work_dir, runner.timestamp, 'out').iterdir())
    assert [path.name for path in found] == [f'{number:06d}_{token}.jpg' for number, token in enumerate(tokens)]
    inferencer = MultiViewDet3DInferencer(oracle_config(toy_multiview), device='cpu', show_progress=False)
    expected = inferencer(SCENE, return_vis=True, view_width=WIDTH, draw_gt=True)['visualization']
    for path, picture in zip(found, expected, strict=False):
        assert np.abs(cv2.imread(str(path)).astype(int) - picture).mean() < 4  # JPEG


def test_pictures_go_to_the_visualizer(toy_multiview, tmp_path):
    runner = run(toy_multiview, tmp_path / 'work')
    found = list(Path(runner.work_dir, runner.timestamp, 'vis_data').glob('**/test_*.png'))
    assert len(found) == 8
    assert cv2.imread(str(found[0])).shape == (2 * 54, 3 * WIDTH + 2 * 54, 3)

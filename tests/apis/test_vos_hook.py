"""Pictures of tests and validations run by the stock runner: the same as the inferencer draws."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from vos_world import HEIGHT, WIDTH, follower_config, index_map, write_frames, write_mask

from mvbench_plugins.apis import VOSInferencer

pytestmark = [pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'), pytest.mark.usefixtures('scope_det')]
VIDEOS = ('bear', 'swan')
COUNT = 4


@METRICS.register_module()
class CountFrames(BaseMetric):
    """How many frames came."""

    default_prefix = 'all'
    count = 0

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.count += len(data_samples)

    def compute_metrics(self, results: list) -> dict:
        return dict(frames=self.count)


@pytest.fixture
def davis(tmp_path) -> Path:
    """Two videos of four frames, with a palette of their own."""
    for video in VIDEOS:
        write_frames(tmp_path / 'davis' / 'JPEGImages' / video, COUNT)
        write_mask(tmp_path / 'davis' / 'Annotations' / video / '05.png', index_map(0))
    return tmp_path / 'davis'


def make_runner(davis: Path, **options: object) -> Runner:
    """A runner of the follower, with these options of the hook."""
    dataset = dict(
        type='VOSDataset',
        data_root=str(davis),
        test_mode=True,
        pipeline=[
            dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')]),
            dict(type='PackVOSInputs'),
        ],
    )
    loader = dict(
        batch_size=1, num_workers=0, sampler=dict(type='TrackImgSampler'), dataset=dataset, persistent_workers=False
    )
    cfg = follower_config()
    cfg.merge_from_dict(
        dict(
            work_dir=str(davis.parent / 'work'),
            test_dataloader=loader,
            val_dataloader=loader,
            test_cfg=dict(type='TestLoop'),
            val_cfg=dict(type='ValLoop'),
            test_evaluator=dict(type='mmengine.CountFrames'),
            val_evaluator=dict(type='mmengine.CountFrames'),
            custom_imports=dict(
                imports=['mvbench_plugins.datasets.vos', 'mvbench_plugins.apis.vos_hook'], allow_failed_imports=False
            ),
            visualizer=dict(type='mmengine.Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            default_hooks=dict(visualization=dict(type='VOSVisualizationHook', draw=True, **options)),
        )
    )
    return Runner.from_cfg(Config.fromstring(cfg.pretty_text, '.py'))  # which imports what is to be registered


def test_pictures_of_a_test_are_those_of_the_inferencer(davis, tmp_path):
    runner = make_runner(davis, test_out_dir='pictures')
    assert runner.test()['all/frames'] == COUNT * len(VIDEOS)
    folder = Path(runner.work_dir, runner.timestamp, 'pictures')
    assert sorted(path.name for path in folder.iterdir()) == sorted(VIDEOS)
    inferencer = VOSInferencer(follower_config(), device='cpu', show_progress=False)
    for video in VIDEOS:
        first = davis / 'Annotations' / video / '05.png'
        inferencer(davis / 'JPEGImages' / video, first, out_dir=tmp_path / video, save=['frames'])
        names = sorted(path.name for path in (folder / video).iterdir())
        assert names == ['05.jpg', '10.jpg', '15.jpg', '20.jpg']
        for name in names:
            ours, theirs = (cv2.imread(str(root / name)) for root in (folder / video, tmp_path / video / 'frames'))
            assert ours.shape == (8 * HEIGHT, 8 * WIDTH, 3)
            assert np.abs(ours.astype(int) - theirs).mean() < 0.2
    assert np.abs(cv2.imread(str(folder / VIDEOS[0] / '05.jpg')).astype(int) - ours).mean() > 0.8  # another frame


def test_pictures_go_to_the_visualizer_at_intervals_of_a_validation(davis):
    runner = make_runner(davis, frame_interval=3)
    assert runner.val()['all/frames'] == COUNT * len(VIDEOS)
    found = sorted(Path(runner.work_dir, runner.timestamp, 'vis_data').glob('**/val_*.png'))
    assert [int(path.stem.rsplit('_', 1)[1]) for path in found] == [2, 5]
    assert cv2.imread(str(found[0])).shape == (8 * HEIGHT, 8 * WIDTH, 3)


def test_pictures_are_shown(davis, monkeypatch):
    shown = []
    monkeypatch.setattr('mmcv.imshow', lambda picture, name, wait: shown.append((picture.shape, wait)))
    runner = make_runner(davis, show=True, wait_time=1.5)
    runner.test()
    assert shown == [((8 * HEIGHT, 8 * WIDTH, 3), 1500)] * (COUNT * len(VIDEOS))
    assert not list(Path(runner.work_dir).glob('**/*.png'))

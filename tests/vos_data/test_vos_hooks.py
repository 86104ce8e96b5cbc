"""The curriculum in real trainings: in running workers, in the tail, and when training goes on after a stop."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mvbench_plugins.jointformer.hooks import VOSCurriculumHook

LENGTH = 40


class KeepFrames(BaseModel):
    """Keeps which frames of the video each batch has, and whether its images were filled in from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.jumps: list[int] = []
        self.tilted: list[bool] = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        first, second = (sample.frame_id for sample in data_samples[0].video_data_samples)
        self.jumps.append(abs(second - first))
        # Frames are dark; a tilted one has the fill colour in a corner.
        corners = inputs['img'][0][:, 1][:, [0, 0, -1, -1], [0, -1, 0, -1]]
        self.tilted.append(bool((corners > 90).any()))
        return dict(loss=self.weight.sum())


@pytest.fixture
def train(write_video, tmp_path):
    """``train(hook, max_iters, workers)`` trains on one video and returns the model."""
    write_video('v', [(1,)] * LENGTH)
    pipeline = [
        dict(type='VOSClipSample', num_frames=2, max_jump=1),
        dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask'), darken]),
        dict(type='TransformBroadcaster', transforms=[dict(type='RandomVOSAffine', degrees=40)]),
        dict(type='SelectVOSObjects'),
        dict(type='PackVOSInputs'),
    ]
    dataset = dict(type='VOSDataset', data_root=str(tmp_path), pipeline=pipeline)
    mixture = dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=dataset)])

    def run(hook: dict | None, max_iters: int, workers: int = 0, resume: bool = False) -> KeepFrames:
        runner = Runner(
            KeepFrames(),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=dict(
                batch_size=1,
                num_workers=workers,
                persistent_workers=workers > 0,
                sampler=dict(type='InfiniteSampler'),
                dataset=mixture,
                **(dict(prefetch_factor=1) if workers else {}),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000, by_epoch=False), logger=None),
            custom_hooks=[dict(type='VOSCurriculumHook', **hook)] if hook is not None else [],
            default_scope='mmdet',
            experiment_name=f'curriculum_{tmp_path.name}_{max_iters}_{workers}',
            randomness=dict(seed=0),
            log_level='WARNING',
            resume=resume,
        )
        runner.train()
        return runner.model

    return run


def darken(results: dict) -> dict:
    results['img'] = results['img'] // 4
    return results


HOOK = dict(iterations=20, max_jumps=((0.0, 1), (0.5, 30)), tail_max_jump=2)


@pytest.mark.parametrize('workers', [0, 1])
def test_jumps_and_affine_maps_change_while_training_runs(train, workers):
    model = train(HOOK, max_iters=32, workers=workers)
    late = 2 * workers  # batches that the worker has prepared before the change
    assert len(model.jumps) == 32
    assert set(model.jumps[:10]) == {1}
    assert max(model.jumps[10 + late : 20]) > 10
    assert set(model.jumps[20 + late :]) == {1, 2}
    assert all(model.tilted[:20]) and not any(model.tilted[20 + late :])


def test_training_that_goes_on_has_the_values_of_its_iteration(train):
    train(HOOK, max_iters=20)
    model = train(HOOK, max_iters=30, resume=True)
    assert len(model.jumps) == 10 and set(model.jumps) == {1, 2} and not any(model.tilted)


@pytest.mark.parametrize(
    'iteration, expected',
    [
        (0, (5, True)),
        (14999, (5, True)),
        (15000, (10, True)),
        (45000, (15, True)),
        (134999, (15, True)),
        (135000, (5, True)),
        (150000, (5, False)),
    ],
)
def test_published_schedule(iteration, expected):
    assert VOSCurriculumHook(iterations=150000).settings_at(iteration, 160000) == expected


def test_without_iterations_there_is_no_tail():
    hook = HOOKS.build(dict(type='VOSCurriculumHook', max_jumps=[(0, 5), (0.8, 7)]))
    assert hook.settings_at(99, 100) == (7, True)


@pytest.mark.parametrize('max_jumps', [[], [(0.1, 5)], [(0, 5), (0.5, 10), (0.3, 15)], [(0, 5), (1.5, 10)]])
def test_wrong_schedules(max_jumps):
    with pytest.raises(ValueError, match='rising fractions from 0'):
        VOSCurriculumHook(max_jumps=max_jumps)


def test_main_part_longer_than_the_training(train):
    with pytest.raises(ValueError, match=r'iterations=20 is more than max_iters=15'):
        train(HOOK, max_iters=15)


def test_training_data_without_clips(train, monkeypatch):
    monkeypatch.setattr('mvbench_plugins.jointformer.hooks.VOSClipSample', VOSCurriculumHook)
    with pytest.raises(ValueError, match='have no VOSClipSample'):
        train(HOOK, max_iters=50)

"""Clips: which frames are drawn from a video, how often, and when a clip is drawn again."""

from __future__ import annotations

import numpy as np
import pytest
from mmdet.registry import DATASETS, TRANSFORMS

from mvbench_plugins.datasets.vos.clip_sample import draw_clip

LOAD = dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')])


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def video(length: int) -> dict:
    images = [dict(frame_id=number) for number in range(length)]
    return dict(video_id=3, video_name='v', video_length=length, images=images)


def sample(length: int, **options) -> list[int]:
    clip = TRANSFORMS.build(dict(type='VOSClipSample', **options))(video(length))
    assert clip['video_id'] == [3] * len(clip['frame_id']) and set(clip['ori_video_length']) == {length}
    return clip['frame_id']


@pytest.mark.parametrize('max_jump', [1, 3, 15])
def test_frames_lie_in_the_union_of_the_windows(max_jump):
    gaps = []
    for _ in range(200):
        clip = draw_clip(60, 4, max_jump)
        assert clip == sorted(set(clip)) and 0 <= clip[0] and clip[-1] < 60
        gaps += np.diff(clip).tolist()
    assert max(gaps) == max_jump and min(gaps) == 1


def test_windows_grow_with_the_frames_drawn():
    """A clip of four may span three jumps: windows are laid around all frames, not the first one only."""
    spans = [clip[-1] - clip[0] for clip in (draw_clip(60, 4, 3) for _ in range(500))]
    assert max(spans) == 9


def test_all_starts_are_drawn_and_a_whole_video_can_be():
    assert {draw_clip(5, 1, 1)[0] for _ in range(200)} == set(range(5))
    assert draw_clip(4, 4, 1) == [0, 1, 2, 3]
    assert all(7 in draw_clip(20, 3, 2, first=7) for _ in range(20))


def test_half_of_the_clips_run_backwards():
    clips = [sample(30, num_frames=3) for _ in range(400)]
    backwards = sum(clip == sorted(clip, reverse=True) for clip in clips)
    assert all(clip in (sorted(clip), sorted(clip, reverse=True)) for clip in clips) and 150 < backwards < 250


@pytest.mark.parametrize('max_jump, divisor, expected', [(5, 5, 1), (15, 5, 3), (3, 5, 1), (15, 1, 15)])
def test_jump_is_divided_rounded_down_and_at_least_1(max_jump, divisor, expected):
    sampler = dict(num_frames=2, max_jump=max_jump, jump_divisor=divisor)
    jumps = [abs(np.diff(sample(60, **sampler))[0]) for _ in range(300)]
    assert max(jumps) == expected


def test_short_video_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r'v: 3 frames with masks, a clip has num_frames=4. Set min_frames=4'):
        sample(3, num_frames=4)
    with pytest.raises(ValueError, match='must be at least 1, found 0, 5, 1'):
        TRANSFORMS.build(dict(type='VOSClipSample', num_frames=0))


def clips(root, steps: list, **options):
    """A training set with this pipeline, and the list of frames of every clip that it tried."""
    tried = []

    def watch(results):
        tried.append(results['frame_name'])
        return results

    pipeline = [dict(type='VOSClipSample', num_frames=2, max_jump=2), watch, LOAD, *steps]
    return DATASETS.build(dict(type='VOSDataset', data_root=str(root), pipeline=pipeline, **options)), tried


def test_clip_without_an_object_is_drawn_again(write_video, tmp_path):
    write_video('v', [()] * 4 + [(1,)] * 2)
    dataset, tried = clips(tmp_path, [dict(type='SelectVOSObjects'), dict(type='PackVOSInputs')], max_tries=60)
    for _ in range(10):
        packed = dataset[0]
        assert packed['data_samples'][0].gt_sem_seg.sem_seg.max() == 1, 'the first frame shows the object'
    assert len(tried) > 15, 'most frames are empty'


def test_last_try_is_taken_as_it_is(write_video, tmp_path):
    write_video('v', [()] * 4)
    dataset, tried = clips(tmp_path, [dict(type='SelectVOSObjects'), dict(type='PackVOSInputs')], max_tries=7)
    clip = dataset[0]['data_samples']
    assert len(tried) == 7 and clip.num_objects == 1
    assert not any(frame.gt_sem_seg.sem_seg.any() for frame in clip.video_data_samples)


def test_vost_tries_twenty_times(write_video, tmp_path):
    write_video('v', [()] * 4)
    clips = DATASETS.build(dict(type='VOSTDataset', data_root=str(tmp_path), ann_file='', pipeline=[lambda _: None]))
    assert clips.max_tries == 20


def test_key_frame_of_the_stock_sampler_is_in_the_clip(write_video, tmp_path):
    write_video('v', [(1,)] * 9)
    dataset, tried = clips(tmp_path, [dict(type='SelectVOSObjects')])
    for frame in range(9):
        dataset[0, frame]
        assert f'0000{frame}' in tried[-1]


def test_static_image_is_repeated():
    clip = TRANSFORMS.build(dict(type='RepeatStaticImage', num_frames=3))(video(1))
    assert clip['frame_id'] == [0, 0, 0] and clip['last_try'] == [True] * 3

"""Training sets: which frames of which videos they take, still images, and mixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from PIL import Image


def training_set(root: Path, kind: str = 'VOSDataset', **options):
    return DATASETS.build(dict(type=kind, data_root=str(root), pipeline=[]) | options)


def test_training_takes_frames_with_masks_of_videos_that_are_long_enough(write_video, tmp_path):
    write_video('long', [(1,), None, (1,), (), (2,)])
    write_video('short', [(1,), (1,), None, None, None])
    dataset = training_set(tmp_path, min_frames=4)
    assert [video['video_name'] for video in dataset] == ['long']
    assert [image['frame_name'] for image in dataset[0]['images']] == ['00000', '00002', '00003', '00004']
    assert dataset[0]['video_length'] == 4


def test_no_video_is_long_enough(write_video, tmp_path):
    write_video('short', [(1,), (1,)])
    with pytest.raises(ValueError, match=r'none of the 1 videos has 4 frames with masks \(min_frames\): short'):
        training_set(tmp_path, min_frames=4)


@pytest.mark.parametrize('separate', [False, True])
def test_static_images_are_found_with_masks_beside_or_apart(tmp_path, separate):
    for name in ('ant/1', 'ant/2', 'bee/1'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 6)).save(path.with_suffix('.jpg'))
        mask = tmp_path / ('masks' if separate else 'images') / name
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (8, 6), 255).save(mask.with_suffix('.png'))
    prefix = dict(img='images', mask='masks' if separate else 'images')
    dataset = training_set(tmp_path, 'StaticVOSDataset', data_prefix=prefix)
    assert len(dataset) == 3 and dataset[2]['images'][0]['img_path'] == str(tmp_path / 'images/bee/1.jpg')
    mask.with_suffix('.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'2 images with masks, 1 without: bee/1.jpg'):
        training_set(tmp_path, 'StaticVOSDataset', data_prefix=prefix)


def test_mixture_repeats_a_set(write_video, tmp_path):
    write_video('v', [(1,)] * 4)
    base = dict(data_root=str(tmp_path), pipeline=[], data_prefix=dict(img='JPEGImages', mask='Annotations'))
    mixture = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[
                dict(type='RepeatDataset', times=5, dataset=dict(type='VISORDataset', ann_file='', **base)),
                dict(type='YouTubeVOSDataset', split='train', **base),
            ],
        )
    )
    assert len(mixture) == 6 and mixture[5]['video_name'] == 'v'

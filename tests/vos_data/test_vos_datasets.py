"""Streams: which frames of which layout are in them, what is given, handed in and scored, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets.samplers import TrackImgSampler
from PIL import Image

from mvbench_plugins.datasets.vos import object_labels, video_dataset


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_json(path: Path, objects: dict[str, dict]) -> None:
    write(path, json.dumps({'videos': {video: {'objects': entry} for video, entry in objects.items()}}))


def stream(dataset, video: int = 0) -> list:
    """The ``DetDataSample`` of each frame, in the order of the sampler."""
    items = [dataset[index] for index in TrackImgSampler(dataset, seed=0) if index[0] == video]
    assert all(len(item['data_samples']) == 1 for item in items)
    return [item['data_samples'][0] for item in items]


def told(frames: list, key: str) -> list:
    return [frame.metainfo[key] for frame in frames]


def given(frames: list) -> list[list[int] | None]:
    """Labels that the model is given on each frame."""
    return [object_labels(frame.gt_sem_seg.sem_seg.numpy()) if 'gt_sem_seg' in frame else None for frame in frames]


# ---------------------------------------------------------------------------------------------------- the layouts


def test_davis_gives_the_first_mask_and_scores_all_frames(write_video, build_test_set, tmp_path):
    folders = dict(img='JPEGImages/480p', mask='Annotations/480p')
    write_video('bear', [(1, 2)] * 3, **folders)
    write_video('camel', [(3,)] * 2, **folders)
    write_video('elsewhere', [(1,)] * 2, **folders)
    write(tmp_path / 'ImageSets/2017/val.txt', 'camel\n\nbear\n')
    dataset = build_test_set('DAVISDataset')
    assert len(dataset) == 2 and len(TrackImgSampler(dataset)) == 5
    frames = stream(dataset, video=1)
    assert given(frames) == [[1, 2], None, None]
    assert told(frames, 'annotated') == [True, False, False]
    assert told(frames, 'given_labels') == [(1, 2), None, None]
    assert told(frames, 'save') == [True] * 3
    assert told(frames, 'frame_id') == [0, 1, 2]
    assert told(frames, 'video_length') == [3] * 3
    assert told(frames, 'frame_name') == ['00000', '00001', '00002']
    assert set(told(frames, 'video_name')) == {'bear'} and set(told(frames, 'video_id')) == {1}
    masks = tmp_path / 'Annotations/480p/bear'
    assert told(frames, 'gt_mask_path') == [str(masks / f'0000{number}.png') for number in range(3)]
    assert told(frames, 'palette_path') == [str(masks / '00000.png')] * 3
    assert told(frames, 'ori_shape') == told(frames, 'img_shape') == [(24, 40)] * 3


def test_frames_are_rgb_of_their_own_size(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)] * 10)
    item = build_test_set('VOSDataset')[0, 9]
    image = item['inputs']['img']
    assert image.shape == (1, 3, 24, 40) and str(image.dtype) == 'torch.uint8'
    assert np.allclose(image[0].float().mean(dim=(1, 2)), [45, 100, 200], atol=4)


def test_davis_test_dev_has_ground_truth_only_where_masks_are(write_video, build_test_set, tmp_path):
    write_video('bear', [(1,), None, None], img='JPEGImages/480p', mask='Annotations/480p')
    write(tmp_path / 'ImageSets/2017/test-dev.txt', 'bear')
    truth = told(stream(build_test_set('DAVISDataset', split='test-dev')), 'gt_mask_path')
    assert truth == [str(tmp_path / 'Annotations/480p/bear/00000.png'), None, None]


@pytest.mark.parametrize('name', ['2016', '480p'])
def test_davis_2016_lists_of_both_releases(write_video, build_test_set, tmp_path, name):
    for video in ('bear', 'camel'):
        write_video(video, [(255,)] * 2, img='JPEGImages/480p', mask='Annotations/480p')
    pairs = [f'/JPEGImages/480p/camel/0000{n}.jpg /Annotations/480p/camel/0000{n}.png' for n in range(2)]
    write(tmp_path / f'ImageSets/{name}/val.txt', 'camel\n' if name == '2016' else '\n'.join(pairs))
    dataset = build_test_set('DAVISDataset', year=2016)
    assert len(dataset) == 1
    frames = stream(dataset)
    assert told(frames, 'video_name') == ['camel'] * 2 and given(frames) == [[255], None]


def test_youtube_vos_runs_on_all_frames_and_hands_in_the_listed_ones(write_video, build_test_set, tmp_path):
    every = [f'{number:05d}' for number in range(10)]
    masks = [None, None, (1,), None, None, (4,), None, None, None, None]
    write_video('v', masks, img='valid_all_frames/JPEGImages', mask='valid/Annotations', stems=every)
    objects = {
        '1': dict(category='cat', frames=['00002', '00005']),
        '4': dict(category='dog', frames=['00005', '00008']),
    }
    write_json(tmp_path / 'valid/meta.json', {'v': objects})
    frames = stream(build_test_set('YouTubeVOSDataset'))
    assert told(frames, 'frame_name') == every[2:], 'frames before the first mask are skipped'
    assert told(frames, 'frame_id') == list(range(8)) and told(frames, 'video_length') == [8] * 8
    assert given(frames) == [[1], None, None, [4], None, None, None, None]
    assert [frame.frame_name for frame in frames if frame.save] == ['00002', '00005', '00008']
    assert set(told(frames, 'gt_mask_path')) == {None}, 'masks of given objects are no ground truth'

    write_video('v', [None, (1,), (4,)], img='valid/JPEGImages', stems=['00000', '00002', '00005'])
    assert told(stream(build_test_set('YouTubeVOSDataset', all_frames=False)), 'frame_name') == ['00002', '00005']


def test_ground_truth_in_a_folder_of_its_own(write_video, build_test_set, tmp_path):
    write_video('v', [(1,), None], img='img', mask='given')
    write_video('v', [(1,), (1, 2)], img='img', mask='truth')
    prefix = dict(img='img', mask='given', gt='truth')
    frames = stream(build_test_set('VOSDataset', data_prefix=prefix, annotations='all'))
    assert told(frames, 'annotated') == [True, False]
    assert told(frames, 'gt_mask_path') == [str(tmp_path / f'truth/v/0000{number}.png') for number in range(2)]


def test_mose_takes_all_videos_of_a_split(write_video, build_test_set):
    for video in ('y', 'x'):
        write_video(video, [(1, 2), None], img='valid/JPEGImages', mask='valid/Annotations')
    dataset = build_test_set('MOSEDataset')
    assert [stream(dataset, video)[0].video_name for video in range(2)] == ['x', 'y']
    assert told(stream(dataset), 'save') == [True, True]


def test_lvos_gives_each_object_once_and_hands_in_every_fifth_frame(write_video, build_test_set, tmp_path):
    stems = [f'{number:08d}' for number in range(1, 14)]
    masks = [(1,)] * 3 + [(1, 2)] * 4 + [(2,)] * 3 + [(1, 2, 3)] * 3
    write_video('long', masks, img='val/JPEGImages', mask='val/Annotations', stems=stems)
    ranges = {'1': ('00000001', '00000013'), '2': ('00000004', '00000013'), '3': ('00000011', '00000013')}
    objects = {label: dict(frame_range=dict(start=start, end=end)) for label, (start, end) in ranges.items()}
    write_json(tmp_path / 'val/val_meta.json', {'long': objects})
    frames = stream(build_test_set('LVOSDataset'))
    assert given(frames) == [[1], *[None] * 2, [2], *[None] * 6, [3], None, None]
    assert [frame.frame_name for frame in frames if frame.save] == ['00000001', '00000006', '00000011']
    assert None not in told(frames, 'gt_mask_path')


def test_first_appearances_are_found_without_meta_and_with_255(write_video, build_test_set):
    write_video('v', [(1, 255), (255,), (1, 2, 255)])
    frames = stream(build_test_set('VOSDataset', annotations='first_appearance'))
    assert given(frames) == [[1], None, [2]] and told(frames, 'given_labels') == [(1,), None, (2,)]
    assert (frames[2].gt_sem_seg.sem_seg == 255).any(), 'not annotated pixels stay marked'


@pytest.mark.parametrize(
    'kind, list_file, folders',
    [
        ('VOSTDataset', 'ImageSets/val.txt', dict()),
        ('VISORDataset', 'ImageSets/2022/val.txt', dict(img='JPEGImages/480p', mask='Annotations/480p')),
    ],
)
def test_sets_with_lists_give_the_first_mask(write_video, build_test_set, tmp_path, kind, list_file, folders):
    write_video('P01_1', [(1, 2), (1, 2, 3)], **folders)
    write(tmp_path / list_file, 'P01_1\n')
    frames = stream(build_test_set(kind))
    assert given(frames) == [[1, 2], None] and told(frames, 'save') == [True, True]


def test_burst_hands_in_annotated_frames(write_video, build_test_set):
    write_video('HACS_-_x', [(1,), None, (1, 2), None], img='val/JPEGImages', mask='val/Annotations')
    frames = stream(build_test_set('BURSTDataset'))
    assert given(frames) == [[1], None, [2], None] and told(frames, 'save') == [True, False, True, False]


def test_stream_starts_at_the_first_mask_with_an_object(write_video, build_test_set):
    write_video('v', [(), (), (7,), (7, 8)])
    frames = stream(build_test_set('VOSDataset'))
    assert told(frames, 'frame_name') == ['00002', '00003'] and given(frames) == [[7], None]


def test_all_masks_may_repeat_objects_and_255_is_none(write_video, build_test_set):
    write_video('v', [(), (1,), (1, 2), (), (255,), (2, 255)])
    frames = stream(build_test_set('VOSDataset', annotations='all'))
    assert told(frames, 'frame_name') == ['00001', '00002', '00003', '00004', '00005']
    assert told(frames, 'given_labels') == [(1,), (1, 2), (), (), (2,)] and all(told(frames, 'annotated'))


# ---------------------------------------------------------------------------------------------------- bad input


def test_missing_list(build_test_set, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'ImageSets/2017/val.txt: no such file; check data_root'):
        build_test_set('DAVISDataset')


@pytest.mark.parametrize(
    'text, message',
    [('\n \n', 'names no video'), ('a\nsub/b\n', r"line 2: found 'sub/b', expected the name"), ('..', 'line 1: found')],
)
def test_faulty_lists(write_video, build_test_set, tmp_path, text, message):
    write_video('a', [(1,)])
    write(tmp_path / 'list.txt', text)
    with pytest.raises(ValueError, match=f'list.txt.*{message}'):
        build_test_set('VOSDataset', ann_file='list.txt')


@pytest.mark.parametrize('text', ['{', '[]', '{"videos": {"a": {}}}', '{"videos": {"a": {"objects": {"cat": {}}}}}'])
def test_faulty_meta(write_video, build_test_set, tmp_path, text):
    write_video('a', [(1,)])
    write(tmp_path / 'meta.json', text)
    with pytest.raises(ValueError, match=r'meta.json: .*take the file of the release'):
        build_test_set('VOSDataset', ann_file='meta.json')


@pytest.mark.parametrize('kind, hint', [('YouTubeVOSDataset', 'frames'), ('LVOSDataset', 'frame_range')])
def test_meta_of_another_set(write_video, build_test_set, tmp_path, kind, hint):
    write_video('a', [(1,)])
    write_json(tmp_path / 'meta.json', {'a': {'1': dict(category='cat')}})
    prefix = dict(img='JPEGImages', mask='Annotations')
    with pytest.raises(ValueError, match=f'meta.json: .*{hint}'):
        build_test_set(kind, ann_file='meta.json', data_prefix=prefix)


def test_nothing_to_hand_in(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)] * 3)
    write_json(tmp_path / 'meta.json', {'a': {'1': dict(frames=['000', '001'])}})
    prefix = dict(img='JPEGImages', mask='Annotations')
    with pytest.raises(ValueError, match=r'a: none of its 3 frames \(00000, 00001, 00002\) .* \(000, 001\)'):
        build_test_set('YouTubeVOSDataset', ann_file='meta.json', data_prefix=prefix)


def test_missing_frames_to_hand_in_are_warned_of(write_video, build_test_set, tmp_path, monkeypatch):
    write_video('a', [(1,)] * 3)
    write_json(tmp_path / 'meta.json', {'a': {'1': dict(frames=['00000', '00002', '00004'])}})
    prefix = dict(img='JPEGImages', mask='Annotations')
    warnings = []
    monkeypatch.setattr(video_dataset, 'print_log', lambda text, logger, level: warnings.append((text, level)))
    frames = stream(build_test_set('YouTubeVOSDataset', ann_file='meta.json', data_prefix=prefix))
    assert told(frames, 'save') == [True, False, True]
    ((text, level),) = warnings
    assert 'a: 1 of 3 frames' in text and 'are not there: 00004' in text and level == logging.WARNING


def test_missing_videos_are_named(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    write(tmp_path / 'list.txt', 'a\nb\nc\n')
    with pytest.raises(FileNotFoundError, match=r'JPEGImages: no folder of 2 of the 3 videos of .*list.txt: b, c'):
        build_test_set('VOSDataset', ann_file='list.txt')


def test_no_folder_and_no_video(build_test_set, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'JPEGImages: no such folder'):
        build_test_set('VOSDataset')
    (tmp_path / 'JPEGImages').mkdir()
    with pytest.raises(FileNotFoundError, match=r'JPEGImages: no video in it'):
        build_test_set('VOSDataset')


@pytest.mark.parametrize('masks', [[None, None], [(), ()]])
def test_video_without_a_given_object(write_video, build_test_set, masks):
    write_video('a', masks)
    with pytest.raises(FileNotFoundError, match=r'Annotations/a: no mask that holds an object'):
        build_test_set('VOSDataset')


def test_masks_named_unlike_frames(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    mask = tmp_path / 'Annotations/a/00000.png'
    mask.rename(mask.with_name('a_0.png'))
    with pytest.raises(ValueError, match=r'Annotations/a: 1 of 1 masks have no frame of the same name .*a_0.png'):
        build_test_set('VOSDataset')


def test_two_files_of_one_frame(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    Image.new('RGB', (4, 4)).save(tmp_path / 'JPEGImages/a/00000.png')
    with pytest.raises(ValueError, match='00000.jpg and 00000.png are the same frame'):
        build_test_set('VOSDataset')


def test_hidden_files_are_no_frames(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    (tmp_path / 'JPEGImages/a/._00000.jpg').write_bytes(b'x')
    (tmp_path / 'JPEGImages/.cache').mkdir()
    assert len(stream(build_test_set('VOSDataset'))) == 1


def test_numbers_without_leading_zeros_keep_the_order_of_time(write_video, build_test_set):
    write_video('a', [(1,), (1,), (1,)], stems=['5', '10', '15'])
    assert told(stream(build_test_set('VOSDataset')), 'frame_name') == ['5', '10', '15']


def test_mask_of_another_size(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    Image.fromarray(np.ones((12, 20), np.uint8)).save(tmp_path / 'Annotations/a/00000.png')
    with pytest.raises(ValueError, match=r'00000.png: the mask has 12 x 20 .* its frame .*00000.jpg 24 x 40'):
        build_test_set('VOSDataset')[0, 0]


def test_given_masks_are_checked_before_the_test_begins(write_video, build_test_set, tmp_path):
    write_video('a', [(1,)])
    write_video('b', [(1,), (1, 2)])
    mask, frame = tmp_path / 'Annotations/b/00001.png', tmp_path / 'JPEGImages/b/00001.jpg'
    frame.write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'b/00001.jpg: the frame cannot be read'):
        build_test_set('VOSDataset', annotations='first_appearance')
    Image.fromarray(np.full((12, 20), 2, np.uint8)).save(mask)
    Image.new('RGB', (40, 24)).save(frame)
    for mode in ('all', 'first_appearance'):
        with pytest.raises(ValueError, match=r'b/00001.png: the mask has 12 x 20 .* 24 x 40'):
            build_test_set('VOSDataset', annotations=mode)
    mask.write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'b/00001.png: the mask cannot be read'):
        build_test_set('VOSDataset', annotations='all')
    assert len(build_test_set('VOSDataset')) == 2, 'only the first mask is needed'


@pytest.mark.parametrize('annotations', ['first', 'all', 'first_appearance'])
def test_more_objects_than_the_meta_file_states(write_video, build_test_set, tmp_path, annotations):
    write_video('a', [(1, 3), (1, 3, 4)])
    write_json(tmp_path / 'meta.json', {'a': {'1': {}, '2': {}}})
    with pytest.raises(ValueError, match=r'a/00000.png: found the objects \[1, 3\], but .*meta.json states \[1, 2\]'):
        build_test_set('VOSDataset', ann_file='meta.json', annotations=annotations)
    write_json(tmp_path / 'meta.json', {'a': {'1': {}, '3': {}}})
    if annotations == 'all':  # in the others nobody gives object 4
        with pytest.raises(ValueError, match=r'a/00001.png: found the objects \[1, 3, 4\], but .* states \[1, 3\]'):
            build_test_set('VOSDataset', ann_file='meta.json', annotations=annotations)
    else:
        assert given(stream(build_test_set('VOSDataset', ann_file='meta.json', annotations=annotations)))[1] is None


def test_davis_2016_with_the_masks_of_2017(write_video, build_test_set, tmp_path):
    write_video('bmx', [(1, 2)] * 2, img='JPEGImages/480p', mask='Annotations/480p')
    for year in (2016, 2017):
        write(tmp_path / f'ImageSets/{year}/val.txt', 'bmx\n')
    with pytest.raises(ValueError, match=r'bmx/00000.png: found the objects \[1, 2\], expected the binary masks'):
        build_test_set('DAVISDataset', year=2016)
    assert len(build_test_set('DAVISDataset')) == 1


def test_youtube_vos_without_all_frames(write_video, build_test_set, tmp_path):
    write_video('v', [(1,), None], img='valid/JPEGImages', mask='valid/Annotations')
    write_json(tmp_path / 'valid/meta.json', {'v': {'1': dict(frames=['00000', '00001'])}})
    with pytest.raises(FileNotFoundError, match=r'valid_all_frames/JPEGImages: no such folder.* set all_frames=False'):
        build_test_set('YouTubeVOSDataset')
    assert len(stream(build_test_set('YouTubeVOSDataset', all_frames=False))) == 2


def test_unreadable_frame(write_video, build_test_set, tmp_path):
    write_video('a', [(1,), None])
    path = tmp_path / 'JPEGImages/a/00001.jpg'
    dataset = build_test_set('VOSDataset')
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r'00001.jpg: the frame cannot be read'):
        dataset[0, 1]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'00001.jpg: no such frame'):
        dataset[0, 1]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(annotations='last'), 'annotations must be one of'),
        (dict(data_prefix=dict(img='JPEGImages')), 'data_prefix must be'),
        (dict(min_frames=0), 'min_frames and max_tries must be at least 1'),
    ],
)
def test_wrong_arguments(build_test_set, options, message):
    with pytest.raises(ValueError, match=message):
        build_test_set('VOSDataset', **options)

"""Video object segmentation: lists, meta files, masks, data sets and prompts survive damage, or refuse it by name."""

from __future__ import annotations

import io
import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import JUNK, answer, damaged_bytes, damaged_text, damaged_tree
from hypothesis import given, settings
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope
from PIL import Image

import mvbench_plugins.datasets.vos  # noqa: F401  registers
from mvbench_plugins.apis.vos_masks import load_mask
from mvbench_plugins.apis.vos_prompts import read_prompts
from mvbench_plugins.common.palette_png import davis_palette, read_palette, write_index_map
from mvbench_plugins.datasets.vos.index_masks import read_index_mask
from mvbench_plugins.datasets.vos.layout import read_meta, read_video_list
from mvbench_plugins.datasets.vos.loading import LoadVOSFrame

VIDEOS = ('bear', 'camel')
SIZE = 24, 32  # height, width
folders = st.from_regex(r'[\w-][\w .-]{0,8}[\w-]', fullmatch=True)


def _mask(seed: int = 0) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[2 + seed : 12 + seed, 3:14], mask[10:20, 16:30] = 1, 2
    return mask


def _png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(mask)
    picture.putpalette(davis_palette().tobytes())
    picture.save(file, 'PNG')
    return file.getvalue()


# ---------------------------------------------------------------------- lists and meta files


@given(st.lists(folders, min_size=1, max_size=5, unique=True), st.sampled_from(('', '\ufeff')))
def test_lists_of_videos_come_back(tmp_path, videos, mark):
    path = tmp_path / 'val.txt'
    path.write_text(mark + '\n'.join(videos) + '\n', encoding='utf-8')
    assert read_video_list(path) == [video.strip() for video in videos]


@given(st.dictionaries(folders, st.dictionaries(st.integers(1, 254), st.lists(st.integers(0, 99))), min_size=1))
def test_meta_files_come_back(tmp_path, drawn):
    path = tmp_path / 'meta.json'
    meta = {video: {label: {'frames': frames} for label, frames in labels.items()} for video, labels in drawn.items()}
    path.write_text(json.dumps({'videos': {video: {'objects': objects} for video, objects in meta.items()}}))
    assert read_meta(path) == meta


LIST = 'bear\ncamel\n/JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00000.png\n'


@given(st.one_of(damaged_text(LIST).map(str.encode), damaged_bytes(LIST.encode())))
def test_damaged_lists_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'val.txt'
    path.write_bytes(content)
    videos = answer(lambda: read_video_list(path), path)
    assert videos is None or not any('/' in video or '\0' in video or video in ('', '.', '..') for video in videos)


def _meta(**fields: object) -> dict:
    return {'videos': {video: {'objects': {'1': fields, '2': fields}} for video in VIDEOS}}


META = _meta(frames=['00000', '00005'], category='bear', frame_range={'start': '00000000', 'end': '00000005'})


@settings(max_examples=150)
@given(st.one_of(damaged_tree(META).map(json.dumps).map(str.encode), damaged_bytes(json.dumps(META).encode())))
def test_damaged_meta_files_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'meta.json'
    path.write_bytes(content)
    meta = answer(lambda: read_meta(path), path)
    assert meta is None or not any('/' in video or video in ('', '.', '..') for video in meta)


# ---------------------------------------------------------------------- whole data sets


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> Path:
    """Two videos of two frames that serve as DAVIS, YouTube-VOS, MOSE, LVOS and VOST, by their names of frames."""
    root = tmp_path_factory.mktemp('vos')
    for split, names in (('.', ('00000', '00005')), ('valid', ('00000', '00005')), ('val', ('00000000', '00000005'))):
        for video in VIDEOS:
            for number, name in enumerate(names):
                for kind in ('JPEGImages', 'Annotations'):
                    (root / split / kind / video).mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(
                    root / split / 'JPEGImages' / video / f'{name}.jpg'
                )
                write_index_map(root / split / 'Annotations' / video / f'{name}.png', _mask(number), davis_palette())
    return root


BENCHMARKS = {
    'DAVIS': (dict(type='DAVISDataset', data_prefix=dict(img='JPEGImages', mask='Annotations')), 'list.txt', LIST[:11]),
    'VOST': (dict(type='VOSTDataset'), 'list.txt', LIST[:11]),
    'MOSE': (dict(type='MOSEDataset'), 'list.txt', LIST[:11]),
    'YouTube-VOS': (dict(type='YouTubeVOSDataset', all_frames=False), 'meta.json', META),
    'LVOS': (dict(type='LVOSDataset'), 'meta.json', META),
}


@pytest.mark.parametrize('options, name, valid', BENCHMARKS.values(), ids=BENCHMARKS)
@settings(max_examples=25)
@given(data=st.data())
def test_data_sets_with_damaged_lists_are_built_or_refused(world, tmp_path, options, name, valid, data):
    path = tmp_path / name
    if name.endswith('.json'):
        damaged = data.draw(st.one_of(st.just(valid), damaged_tree(valid, (*JUNK, {'start': 0, 'end': 10**12}))))
        path.write_text(json.dumps(damaged), encoding='utf-8')
    else:
        damaged = data.draw(st.one_of(st.just(valid), damaged_text(valid)))
        path.write_text(damaged, encoding='utf-8')
    spec = dict(options, data_root=str(world), ann_file=str(path), test_mode=True, pipeline=[])
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = answer(lambda: DATASETS.build(spec), path)
    if dataset is None:
        assert damaged != valid
        return
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert {video['video_name'] for video in videos} <= set(VIDEOS)
    for video in videos:
        assert video['images'][0]['annotated'] and set(video['images'][0]['given_labels']) <= {1, 2}


# ---------------------------------------------------------------------- masks


@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_masks_come_back(tmp_path, data, height, width):
    labels = data.draw(st.binary(min_size=height * width, max_size=height * width))
    mask, path = np.frombuffer(labels, np.uint8).reshape(height, width), tmp_path / 'mask.png'
    write_index_map(path, mask, davis_palette())
    assert np.array_equal(read_index_mask(path), mask)
    assert np.array_equal(load_mask(path, 0, (width, height)), mask)
    assert np.array_equal(read_palette(path), davis_palette())


@settings(max_examples=300)
@given(damaged_bytes(_png(_mask())))
def test_damaged_masks_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'mask.png'
    path.write_bytes(content)
    mask = answer(lambda: read_index_mask(path), path)
    assert mask is None or (mask.dtype == np.uint8 and mask.ndim == 2)
    palette = answer(lambda: read_palette(path), path)
    assert palette is None or palette.shape == (256, 3)


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_turned_bit_of_the_labels_is_no_other_mask(tmp_path, place, bit):
    """Disks and downloads turn bits; a mask with other labels than were written must not pass."""
    valid, path = _png(_mask()), tmp_path / 'mask.png'
    start = valid.index(b'IDAT') + 4
    content = bytearray(valid)
    content[start + place % (len(valid) - 12 - start)] ^= 1 << bit
    path.write_bytes(content)
    mask = answer(lambda: read_index_mask(path), path)
    assert mask is None or np.array_equal(mask, _mask())


def _picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP'])
@settings(max_examples=100)
@given(data=st.data())
def test_damaged_frames_are_read_or_refused(tmp_path, kind, data):
    path = tmp_path / 'frame.jpg'
    path.write_bytes(data.draw(damaged_bytes(_picture(kind))))
    results = answer(lambda: LoadVOSFrame()(dict(img_path=str(path))), path)
    assert results is None or results['img'].shape == (*results['ori_shape'], 3)


def test_a_jpeg_by_the_name_of_a_png_is_no_index_mask(tmp_path):
    path = tmp_path / 'mask.png'
    Image.fromarray(_mask() * 100).save(path, 'JPEG')
    assert answer(lambda: read_index_mask(path), path) is None
    assert read_index_mask(path, brightness=True).shape == SIZE


# ---------------------------------------------------------------------- prompts

numbers = st.one_of(st.integers(-5, 40), st.floats(allow_nan=True), st.sampled_from(JUNK))
prompts = st.tuples(numbers, numbers, st.lists(numbers, max_size=5))


@settings(max_examples=300)
@given(st.lists(st.one_of(prompts, st.sampled_from(JUNK)), max_size=2), st.booleans())
def test_wrong_prompts_are_refused_in_words(drawn, boxes):
    height, width = SIZE
    try:
        found = read_prompts(drawn if boxes else [], [] if boxes else drawn, None, (width, height))
    except ValueError as error:
        assert str(error).startswith('box' if boxes else 'point')
        return
    for prompt in found:
        mask = np.zeros(SIZE, np.uint8)
        prompt.paint(mask)
        assert set(np.unique(mask)) - {0} == {prompt.label}


@given(
    st.integers(0, 99),
    st.integers(1, 254),
    st.tuples(*[st.integers(0, limit - 1) for limit in SIZE[::-1]] * 2).filter(
        lambda box: box[0] < box[2] and box[1] < box[3]
    ),
)
def test_boxes_become_their_rectangles(frame, label, box):
    (prompt,) = read_prompts([(frame, label, box)], [], None, SIZE[::-1])
    mask, expected = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    prompt.paint(mask)
    expected[box[1] : box[3], box[0] : box[2]] = label
    assert prompt.frame == frame and np.array_equal(mask, expected)

"""COCO files of DEQDet: what is written is read, and damaged files are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings
from mmengine.registry import DefaultScope

from mvbench_plugins.deqdet.dataset import CheckedCocoDataset

CLASSES = ('bolt', 'nut')
CATEGORIES = [{'id': 3, 'name': 'bolt'}, {'id': 9, 'name': 'nut'}]
VALID = {
    'categories': CATEGORIES,
    'images': [{'id': number, 'file_name': f'{number}.jpg', 'width': 320, 'height': 240} for number in (1, 2)],
    'annotations': [
        {'id': 5, 'image_id': 1, 'category_id': 9, 'bbox': [40, 60, 80, 50], 'area': 4000, 'iscrowd': 0},
        {'id': 6, 'image_id': 2, 'category_id': 3, 'bbox': [0, 0.5, 320, 239.5], 'area': 70000, 'iscrowd': 0},
    ],
}


def _read(path: Path) -> list[dict]:
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = CheckedCocoDataset(
            ann_file=str(path), metainfo=dict(classes=CLASSES), data_prefix=dict(img='images'), serialize_data=False
        )
    return dataset.data_list


spans = st.tuples(st.integers(0, 99), st.integers(1, 100))
drawn_boxes = st.lists(st.tuples(st.sampled_from((3, 9)), spans, spans), min_size=1, max_size=4)


@given(st.lists(drawn_boxes, min_size=1, max_size=3))
def test_boxes_come_back(tmp_path, images):
    path = tmp_path / 'train.json'
    entries, annotations = [], []
    for number, boxes in enumerate(images):
        entries.append({'id': number, 'file_name': f'{number}.jpg', 'width': 200, 'height': 200})
        for category, (x, w), (y, h) in boxes:
            box = {'image_id': number, 'category_id': category, 'bbox': [x, y, w, h], 'area': w * h, 'iscrowd': 0}
            annotations.append({'id': len(annotations) + 1, **box})
    path.write_text(json.dumps({'categories': CATEGORIES, 'images': entries, 'annotations': annotations}))
    for boxes, found in zip(images, _read(path), strict=True):
        assert [box['bbox'] for box in found['instances']] == [[x, y, x + w, y + h] for _, (x, w), (y, h) in boxes]
        assert [box['bbox_label'] for box in found['instances']] == [(3, 9).index(category) for category, *_ in boxes]


def _check(found: list[dict]) -> None:
    for image in found:
        assert image['height'] > 0 and image['width'] > 0 and isinstance(image['img_path'], str)
        for box in image['instances']:
            assert np.isfinite(box['bbox']).all() and box['bbox_label'] in (0, 1)


@settings(max_examples=300)
@given(damaged_tree(VALID))
def test_a_damaged_file_is_read_or_refused(tmp_path, content):
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    found = answer(lambda: _read(path), path)
    if found is not None:
        _check(found)


@given(damaged_bytes(json.dumps(VALID).encode()))
def test_damaged_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'train.json'
    path.write_bytes(content)
    found = answer(lambda: _read(path), path)
    if found is not None:
        _check(found)


@pytest.mark.parametrize(
    'text', ['[' * 10**5, '9' * 10**5, 'null', '{"images": [1], "annotations": [], "categories": []}']
)
def test_text_that_is_no_coco_file_is_refused(tmp_path, text):
    path = tmp_path / 'train.json'
    path.write_text(text)
    assert answer(lambda: _read(path), path) is None

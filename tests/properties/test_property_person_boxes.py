"""Person boxes in their three formats, and AlphAction's annotations: what is written is read, garbage is refused."""

from __future__ import annotations

import csv
import json
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_text, damaged_tree
from hypothesis import given, settings

from mvbench_plugins.datasets.action.alphaction_files import read_alphaction_annotations, read_images
from mvbench_plugins.datasets.action.person_boxes import PersonBoxes, read_person_boxes

CSV = 'abc,902,0.1,0.2,0.5,0.9,0.95\nabc,902,0,0,1,1,0.8\nxyz,1000,0.3,0.3,0.4,0.4,0.5\n'
PICKLE = {
    'abc,0902': np.array([[0.1, 0.2, 0.5, 0.9, 0.95], [0, 0, 1, 1, 0.8]]),
    'xyz,1000': np.zeros((0, 5), np.float32),
}
IMAGES = [
    {'id': number, 'movie': movie, 'timestamp': 902 + number, 'width': 400, 'height': 300}
    for number, movie in enumerate(('abc', 'xyz'))
]
ANNOTATIONS = {
    'images': IMAGES,
    'annotations': [
        {'image_id': 0, 'bbox': [10, 20.5, 100, 200], 'action_ids': [1, 80]},
        {'image_id': 1, 'bbox': [0, 0, 400, 300], 'action_ids': []},
    ],
}
DETECTIONS = [
    {'image_id': 0, 'bbox': [10.5, 20, 100, 200], 'score': 0.9},
    {'image_id': 1, 'bbox': [0, 0, 400, 300], 'score': 0.5},
]

# In steps of 1/1024 numbers are the same in float32.
steps = st.integers(0, 1024)
sides = st.tuples(steps, steps).filter(lambda pair: pair[0] != pair[1]).map(sorted)
boxes = st.tuples(sides, sides, steps).map(
    lambda drawn: [drawn[0][0] / 1024, drawn[1][0] / 1024, drawn[0][1] / 1024, drawn[1][1] / 1024, drawn[2] / 1024]
)
files = st.dictionaries(
    st.tuples(st.from_regex(r'[\w ,.-]{1,8}', fullmatch=True), st.integers(0, 10**6)),
    st.lists(boxes, min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


def _check(found: PersonBoxes) -> None:
    for found_boxes, scores in found.by_key_frame.values():
        assert found_boxes.shape == (len(scores), 4) and found_boxes.dtype == scores.dtype == np.float32
        assert ((found_boxes >= 0) & (found_boxes <= 1)).all() and (found_boxes[:, :2] < found_boxes[:, 2:]).all()
        assert ((scores >= 0) & (scores <= 1)).all() and (np.diff(scores) <= 0).all()


@given(files)
def test_boxes_come_back_from_csv_and_pickle(tmp_path, drawn):
    table, dump = tmp_path / 'boxes.csv', tmp_path / 'boxes.pkl'
    with table.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([*key, *row] for key, rows in drawn.items() for row in rows)
    dump.write_bytes(pickle.dumps({f'{video},{second:04d}': np.array(rows) for (video, second), rows in drawn.items()}))
    for path in (table, dump):
        found = read_person_boxes(path)
        _check(found)
        assert set(found.by_key_frame) == set(drawn)
        for key, rows in drawn.items():
            expected = sorted(rows, key=lambda row: -row[4])
            assert np.column_stack(found.by_key_frame[key][::-1][::-1]).tolist() == expected


@settings(max_examples=150)
@given(damaged_text(CSV))
def test_a_damaged_csv_is_read_or_refused(tmp_path, text):
    path = tmp_path / 'boxes.csv'
    path.write_text(text, encoding='utf-8')
    found = answer(lambda: read_person_boxes(path), path)
    if found is not None:
        _check(found)
        assert len(found) == sum(1 for row in csv.reader(text.splitlines()) if row)


@settings(max_examples=150)
@given(
    damaged_tree(
        PICKLE, junk=(None, 'x', 7, b'x', [[1, 2, 3, 4, 5], [6]], [], np.full((1, 5), np.nan), np.zeros((2, 4)))
    )
)
def test_a_damaged_pickle_is_read_or_refused(tmp_path, content):
    path = tmp_path / 'boxes.pkl'
    path.write_bytes(pickle.dumps(content))
    found = answer(lambda: read_person_boxes(path), path)
    if found is not None:
        _check(found)


@settings(max_examples=200)
@given(damaged_tree(DETECTIONS), damaged_tree(ANNOTATIONS), st.booleans())
def test_damaged_json_is_read_or_refused(tmp_path, detections, annotations, intact):
    path, images = tmp_path / 'boxes.json', tmp_path / 'images.json'
    path.write_text(json.dumps(detections), encoding='utf-8')
    images.write_text(json.dumps(ANNOTATIONS if intact else annotations), encoding='utf-8')
    found = answer(lambda: read_person_boxes(path, images), path, images)
    if found is not None:
        _check(found)
    rows = answer(lambda: read_alphaction_annotations(images, label_ids=range(1, 81)), images)
    if rows is not None:
        assert ((rows.boxes >= 0) & (rows.boxes <= 1)).all() and set(rows.actions.tolist()) <= set(range(81))


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=1, max_size=4))
def test_images_come_back(tmp_path, sizes):
    path = tmp_path / 'images.json'
    listed = [
        {'id': number, 'movie': 'abc', 'timestamp': number, 'width': width, 'height': height}
        for number, (width, height) in enumerate(sizes)
    ]
    path.write_text(json.dumps({'images': listed}), encoding='utf-8')
    assert [image[2:] for image in read_images(path).values()] == sizes


FILES = {'boxes.csv': CSV.encode(), 'boxes.pkl': pickle.dumps(PICKLE), 'boxes.json': json.dumps(DETECTIONS).encode()}


@pytest.mark.parametrize('name', FILES)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path, name, data):
    path, images = tmp_path / name, tmp_path / 'images.json'
    path.write_bytes(data.draw(damaged_bytes(FILES[name])))
    images.write_text(json.dumps(ANNOTATIONS), encoding='utf-8')
    found = answer(lambda: read_person_boxes(path, images), path)
    if found is not None:
        _check(found)


@pytest.mark.parametrize('text', ['[' * 10**5, '9' * 10**5, '[NaN', '\ufeff'])
def test_text_that_json_chokes_on_is_refused(tmp_path, text):
    path = tmp_path / 'images.json'
    path.write_text(text, encoding='utf-8')
    assert answer(lambda: read_images(path), path) is None

"""AVA's csv, exclusions, label maps and frame lists: what is written is read, and garbage is refused by name."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_text
from hypothesis import given, settings

from mvbench_plugins.datasets.action.ava_files import (
    AVARows,
    read_ava_csv,
    read_exclusions,
    read_frame_list,
    read_label_map,
)

LABEL_IDS = range(1, 81)
CSV = 'abc,0902,0.077,0.151,0.283,0.811,80,1\nabc,0902,0.077,0.151,0.283,0.811,9,1\nxyz,1798,0,0,1,1,,2\n'
EXCLUSIONS = 'abc,0902\nxyz,1111\n'
LABELS = 'item {\n  name: "stand"\n  id: 1\n}\nlabel {\n  name: "sit (on a chair)"\n  label_id: 11\n}\n# end\n'
FRAMES = 'original_vido_id video_id frame_id path labels\n' + ''.join(
    f'{video} {number} {frame} {video}/{video}_{frame + 1:06d}.jpg ""\n'
    for number, video in enumerate(('abc', 'xyz'))
    for frame in range(3)
)

names = st.text(st.characters(codec='utf-8', exclude_categories=('Cs', 'Cc', 'Zl', 'Zp')), min_size=1, max_size=8)
fractions = st.floats(0, 1)
pairs = st.tuples(fractions, fractions).map(sorted)
rows = st.tuples(
    names.filter(lambda name: not name.startswith('\ufeff')),
    st.integers(0, 10**6),
    pairs,
    pairs,
    st.one_of(st.none(), st.integers(1, 80)),
    st.integers(0, 10**6),
)


def _check_rows(found: AVARows) -> None:
    assert len(found) == len(found.seconds) == len(found.boxes) == len(found.actions) == len(found.persons)
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all() and (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
    assert ((found.actions >= 0) & (found.actions <= 80)).all()


@given(st.lists(rows, min_size=1, max_size=5))
def test_rows_come_back(tmp_path, drawn):
    path = tmp_path / 'ava.csv'
    with path.open('w', newline='', encoding='utf-8') as file:
        for video, second, (x1, x2), (y1, y2), action, person in drawn:
            csv.writer(file).writerow([video, second, x1, y1, x2, y2, '' if action is None else action, person])
    found = read_ava_csv(path, label_ids=LABEL_IDS)
    assert found.videos == [row[0] for row in drawn]
    assert found.seconds.tolist() == [row[1] for row in drawn]
    assert np.array_equal(found.boxes, [(x1, y1, x2, y2) for _, _, (x1, x2), (y1, y2), *_ in drawn])
    assert found.actions.tolist() == [row[4] or 0 for row in drawn]
    assert found.persons.tolist() == [row[5] for row in drawn]


@settings(max_examples=200)
@given(damaged_text(CSV))
def test_a_damaged_csv_is_read_line_by_line_or_refused(tmp_path, text):
    path = tmp_path / 'ava.csv'
    path.write_text(text, encoding='utf-8')
    found = answer(lambda: read_ava_csv(path, label_ids=LABEL_IDS), path)
    if found is not None:
        _check_rows(found)
        expected = [row for row in csv.reader(text.splitlines()) if row]
        assert found.videos == [row[0] for row in expected]
        assert found.seconds.tolist() == [int(row[1]) for row in expected]
        assert found.boxes.tolist() == [[float(value) for value in row[2:6]] for row in expected]
        assert found.actions.tolist() == [int(row[6] or 0) for row in expected]


@given(st.sets(st.tuples(names.filter(lambda name: not name.startswith('\ufeff')), st.integers(0, 10**9)), max_size=5))
def test_exclusions_come_back(tmp_path, drawn):
    path = tmp_path / 'excluded.csv'
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(drawn)
    assert read_exclusions(path) == drawn


@given(
    st.dictionaries(st.integers(1, 10**6), names.filter(lambda name: not {*name} & {*'"{}'}), min_size=1, max_size=5)
)
def test_label_maps_come_back(tmp_path, drawn):
    path = tmp_path / 'labels.pbtxt'
    for item, label in (('item', 'id'), ('label', 'label_id')):
        text = ''.join(f'{item} {{\n  name: "{name}"\n  {label}: {number}\n}}\n' for number, name in drawn.items())
        path.write_text(text, encoding='utf-8')
        assert read_label_map(path) == drawn


def test_comments_of_a_label_map_are_no_items(tmp_path):
    path = tmp_path / 'labels.pbtxt'
    path.write_text('# item { name: "old" id: 2 }\nitem { name: "say # aloud" id: 1 }  # item {\n', encoding='utf-8')
    assert read_label_map(path) == {1: 'say # aloud'}


@given(
    st.dictionaries(st.from_regex(r'[A-Za-z0-9_{}-]{1,8}', fullmatch=True), st.integers(1, 4), min_size=1),
    st.integers(0, 9),
)
def test_frame_lists_come_back(tmp_path, drawn, first):
    path = tmp_path / 'frames.csv'
    lines = [
        f'{video} 0 {frame} {video}/{video}_{frame + first:06d}.jpg ""\n'
        for video, count in drawn.items()
        for frame in range(count)
    ]
    path.write_text('original_vido_id video_id frame_id path labels\n' + ''.join(lines), encoding='utf-8')
    found = read_frame_list(path)
    assert {video: frames.count for video, frames in found.items()} == drawn
    for video, frames in found.items():
        assert f'{frames.folder}/{frames.template.format(first)}' == f'{video}/{video}_{first:06d}.jpg'


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    'csv': (CSV, read_ava_csv),
    'exclusions': (EXCLUSIONS, read_exclusions),
    'label map': (LABELS, read_label_map),
    'frame list': (FRAMES, read_frame_list),
}


@pytest.mark.parametrize('valid, read', READERS.values(), ids=READERS)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_by_name(tmp_path, valid, read, data):
    path = tmp_path / 'damaged.txt'
    damage = st.one_of(damaged_bytes(valid.encode()), damaged_text(valid).map(str.encode))
    path.write_bytes(data.draw(damage))
    found = answer(lambda: read(path), path)
    if isinstance(found, dict) and found and isinstance(next(iter(found)), int):
        assert min(found) > 0 and all(isinstance(name, str) for name in found.values())

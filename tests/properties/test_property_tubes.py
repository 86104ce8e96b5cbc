"""Ground truth of JHMDB and UCF101-24: what is written is read, and damaged pickles are refused by name."""

from __future__ import annotations

import pickle

import hypothesis.strategies as st
import numpy as np
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings

from mvbench_plugins.datasets.action.tubes import TubeAnnotations, read_tube_annotations

VALID = {
    'labels': ['run', 'jump'],
    'gttubes': {
        'run/a': {0: [np.array([[1, 5, 5, 50.5, 60], [2, 6, 6, 51, 61]])]},
        'jump/b': {1: [np.array([[3, 0, 0, 10, 10]], np.float32), np.array([[1, 2, 2, 4, 4]])]},
    },
    'nframes': {'run/a': 2, 'jump/b': 3},
    'train_videos': [['run/a']],
    'test_videos': [['jump/b']],
    'resolution': {'run/a': (240, 320), 'jump/b': (240, 320)},
}
JUNK = (None, 'x', 7, -1, 0.5, [], {}, [1, [2, 3]], {1: 2}, np.zeros((1, 4)), np.full((1, 5), np.nan), np.array(['x']))


@st.composite
def tubes(draw: st.DrawFn) -> dict:
    """Content of a file, with two splits."""
    videos = draw(
        st.lists(st.from_regex(r'[a-z]{1,4}/[\w-]{1,6}', fullmatch=True), min_size=2, max_size=4, unique=True)
    )
    labels = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3))
    content: dict = {'labels': labels, 'gttubes': {}, 'nframes': {}, 'resolution': {}}
    for video in videos:
        count = content['nframes'][video] = draw(st.integers(1, 6))
        content['resolution'][video] = draw(st.tuples(st.integers(1, 500), st.integers(1, 500)))
        content['gttubes'][video] = {}
        for index in draw(st.sets(st.integers(0, len(labels) - 1))):
            frames = draw(st.lists(st.integers(1, count), min_size=1, unique=True))
            rows = [[frame, *sorted(draw(st.tuples(*[st.floats(0, 500)] * 4)))] for frame in frames]
            content['gttubes'][video][index] = [np.array(rows)[:, [0, 1, 2, 3, 4]]]
    return content | {'train_videos': [videos[:1], videos[1:]], 'test_videos': [videos[1:], videos[:1]]}


@given(tubes(), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_tubes_come_back(tmp_path, content, protocol):
    path = tmp_path / 'GT.pkl'
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_tube_annotations(path)
    assert list(found.classes) == content['labels'] and found.num_frames == content['nframes']
    assert found.resolution == content['resolution']
    assert (found.train_videos, found.test_videos) == (content['train_videos'], content['test_videos'])
    for video, by_class in content['gttubes'].items():
        assert found.tubes[video].keys() == by_class.keys()
        for index, arrays in by_class.items():
            assert all(map(np.array_equal, found.tubes[video][index], arrays))


def _check(found: TubeAnnotations) -> None:
    assert found.classes and len(found.train_videos) == len(found.test_videos)
    for video, by_class in found.tubes.items():
        assert min(found.resolution[video]) > 0
        for index, arrays in by_class.items():
            assert 0 <= index < len(found.classes)
            for tube in arrays:
                assert tube.shape[1:] == (5,) and np.isfinite(tube).all()
                assert set(tube[:, 0]) <= set(range(1, found.num_frames[video] + 1))
                assert (tube[:, 1:3] <= tube[:, 3:]).all()


@settings(max_examples=300)
@given(damaged_tree(VALID, JUNK))
def test_a_damaged_file_is_read_or_refused(tmp_path, content):
    path = tmp_path / 'GT.pkl'
    path.write_bytes(pickle.dumps(content))
    found = answer(lambda: read_tube_annotations(path), path)
    if found is not None:
        _check(found)


@given(damaged_bytes(pickle.dumps(VALID)))
def test_damaged_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / 'GT.pkl'
    path.write_bytes(content)
    found = answer(lambda: read_tube_annotations(path), path)
    if found is not None:
        _check(found)

"""Which frames go with a key frame, and which matrices are poses and intrinsics."""

from __future__ import annotations

import numpy as np
import pytest

from mvbench_plugins.sparsebev.frames import are_intrinsics, are_poses, choose_frames, train_intervals


def choose(
    past: int, future: int = 0, num_frames: int = 8, order: str = 'past', key_interval: int = 6, test: bool = True
):
    return choose_frames(past, future, num_frames, order, key_interval, test)


def test_tests_take_key_frames_and_repeat_the_last():
    assert choose(60) == [('past', i) for i in (5, 11, 17, 23, 29, 35, 41)]
    assert choose(20) == [('past', i) for i in (5, 11, 17, 19, 19, 19, 19)]
    assert choose(4, num_frames=4, key_interval=2) == [('past', 1), ('past', 3), ('past', 3)]


@pytest.mark.parametrize('test', [True, False])
@pytest.mark.parametrize('order', ['past', 'future', 'interleaved'])
def test_the_key_frame_stands_in_where_a_scene_has_no_other(order, test):
    assert choose(0, 0, 5, order, test=test) == [('key', 0)] * 4
    assert choose(60, 60, 1, order, test=test) == []


def test_training_draws_an_interval_that_the_list_has_room_for():
    """Between a third and two thirds of a second, shorter in short lists; all are drawn."""
    np.random.seed(0)
    drawn = {}
    for past in (7, 8, 13, 14, 30, 42, 56, 60):
        intervals = set()
        for _ in range(200):
            positions = [i for name, i in choose(past, test=False) if name == 'past']
            steps = set(np.diff([-1, *positions]))
            assert len(positions) == 7 and len(steps) == 1 and positions[-1] < past
            intervals |= {int(each) for each in steps}
        drawn[past] = intervals
    assert drawn[7] == drawn[8] == drawn[13] == {1} and drawn[14] == {2}
    assert drawn[30] == {4} and drawn[42] == {4, 5, 6} and drawn[56] == drawn[60] == {4, 5, 6, 7, 8}
    assert [i for _, i in choose(3, test=False)] == [0, 1, 2, 2, 2, 2, 2]


def test_intervals_of_other_recordings_are_as_long_in_seconds():
    assert train_intervals(6) == (4, 8) and train_intervals(3) == (2, 4) and train_intervals(1) == (1, 1)


def test_later_frames_stand_behind_or_between_earlier_ones():
    want = {
        'future': [('past', 5), ('past', 11), ('future', 5), ('future', 6)],
        'interleaved': [('past', 5), ('future', 5), ('past', 11), ('future', 6)],
    }
    for order, frames in want.items():
        assert choose(60, 7, 5, order) == frames
    assert choose(60, 0, 5, 'interleaved') == [('past', 5), ('key', 0), ('past', 11), ('key', 0)]
    np.random.seed(0)
    drawn = set()
    for _ in range(100):
        frames = dict(past=[], future=[])
        for name, i in choose(60, 60, 15, 'future', test=False):
            frames[name].append(i)
        assert frames['past'] == frames['future']
        assert len(set(np.diff([-1, *frames['past']]))) == 1
        drawn.add(frames['past'][0] + 1)
    assert drawn == {4, 5, 6, 7, 8}


def turned(angle: float) -> np.ndarray:
    """A pose that turns about the vertical, somewhere in the world."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = 1240.5, 600.25, 1.8
    return pose


def changed(matrix: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[place] = value
    return matrix


def test_poses_are_rotations_without_reflection():
    good = [turned(0), turned(2.5), turned(0.7).astype(np.float32)]
    bad = [
        turned(2.5) @ np.diag([-1, 1, 1, 1]),  # left-handed
        turned(2.5) @ np.diag([1, 1, 1.1, 1]),
        np.zeros((4, 4)),
        turned(2.5).T,
        changed(turned(1), (0, 3), np.nan),
        changed(turned(1), (1, 1), np.inf),
        changed(turned(1), (3, 3), 1.01),
    ]
    assert are_poses(np.array([good[:2], good[1:]])).tolist() == [[True, True], [True, True]]
    assert are_poses(np.array([good[0], *bad])).tolist() == [True] + [False] * len(bad)


def test_intrinsics_have_focal_lengths_above_zero():
    good = np.array([[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]])
    bad = [
        changed(good, (0, 0), -1266.4),
        changed(good, (1, 1), 0),
        changed(good, (2, 2), 0),
        changed(good, (2, 0), 816.3),
        changed(changed(good, (0, 1), 1266.4), (1, 0), 1266.4),  # singular
        changed(good, (0, 2), np.nan),
        -good,
    ]
    assert are_intrinsics(np.array([good, *bad])).tolist() == [True] + [False] * len(bad)

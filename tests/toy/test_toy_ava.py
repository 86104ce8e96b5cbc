"""The toy world over time and its writers: labels are what the pictures show, files are those of the real data sets."""

import csv
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmaction.evaluation.functional.ava_utils import read_exclusions, read_labelmap
from toy_folders import contents

from mvbench_plugins.datasets.toy import ACTIONS, JHMDB, UCF101_24, ava, random_video, write_ava, write_tubes
from mvbench_plugins.datasets.toy.ava import random_ava_video

SIZE = (128, 96)
SMALL = {'seed': 5, 'num_train': 6, 'num_val': 2, 'size': SIZE, 'seconds': 5}
TINY = {'num_train': 2, 'num_val': 1, 'size': (64, 48), 'seconds': 4}
KEYS = (902, 903)
TUBES = {'seed': 2, 'num_train': 2, 'num_val': 1, 'size': SIZE}
FOLDS = {'square': 4, 'triangle': 3, 'star': 5, 'cross': 4, 'bar': 2}  # by which turns a shape looks the same


def read_rows(folder: Path, split: str) -> list[list[str]]:
    with open(folder / 'annotations' / f'ava_{split}_v2.2.csv', newline='') as file:
        return list(csv.reader(file))


@pytest.fixture(scope='module')
def toy_ava(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'new' / 'ava'
    assert write_ava(folder, **SMALL)
    return folder


@pytest.fixture(scope='module', params=[JHMDB, UCF101_24], ids=lambda layout: layout.name)
def toy_tubes(request, tmp_path_factory) -> tuple:
    """The layout, its folder and the content of its pickle."""
    folder = tmp_path_factory.mktemp('toy') / request.param.name
    assert write_tubes(request.param, folder, **TUBES)
    return request.param, folder, pickle.loads((folder / request.param.annotations).read_bytes())


def shown_actions(renders: dict[int, tuple[np.ndarray, np.ndarray]], person: int, folds: int) -> set[int] | None:
    """Actions of a solid as its pixels show them, or None if another one touches it.

    Args:
        renders: Image and map of instances at frames -12, -8, ..., 12 around the key frame.
        person: Index of the solid.
        folds: Number of turns of the shape onto itself in a full one.
    """
    centres, sizes, colours, moments = [], [], [], []
    for image, ids in renders.values():
        mask = ids == person + 1
        around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        if set(np.unique(ids[around])) - {0, person + 1}:
            return None
        y, x = np.nonzero(mask)
        centres.append((x.mean(), y.mean()))
        sizes.append(np.sqrt(len(x)))
        colours.append(image[mask].mean(0))
        moments.append((((x - x.mean()) + 1j * (y - y.mean())) ** folds).sum())
    (dx, dy), ratio = np.subtract(centres[-1], centres[0]), sizes[-1] / sizes[0]
    change = max(np.linalg.norm(colour - colours[0]) for colour in colours)
    turn = abs(sum(np.angle(after / before) for before, after in zip(moments, moments[1:], strict=False)) / folds)
    shown = (dx < -5, dx > 5, dy < -5, dy > 5, ratio > 1.15, ratio < 1 / 1.15, change > 40, turn > np.radians(35))
    return {index + 1 for index, is_shown in enumerate(shown) if is_shown}


def test_layout_of_ava(toy_ava):
    for split, videos in (('train', 6), ('val', 2)):
        lines = (toy_ava / 'frame_lists' / f'{split}.csv').read_text().splitlines()
        assert lines[0] == 'original_vido_id video_id frame_id path labels'
        assert len(lines) == 1 + videos * 150
        for index, line in enumerate(lines[1:]):
            video, number, frame, path, labels = line.split(' ')
            assert (video, int(number)) == (f'{split}_{index // 150 + 1:04d}', index // 150)
            assert int(frame) == index % 150 and labels == '""'
            assert path == f'{video}/{video}_{index % 150 + 1:06d}.jpg'
            assert (toy_ava / 'frames' / path).is_file()
        names = {f'{split}_{index + 1:04d}' for index in range(videos)}
        assert {path.stem for path in (toy_ava / 'videos').glob(f'{split}_*.mp4')} == names
    assert cv2.imread(str(toy_ava / 'frames' / 'val_0001' / 'val_0001_000001.jpg')).shape == (96, 128, 3)
    with open(toy_ava / 'annotations' / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt') as file:
        labels, ids = read_labelmap(file)
    assert [label['name'] for label in labels] == list(ACTIONS)
    assert ids == set(range(1, 9))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_rows_of_ava(toy_ava, split):
    people, keys = {}, set()
    for video, second, *box, action, person in read_rows(toy_ava, split):
        keys.add((video, int(second)))
        assert re.fullmatch(r'\d{4}', second) and int(second) in KEYS
        assert all(re.fullmatch(r'[01]\.\d{5,}', corner) for corner in box)
        x1, y1, x2, y2 = map(float, box)
        assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
        boxes, actions = people.setdefault((video, second, int(person)), (set(), []))
        boxes.add(tuple(box))
        actions.append(action)
    assert len(keys) == SMALL[f'num_{split}'] * 2  # every key frame
    for boxes, actions in people.values():
        assert len(boxes) == 1  # of one person at one second
        assert actions == [''] or (set(actions) <= set('12345678') and len(set(actions)) == len(actions))
    # A person without an action has a row as well.
    if split == 'train':
        assert [''] in [actions for _, actions in people.values()]


def test_a_key_frame_of_the_validation_set_is_excluded(toy_ava):
    for split in ('train', 'val'):
        with open(toy_ava / 'annotations' / f'ava_{split}_excluded_timestamps_v2.2.csv') as file:
            excluded = read_exclusions(file)
        keys = {f'{video},{second}' for video, second, *_ in read_rows(toy_ava, split)}
        assert excluded and excluded < keys


def test_labels_and_boxes_are_what_the_pictures_show(toy_ava):
    people = {}
    for video, second, *box, action, person in read_rows(toy_ava, 'train'):
        found = people.setdefault((video, int(second), int(person)), (np.array(box, float) * (SIZE * 2), set()))
        found[1].update([int(action)] if action else [])
    seen = []
    for index in range(SMALL['num_train']):
        video = random_ava_video(np.random.default_rng([SMALL['seed'], 0, index]), SIZE, SMALL['seconds'])
        name = f'train_{index + 1:04d}'
        for second in KEYS:
            key = (second - 900) * 30
            renders = {frame: video.render(frame) for frame in range(key - 12, key + 13, 4)}
            stored = cv2.imread(str(toy_ava / 'frames' / name / f'{name}_{key + 1:06d}.jpg'))
            assert np.abs(stored.astype(int) - renders[key][0]).mean() < 6  # JPEG keeps little of the noise
            for person, track in enumerate(video.tracks):
                box, labels = people.pop((name, second, person))
                x, y, columns, rows = cv2.boundingRect((renders[key][1] == person + 1).astype(np.uint8))
                np.testing.assert_allclose(box, (x, y, x + columns, y + rows), atol=1e-3)
                shown = shown_actions(renders, person, FOLDS[track.solid.shape])
                if shown is not None:
                    assert shown == labels, (name, second, person)
                    seen.append(shown)
    assert not people  # nobody is annotated who is not there
    assert len(seen) > 20
    assert set().union(*seen) == set(range(1, 9))


def test_video_files_hold_the_frames(toy_ava):
    capture = cv2.VideoCapture(str(toy_ava / 'videos' / 'val_0001.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == 30
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1].astype(int))
    assert len(frames) == 150
    for index in (20, 60, 110):
        stored = {
            other: cv2.imread(str(toy_ava / 'frames' / 'val_0001' / f'val_0001_{other + 1:06d}.jpg'))
            for other in (index - 10, index, index + 10)
        }
        distances = {other: np.abs(frames[index] - picture).mean() for other, picture in stored.items()}
        assert min(distances, key=distances.get) == index


def test_a_single_frame_tells_no_action():
    """How a solid stands and looks in the middle of its motion does not depend on the motion."""
    looks, labels = [], []
    for seed in range(600):
        rng = np.random.default_rng([9, seed])
        video = random_video(rng, SIZE, 150, solids=1 + seed % 3, begin=-15, length=30, stretches=5)
        track, key = video.tracks[0], 60 + 30 * (seed % 2)
        solid = track.at(key)
        (x, y), actions = solid.position, track.motion(key).actions
        looks.append((x, y, abs(x - 64), abs(y - 48), np.log(solid.size), solid.angle % 1, *solid.colour))
        labels.append([action in actions for action in range(1, 9)])
    looks, labels = np.array(looks), np.array(labels)
    assert np.all(np.abs(labels.mean(0) - 0.25) < 0.06)  # all actions are about equally frequent
    for shown in labels.T:
        with_it, without = looks[shown], looks[~shown]
        error = np.sqrt(with_it.var(0) / len(with_it) + without.var(0) / len(without))
        assert np.all(np.abs(with_it.mean(0) - without.mean(0)) < 3.5 * error)


def test_solids_go_on_without_a_jump():
    video = random_video(np.random.default_rng(1), SIZE, 150, solids=3, begin=-15, length=30, stretches=6)
    motions = {track.motion(frame) for track in video.tracks for frame in range(150)}
    assert len(motions) == 3 * 6  # each stretch of time has motions of its own
    for track in video.tracks:
        solids = [track.at(frame) for frame in range(150)]
        steps = np.diff([solid.position for solid in solids], axis=0)
        assert np.abs(steps).max() <= 0.3 * 96 / 30 + 1e-9
        sizes = np.array([solid.size for solid in solids])
        assert np.abs(np.diff(np.log(sizes))).max() <= np.log(1.8) / 30 + 1e-9
        margins = np.array([(*solid.position, *np.subtract(SIZE, solid.position)) for solid in solids]).min(1)
        assert np.all(margins >= sizes / 2 - 1e-9)  # wholly inside the image, all the time


def test_the_background_moves_and_every_frame_has_its_own_noise():
    video = random_video(np.random.default_rng(3), SIZE, 150, solids=1, begin=-15, length=30, stretches=6)
    (first, first_ids), (last, last_ids) = video.render(0), video.render(149)
    empty = (first_ids == 0) & (last_ids == 0)
    smooth = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), 3) for image in (first, last)]
    assert np.abs(smooth[0] - smooth[1])[empty].mean() > 2
    grain = [
        image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 3) for image in (first, last)
    ]
    assert abs(np.corrcoef(grain[0][empty].ravel(), grain[1][empty].ravel())[0, 1]) < 0.1


def test_same_seed_same_bytes_and_videos_do_not_depend_on_the_length_of_the_set(toy_ava, tmp_path):
    assert write_ava(tmp_path / 'again', **SMALL)
    assert contents(tmp_path / 'again') == contents(toy_ava)
    assert write_ava(tmp_path / 'short', **SMALL | {'num_train': 1, 'num_val': 1})
    long, short = contents(toy_ava), contents(tmp_path / 'short')
    pictures = [name for name in short if name.endswith(('.jpg', '.mp4'))]
    assert len(pictures) == 302
    assert all(long[name] == short[name] for name in pictures)
    rows = read_rows(tmp_path / 'short', 'train')
    assert rows == read_rows(toy_ava, 'train')[: len(rows)]
    # Neither do the splits repeat each other.
    assert read_rows(tmp_path / 'short', 'val')[0][2:] != rows[0][2:]


def test_other_seed_other_videos(tmp_path):
    sets = []
    for seed in (0, 1):
        assert write_ava(tmp_path / str(seed), seed=seed, **TINY)
        sets.append(contents(tmp_path / str(seed)))
    assert sets[0].keys() == sets[1].keys()
    assert not [name for name in sets[0] if name.endswith('.jpg') and sets[0][name] == sets[1][name]]


def test_complete_set_is_left_alone_and_unfinished_ones_are_made_anew(tmp_path, monkeypatch):
    calls = []

    def interrupted_video(*arguments):
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return random_ava_video(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ava, 'random_ava_video', interrupted_video)
        with pytest.raises(KeyboardInterrupt):
            write_ava(tmp_path, **TINY)
    (tmp_path / 'frames' / 'train_0001' / 'half.jpg').write_bytes(b'')
    assert write_ava(tmp_path, **TINY)
    before = contents(tmp_path)
    assert not [name for name in before if 'half' in name]
    stamp = (tmp_path / 'toy.json').stat().st_mtime_ns
    assert not write_ava(tmp_path, **TINY)
    assert (tmp_path / 'toy.json').stat().st_mtime_ns == stamp
    (tmp_path / 'frames' / 'val_0001' / 'val_0001_000007.jpg').unlink()
    assert write_ava(tmp_path, **TINY)
    assert contents(tmp_path) == before


def test_foreign_and_other_sets_are_refused_and_untouched(toy_ava, tmp_path):
    (tmp_path / 'frames').mkdir()
    (tmp_path / 'frames' / 'mine.jpg').write_bytes(b'precious')
    with pytest.raises(FileExistsError, match='no toy data set'):
        write_ava(tmp_path, **TINY)
    with pytest.raises(FileExistsError, match='no toy data set'):
        write_tubes(JHMDB, tmp_path)
    assert contents(tmp_path) == {'frames/mine.jpg': b'precious'}
    before = contents(toy_ava)
    with pytest.raises(FileExistsError, match=r"'seconds': 5.*'seconds': 4.*delete this one"):
        write_ava(toy_ava, **SMALL | {'seconds': 4})
    assert contents(toy_ava) == before


def test_tubes_have_the_keys_and_frames_of_the_real_sets(toy_tubes):
    layout, folder, data = toy_tubes
    assert data.keys() == {'labels', 'gttubes', 'nframes', 'train_videos', 'test_videos', 'resolution'}
    assert data['labels'] == [name.replace(' ', '_') for name in ACTIONS]
    videos = set(data['gttubes'])
    assert len(videos) == 8 * 3 and videos == set(data['nframes']) == set(data['resolution'])
    assert len(data['train_videos']) == len(data['test_videos']) == (3 if layout is JHMDB else 1)
    for train, test in zip(data['train_videos'], data['test_videos'], strict=True):
        assert len(test) == 8 and not set(train) & set(test) and set(train) | set(test) == videos
        assert {name.split('/')[0] for name in test} == set(data['labels'])
    assert len(set(map(tuple, data['test_videos']))) == layout.splits
    for name in videos:
        frames = sorted((folder / layout.frames / name).iterdir())
        assert [path.name for path in frames] == [f'{i + 1:05d}{layout.suffix}' for i in range(data['nframes'][name])]
        assert data['resolution'][name] == (96, 128) == cv2.imread(str(frames[0])).shape[:2]
        (label,) = data['gttubes'][name]
        assert name.split('/')[0] == data['labels'][label]


def test_tubes_lie_in_the_image_and_in_the_video(toy_tubes):
    layout, _, data = toy_tubes
    numbers, shares = [], []
    for name, by_label in data['gttubes'].items():
        (tubes,) = by_label.values()
        numbers.append(len(tubes))
        for tube in tubes:
            frames, boxes = tube[:, 0], tube[:, 1:]
            assert type(tube) is np.ndarray and tube.dtype == np.float32
            assert np.all(np.diff(frames) == 1) and frames[0] >= 1 and frames[-1] <= data['nframes'][name]
            assert np.all(boxes[:, :2] >= 0) and np.all(boxes[:, 2:] <= SIZE) and np.all(boxes[:, 2:] > boxes[:, :2])
            shares.append(len(tube) / data['nframes'][name])
    if layout is JHMDB:
        assert set(numbers) == {1} and set(shares) == {1.0}
    else:
        assert set(numbers) == {1, 2} and max(shares) < 1


def test_tubes_follow_solids_that_do_what_their_class_says(toy_tubes):
    layout, folder, data = toy_tubes
    total = 0
    for name, by_label in data['gttubes'].items():
        ((label, tubes),) = by_label.items()
        for tube in tubes:
            total += 1
            starts, ends = tube[:, 1:3], tube[:, 3:]
            middles, side = (starts + ends) / 2, int((ends - starts)[0].min())
            crops = []
            for frame, middle in zip(tube[:, 0], middles, strict=True):
                picture = cv2.imread(str(folder / layout.frames / name / f'{int(frame):05d}{layout.suffix}'))
                crops.append(cv2.getRectSubPix(picture, (side, side), (middle - 0.5).tolist()).astype(float))
            (dx, dy), ratio = middles[-1] - middles[0], (ends - starts)[-1, 0] / (ends - starts)[0, 0]
            differences = [np.linalg.norm(crop - crops[0], axis=-1) for crop in crops]
            recoloured = max(difference[side // 2, side // 2] for difference in differences) > 60
            reshaped = max((difference > 80).mean() for difference in differences) > 0.2  # in the frame of the box
            shown = (dx < -8, dx > 8, dy < -8, dy > 8, ratio > 1.25, ratio < 0.8, recoloured, reshaped)
            # The box of a turning bar grows and shrinks; one that grows or blinks does not fill its first box alike.
            others = set(range(4)) | ({6} if label == 7 else {4, 5} if label == 6 else {4, 5, 6} if label > 3 else {7})
            assert shown[label] and not any(shown[other] for other in others - {label}), (name, shown)
    assert total >= 24


def test_tubes_same_seed_same_bytes_and_a_lost_pickle_is_noticed(toy_tubes, tmp_path):
    layout, folder, _ = toy_tubes
    assert write_tubes(layout, tmp_path, **TUBES)
    assert contents(tmp_path) == contents(folder)
    assert not write_tubes(layout, tmp_path, **TUBES)
    (tmp_path / layout.annotations).unlink()
    assert write_tubes(layout, tmp_path, **TUBES)
    assert contents(tmp_path) == contents(folder)


def test_tool_writes_all_formats_and_says_so(run_tool, tmp_path, capsys):
    counts = ['--num-train', 1, '--num-val', 1, '--size', 64, 48, '--seed', 3]
    for _ in range(2):
        run_tool('ava', '--out', tmp_path / 'ava', *counts, '--seconds', 4)
        run_tool('jhmdb', '--out', tmp_path / 'jhmdb', *counts)
        run_tool('ucf101_24', '--out', tmp_path / 'ucf', *counts)
    lines = capsys.readouterr().out.splitlines()
    assert '1 training and 1 validation videos with 1 key frames each, written' in lines[0]
    assert '1 training and 1 validation videos of each of 8 classes, written' in lines[1] and 'written' in lines[2]
    assert len(lines) == 6 and all('left as it is' in line for line in lines[3:])
    assert (tmp_path / 'jhmdb' / 'JHMDB-GT.pkl').is_file() and (tmp_path / 'ucf' / 'UCF101v2-GT.pkl').is_file()
    assert cv2.imread(str(tmp_path / 'ava' / 'frames' / 'val_0001' / 'val_0001_000120.jpg')).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['ava', '--seconds', 3], 'seconds: found 3, expected an integer of at least 4'),
        (['ava', '--size', 128, 40], 'height: found 40, expected an integer of at least 48'),
        (['ava', '--size', 127, 96], 'size: found 127 x 96, expected even numbers'),
        (['jhmdb', '--num-val', 0], 'num_val: found 0'),
        (['ucf101_24', '--size', 20, 96], 'width: found 20'),
    ],
)
def test_tool_refuses_bad_numbers(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(*arguments, '--out', tmp_path / 'set')
    assert not (tmp_path / 'set').exists()

"""The toy world as a DAVIS data set: masks are what the pictures show, and copying the first one is not enough."""

import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from toy_folders import contents

from mvbench_plugins.common.palette_png import davis_palette, read_palette
from mvbench_plugins.datasets.toy import davis, write_davis
from mvbench_plugins.datasets.toy.davis import FRAMES, random_davis_video
from mvbench_plugins.datasets.vos import DAVISDataset, VOSDataset, object_labels, read_index_mask

SIZE = (112, 64)
SMALL = {'seed': 4, 'num_train': 3, 'num_val': 5, 'size': SIZE}
TINY = {'num_train': 1, 'num_val': 1, 'size': (80, 64)}
TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture(scope='module')
def toy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'davis'
    assert write_davis(folder, **SMALL)
    return folder


@pytest.fixture
def run_tool(monkeypatch):
    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOLS / name), *map(str, arguments)])
        with DefaultScope.overwrite_default_scope('mmdet'):
            runpy.run_path(str(TOOLS / name), run_name='__main__')

    return run


def videos_of(split: str) -> list[str]:
    return [f'{split}_{index + 1:04d}' for index in range(SMALL[f'num_{split}'])]


def masks_of(folder: Path, video: str) -> list[np.ndarray]:
    return [read_index_mask(path) for path in sorted((folder / 'Annotations' / '480p' / video).iterdir())]


def test_layout_is_that_of_davis_2017(toy):
    for split in ('train', 'val'):
        assert (toy / 'ImageSets' / '2017' / f'{split}.txt').read_text().split() == videos_of(split)
        for video in videos_of(split):
            frames = sorted((toy / 'JPEGImages' / '480p' / video).iterdir())
            masks = sorted((toy / 'Annotations' / '480p' / video).iterdir())
            assert FRAMES[0] <= len(frames) <= FRAMES[1]
            assert [path.name for path in frames] == [f'{index:05d}.jpg' for index in range(len(frames))]
            assert [path.stem for path in masks] == [path.stem for path in frames]
            assert cv2.imread(str(frames[0])).shape == (64, 112, 3) == (*read_index_mask(masks[0]).shape, 3)
            np.testing.assert_array_equal(read_palette(masks[0]), davis_palette())


def test_masks_are_what_the_pictures_show(toy):
    """Inside its mask a solid has its own colour, and another one outside."""
    apart, hits = 0, 0
    for index, video in enumerate(videos_of('val')):
        scene, *_ = random_davis_video(np.random.default_rng([SMALL['seed'], 1, index]), SIZE)
        for frame, mask in enumerate(masks_of(toy, video)[::6]):
            path = toy / 'JPEGImages' / '480p' / video / f'{6 * frame:05d}.jpg'
            picture = cv2.GaussianBlur(cv2.imread(str(path)).astype(np.float32), (3, 3), 0)
            for number, track in enumerate(scene.tracks, start=1):
                inside = cv2.erode((mask == number).astype(np.uint8), np.ones((3, 3))).astype(bool)
                if inside.sum() < 20:
                    continue
                distance = np.linalg.norm(picture - np.array(track.solid.colour), axis=-1)
                apart += 1
                hits += 2 * np.median(distance[inside]) < np.median(distance[mask != number])
    assert apart > 30 and hits == apart


def test_solids_cross_enter_later_and_have_look_alikes():
    entering = hidden = twins = counts = 0
    for seed in range(15):
        scene, targets, frames = random_davis_video(np.random.default_rng([11, seed]), SIZE)
        first, *_, last = (scene.render(frame)[1] for frame in (0, frames // 2, frames - 1))
        assert object_labels(first.astype(np.uint8)) == list(range(1, targets + 1))
        entering += set(object_labels(last.astype(np.uint8))) > set(range(1, targets + 1))
        areas = np.array([np.bincount(scene.render(t)[1].ravel(), minlength=7)[1:] for t in range(0, frames, 3)])
        hidden += bool((areas.min(0) < 0.5 * areas.max(0))[:targets].any())
        looks = [track.solid for track in scene.tracks]
        for index, one in enumerate(looks):
            counts += 1
            near = [other for other in looks[:index] if np.linalg.norm(np.subtract(one.colour, other.colour)) < 85]
            twins += bool(near)
            # never both the same shape and nearly the same colour: appearance tells them apart
            assert all(
                np.linalg.norm(np.subtract(one.colour, other.colour)) > 49 for other in near if other.shape == one.shape
            )
    assert entering > 5 and hidden > 5 and twins > counts / 5


def test_background_moves_and_has_texture():
    scene, _, frames = random_davis_video(np.random.default_rng(2), SIZE)
    (one, ids), (other, other_ids) = scene.render(0), scene.render(frames - 1)
    empty = (ids == 0) & (other_ids == 0)
    assert np.abs(one.astype(float) - other)[empty].mean() > 8  # more than the noise of the pixels
    assert cv2.GaussianBlur(one.astype(np.float32), (0, 0), 1.5)[empty].std(0).min() > 6


def test_same_seed_same_bytes_and_other_seed_other_videos(toy, tmp_path):
    assert write_davis(tmp_path / 'short', **SMALL | {'num_val': 1})
    long, short = contents(toy), contents(tmp_path / 'short')
    pictures = [name for name in short if name.endswith(('.jpg', '.png'))]
    assert len(pictures) > 4 * 2 * FRAMES[0] and all(long[name] == short[name] for name in pictures)
    assert write_davis(tmp_path / 'other', **SMALL | {'num_val': 1, 'num_train': 1, 'seed': 5})
    name = 'JPEGImages/480p/train_0001/00000.jpg'
    assert contents(tmp_path / 'other')[name] != long[name] != long[name.replace('train', 'val')]


def test_complete_set_is_left_alone_and_unfinished_ones_are_made_anew(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(davis, 'random_davis_video', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_davis(tmp_path, **TINY)
    assert write_davis(tmp_path, **TINY)
    before = contents(tmp_path)
    assert not write_davis(tmp_path, **TINY)
    (tmp_path / 'Annotations' / '480p' / 'val_0001' / '00003.png').unlink()
    assert write_davis(tmp_path, **TINY)
    assert contents(tmp_path) == before
    with pytest.raises(FileExistsError, match="'seed': 0.*'seed': 1.*delete this one"):
        write_davis(tmp_path, **TINY, seed=1)


def test_datasets_read_it_with_and_without_the_late_objects(toy):
    first = DAVISDataset(str(toy), test_mode=True)
    late = DAVISDataset(str(toy), annotations='first_appearance', test_mode=True)
    assert len(first) == len(late) == 5
    given = []
    for index in range(5):
        frames = first.get_data_info(index)['images']
        assert [frame['annotated'] for frame in frames] == [True] + [False] * (len(frames) - 1)
        given.append([frame['given_labels'] for frame in late.get_data_info(index)['images'] if frame['annotated']])
        labels = [label for group in given[-1] for label in group]
        assert sorted(labels) == list(range(1, len(labels) + 1))
    assert any(len(groups) > 1 for groups in given)
    train = DAVISDataset(str(toy), split='train', min_frames=4)
    assert isinstance(train, VOSDataset) and len(train) == 3


def test_copying_the_first_mask_scores_poorly_and_the_truth_does_not(toy, run_tool, capsys):
    annotations, videos = toy / 'Annotations' / '480p', toy / 'ImageSets' / '2017' / 'val.txt'

    def score(*arguments: object) -> dict[str, float]:
        run_tool('score_vos.py', annotations, *arguments, '--list', videos)
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {row[0]: float(row[1]) for row in rows if len(row) == 2}

    copied = score('--copy-given')
    assert copied['J&F'] < 0.25 and copied['J_tr'] < 0.15
    assert score('--copy-given', '--given', 'first_appearance')['J&F'] < 0.35
    assert score(annotations)['J&F'] == 1
    with pytest.raises(SystemExit, match=r'score_vos.py: error: .*nowhere: no folder of 5 of the 5 videos: val_0001'):
        score(toy / 'nowhere')


def test_predictions_of_some_frames_are_scored_if_asked_for(toy, run_tool, capsys, tmp_path):
    """As for LVOS, whose results are those of every fifth frame; here all are right, but one that is not there."""
    for video in videos_of('val'):
        shutil.copytree(toy / 'Annotations' / '480p' / video, tmp_path / video)
        for path in sorted((tmp_path / video).iterdir())[3::2]:
            path.unlink()
    arguments = ['score_vos.py', toy / 'Annotations' / '480p', tmp_path]
    arguments += ['--list', toy / 'ImageSets' / '2017' / 'val.txt']
    with pytest.raises(SystemExit, match=r'val_0001.00003.png: no such mask'):
        run_tool(*arguments)
    run_tool(*arguments, '--only-predicted')
    assert 'J&F       1.0000' in capsys.readouterr().out


def test_tool_writes_it_and_refuses_bad_numbers(run_tool, tmp_path, capsys):
    arguments = ['davis', '--out', tmp_path / 'set', '--num-train', 1, '--num-val', 1, '--size', 80, 64]
    run_tool('make_toy_data.py', *arguments)
    run_tool('make_toy_data.py', *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert '1 training and 1 validation videos, written' in lines[0] and 'left as it is' in lines[1]
    for bad, message in (
        (['--size', 112, 40], 'height: found 40, expected an integer of at least 64'),
        (['--num-val', 0], 'num_val: found 0'),
    ):
        with pytest.raises(SystemExit, match=message):
            run_tool('make_toy_data.py', 'davis', '--out', tmp_path / 'none', *bad)
    assert not (tmp_path / 'none').exists()

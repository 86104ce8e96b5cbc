"""The list of bad input that STMixer's data may be, through the data sets and pipelines of its toy config.

Each case ends in one clear message, or in what the documentation says instead. Readers have tests of their own, in
``tests/datasets``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmaction.registry import DATASETS
from mmengine.config import Config

from mvbench_plugins.datasets.toy import write_ava

CSV = 'annotations/ava_train_v2.2.csv'
VIDEO = 'train_0001'
Damage = Callable[[Path], None]


@pytest.fixture(scope='module')
def toy_ava(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(out, num_train=1, num_val=1, size=(64, 48), seconds=4)
    return out


def _rows(change: Callable[[list[str]], list[str]]) -> Damage:
    """Changes the first line of the csv."""

    def damage(root: Path) -> None:
        first, *others = (root / CSV).read_text().splitlines()
        (root / CSV).write_text('\n'.join([','.join(change(first.split(','))), *others]) + '\n')

    return damage


def _video(content: bytes) -> Damage:
    return lambda root: (root / 'videos' / f'{VIDEO}.mp4').write_bytes(content)


def _no_frames_of_the_clip(root: Path) -> None:
    for path in (root / 'frames' / VIDEO).iterdir():
        path.unlink()


def _half_a_frame(root: Path) -> None:
    for path in (root / 'frames' / VIDEO).iterdir():
        path.write_bytes(path.read_bytes()[:50])


def _no_list_of_frames(root: Path) -> None:
    shutil.rmtree(root / 'frames' / VIDEO)


VIDEOS = dict(data_prefix=dict(video='videos'), frame_list=None)
BAD_INPUT: dict[str, tuple[dict, Damage, type[Exception], str]] = {
    'unreadable video': (VIDEOS, _video(b'no video'), ValueError, rf'{VIDEO}\.mp4 \(8 bytes\) cannot be read.*again'),
    'zero-length video': (VIDEOS, _video(b''), ValueError, rf'{VIDEO}\.mp4 \(0 bytes\) cannot be read.*again'),
    'missing video': (VIDEOS, lambda root: (root / 'videos' / f'{VIDEO}.mp4').unlink(), FileNotFoundError, VIDEO),
    'missing folder of frames': ({}, _no_list_of_frames, FileNotFoundError, rf'videos are missing.*{VIDEO}'),
    'missing frames': ({}, _no_frames_of_the_clip, FileNotFoundError, rf'{VIDEO}.*\.jpg'),
    'truncated frames': ({}, _half_a_frame, ValueError, rf'{VIDEO}.*\.jpg'),
    'box outside of [0, 1]': ({}, _rows(lambda row: [*row[:4], '1.2', *row[5:]]), ValueError, r'\.csv:1: .*\[0, 1\]'),
    'unknown label': ({}, _rows(lambda row: [*row[:6], '9', row[7]]), ValueError, r'\.csv:1: .*8 known ids, found 9'),
    'seven columns': ({}, _rows(lambda row: row[:7]), ValueError, r'\.csv:1: found 7 columns, expected 8'),
    'nine columns': ({}, _rows(lambda row: [*row, '1']), ValueError, r'\.csv:1: found 9 columns, expected 8'),
}


def _item(config_dir: Path, root: Path, **options) -> dict:
    """The first training item of the toy config."""
    cfg = Config.fromfile(config_dir / 'stmixer' / 'stmixer_r18_toy.py').train_dataloader.dataset
    if 'frame_list' in options:  # videos are opened and decoded instead of frames
        load = [dict(type='OpenVideo'), dict(type='SampleKeyFrameClip', clip_len=8, frame_interval=4)]
        cfg.pipeline = [*load, dict(type='DecodeVideoClip'), *cfg.pipeline[2:]]
    for name in options:  # or the old one would be merged into it
        del cfg[name]
    cfg.update(options, data_root=str(root))
    return DATASETS.build(cfg)[0]


@pytest.mark.parametrize('options, damage, kind, message', BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_named(config_dir, toy_ava, tmp_path, options, damage, kind, message):
    root = tmp_path / 'ava'
    shutil.copytree(toy_ava, root)
    assert _item(config_dir, root, **options)['inputs'].shape == (3, 8, 96, 128)
    damage(root)
    with pytest.raises(kind, match=message):
        _item(config_dir, root, **options)


def test_a_video_shorter_than_a_clip_repeats_its_ends(config_dir, toy_ava, tmp_path):
    """As documented: 61 frames reach key frame 902, and the clip of 29 frames around it goes beyond them."""
    root = tmp_path / 'ava'
    shutil.copytree(toy_ava, root)
    whole = _item(config_dir, root)['inputs']
    lines = (root / 'frame_lists' / 'train.csv').read_text().splitlines(keepends=True)
    (root / 'frame_lists' / 'train.csv').write_text(''.join(lines[:62]))
    (root / CSV).write_text(''.join(r for r in (root / CSV).read_text().splitlines(keepends=True) if ',0902,' in r))
    short = _item(config_dir, root)['inputs']
    assert short.shape == whole.shape
    assert (short[:, :5] == whole[:, :5]).all() and (short[:, 5:] == short[:, 4:5]).all()

"""The list of bad input that CycleACR's person boxes may be, through the validation set of its toy config.

Readers have tests of their own, in ``tests/datasets``; boxes as arrays in ``tests/apis``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmaction.datasets import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.config import Config

from mvbench_plugins.datasets.toy import write_ava

BOXES = 'annotations/person_boxes_val.csv'
FIRST, OTHER = 'val_0001', 'val_0002'


@pytest.fixture(scope='module')
def toy_ava(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(out, num_train=1, num_val=2, size=(64, 48), seconds=5)
    return out


@pytest.fixture
def root(toy_ava, tmp_path) -> Path:
    shutil.copytree(toy_ava, tmp_path / 'ava')
    return tmp_path / 'ava'


def _rows(root: Path) -> list[list[str]]:
    return [line.split(',') for line in (root / BOXES).read_text().splitlines()]


def _write(root: Path, rows: list[list[str]]) -> None:
    (root / BOXES).write_text(''.join(','.join(row) + '\n' for row in rows))


def _build(config_dir: Path, root: Path, **options) -> BaseActionDataset:
    cfg = Config.fromfile(config_dir / 'cycleacr' / 'cycleacr_r18_toy.py').val_dataloader.dataset
    cfg.update(options, data_root=str(root))
    return DATASETS.build(cfg)


def _keys(dataset: BaseActionDataset) -> set[str]:
    return {dataset.get_data_info(index)['img_key'] for index in range(len(dataset))}


def _in_pixels(row: list[str]) -> list[str]:
    return [*row[:2], *(str(float(value) * side) for value, side in zip(row[2:6], (64, 48, 64, 48))), row[6]]


#: What becomes of each row (None: it is left out), and the message.
BAD_INPUT: dict[str, tuple[Callable[[list[str]], list[str] | None], str]] = {
    'pixels instead of fractions': (_in_pixels, r'person_boxes_val\.csv:1: .*look like pixels: divide'),
    'x, y, w, h': (lambda row: [*row[:4], '0.01', '0.01', row[6]], r'person_boxes_val\.csv:1: .*not x, y, w, h'),
    'a video that is missed': (lambda row: row if row[0] == FIRST else None, rf'no boxes of 1 of the 2 .*{OTHER}'),
    'no boxes at all': (lambda row: None, r'person_boxes_val\.csv: the file holds no person boxes'),
    'a score of NaN': (lambda row: [*row[:6], 'nan'], r'person_boxes_val\.csv:1: score must be in \[0, 1\], found nan'),
    'a box of NaN': (lambda row: [*row[:2], 'nan', *row[3:]], r'person_boxes_val\.csv:1: .*must be finite'),
    'scores in per cent': (lambda row: [*row[:6], '97'], r'person_boxes_val\.csv:1: score must be in \[0, 1\]'),
}


@pytest.mark.parametrize('change, message', BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_boxes_are_named(config_dir, root, change, message):
    assert len(_build(config_dir, root)[0]['data_samples'].proposals)
    _write(root, [changed for row in _rows(root) if (changed := change(row)) is not None])
    with pytest.raises(ValueError, match=message):
        _build(config_dir, root)


def test_fractions_where_pixels_are_expected(config_dir, root):
    """AlphAction's json gives pixels, the csv fractions."""
    rows = _rows(root)
    keys = sorted({(row[0], int(row[1])) for row in rows})
    images = [
        dict(id=number, movie=video, timestamp=second, width=64, height=48)
        for number, (video, second) in enumerate(keys)
    ]
    entries = []
    for video, second, *values in rows:
        x1, y1, x2, y2, score = map(float, values)
        box = dict(image_id=keys.index((video, int(second))), bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
        entries.append(box)
    (root / 'images.json').write_text(json.dumps(dict(images=images)))
    (root / 'boxes.json').write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r'boxes\.json: bbox must be x, y, w, h in pixels.*fractions'):
        _build(config_dir, root, person_file='boxes.json', image_file='images.json')


def test_a_clip_without_boxes_is_no_sample(config_dir, root):
    """As in the published evaluation; the log counts them."""
    rows = _rows(root)
    before = _keys(_build(config_dir, root))
    gone = rows[0][:2]
    _write(root, [row for row in rows if row[:2] != gone])
    after = _keys(_build(config_dir, root))
    assert before - after == {f'{gone[0]},{int(gone[1]):04d}'} and after < before


def test_boxes_without_persons_above_the_threshold(config_dir, root):
    _write(root, [[*row[:6], '0.1'] for row in _rows(root)])
    with pytest.raises(ValueError, match=r'person_boxes_val\.csv: no person box of score 0\.8 or more'):
        _build(config_dir, root)
    assert _keys(_build(config_dir, root, person_score_thr=0.05))

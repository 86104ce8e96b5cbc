"""The list of bad input of JointFormer: videos on disk, through the released data sets and a small model.

Each case ends in one clear message, or in the masks that the documentation promises. Masks that users hand to the
inferencer have tests of their own in ``tests/apis``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jointformer_videos import build, rectangles
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image

import mvbench_plugins.datasets.vos  # noqa: F401  registers
from mvbench_plugins.common.palette_png import davis_palette, write_index_map

SIZE = 40, 70  # height, width
BOXES = {1: (5, 5, 30, 25), 2: (40, 10, 60, 30)}
FRAMES = 4
PIPELINE = [
    dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')]),
    dict(type='PackVOSInputs'),
]


@pytest.fixture
def root(tmp_path) -> Path:
    """A video of four frames in the layout of MOSE, with the mask of its first frame and a meta.json."""
    generator = np.random.default_rng(0)
    for number in range(FRAMES):
        path = tmp_path / 'valid' / 'JPEGImages' / 'v' / f'{number:05d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    _give(tmp_path, 0, rectangles(SIZE, BOXES))
    meta = {'videos': {'v': {'objects': {str(label): {} for label in BOXES}}}}
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    return tmp_path


def _give(root: Path, frame: int, mask: np.ndarray) -> None:
    path = root / 'valid' / 'Annotations' / 'v' / f'{frame:05d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_index_map(path, mask, davis_palette())


def _frame(root: Path, number: int) -> Path:
    return root / 'valid' / 'JPEGImages' / 'v' / f'{number:05d}.jpg'


def _run(root: Path, **options) -> list[np.ndarray]:
    """Index maps of all frames of the stream."""
    spec = dict(type='MOSEDataset', data_root=str(root), ann_file='meta.json', test_mode=True, pipeline=PIPELINE)
    model = build()
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(spec | options)
        frames = range(len(dataset.get_data_info(0)['images']))
        batches = (pseudo_collate([dataset[0, number]]) for number in frames)
        return [model.test_step(batch)[0][0].pred_sem_seg.sem_seg[0].numpy() for batch in batches]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


Damage = Callable[[Path], object]
BAD_INPUT: dict[str, tuple[Damage, type[Exception], str]] = {
    'mask of another size': (
        lambda root: _give(root, 0, rectangles((20, 30), {1: (2, 2, 9, 9)})),
        ValueError,
        r'00000\.png: the mask has 20 x 30 pixels .*00000\.jpg 40 x 70',
    ),
    'more objects than stated': (
        lambda root: _give(root, 0, rectangles(SIZE, BOXES | {7: (0, 30, 20, 39)})),
        ValueError,
        r'00000\.png: found the objects \[1, 2, 7\], but .*meta\.json states \[1, 2\]',
    ),
    'empty first mask': (
        lambda root: _give(root, 0, np.zeros(SIZE, np.uint8)),
        FileNotFoundError,
        r'Annotations/v: no mask that holds an object \(1 masks there\)',
    ),
    'frame that is cut off': (lambda root: _cut(_frame(root, 2)), ValueError, r'00002\.jpg: the frame cannot be read'),
    'frame that is no picture': (
        lambda root: _frame(root, 2).write_text('no picture'),
        ValueError,
        r'00002\.jpg: the frame cannot be read',
    ),
    'mask that is cut off': (
        lambda root: _cut(root / 'valid' / 'Annotations' / 'v' / '00000.png'),
        ValueError,
        r'00000\.png: the mask cannot be read',
    ),
    'mask without a frame': (
        lambda root: _give(root, 9, rectangles(SIZE, BOXES)),
        ValueError,
        r'1 of 2 masks have no frame of the same name .*00009\.png',
    ),
}


@pytest.mark.parametrize('damage, kind, message', BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_named(root, damage, kind, message):
    damage(root)
    with pytest.raises(kind, match=message):
        _run(root)


def test_the_video_itself_is_fine(root):
    maps = _run(root)
    assert len(maps) == FRAMES and all(found.shape == SIZE for found in maps)
    assert np.array_equal(maps[0], rectangles(SIZE, BOXES))
    assert set(np.unique(maps)) <= {0, *BOXES}


def test_an_empty_first_mask_is_no_start_where_a_later_one_has_objects(root):
    """The stream starts at the first mask that holds an object."""
    _give(root, 0, np.zeros(SIZE, np.uint8))
    _give(root, 1, rectangles(SIZE, BOXES))
    maps = _run(root, annotations='first_appearance')
    assert len(maps) == FRAMES - 1 and np.array_equal(maps[0], rectangles(SIZE, BOXES))


def test_pixels_of_255_beside_objects_belong_to_nobody(root):
    mask = rectangles(SIZE, BOXES | {255: (0, 30, 70, 40)})
    _give(root, 0, mask)
    maps = _run(root)
    assert set(np.unique(maps[0])) == {0, *BOXES} and 255 not in np.stack(maps)


def test_255_alone_is_an_object(root):
    """As in DAVIS 2016."""
    _give(root, 0, rectangles(SIZE, {255: BOXES[1]}))
    maps = _run(root, ann_file='')
    assert np.array_equal(maps[0], rectangles(SIZE, {255: BOXES[1]})) and set(np.unique(maps)) <= {0, 255}


def test_an_object_that_disappears_and_returns_keeps_its_label(root):
    """Masks of later frames, as YouTube-VOS may have them: without a known object, or with it elsewhere."""
    _give(root, 1, rectangles(SIZE, {2: BOXES[2]}))
    _give(root, 2, rectangles(SIZE, {1: (20, 15, 38, 35), 2: BOXES[2]}))
    maps = _run(root, annotations='all')
    assert len(maps) == FRAMES and set(np.unique(maps)) <= {0, *BOXES}
    for frame in (1, 2):
        _give(root, frame, rectangles(SIZE, BOXES))
    assert np.array_equal(maps, _run(root, annotations='all'))

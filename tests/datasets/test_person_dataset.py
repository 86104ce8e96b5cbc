"""AVA with given persons: which key frames are samples, with which boxes, and what is refused at the start."""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
import pytest
from mmaction.registry import DATASETS

from mvbench_plugins.datasets.toy import write_ava

CSV = """\
a,0902,0.25,0.25,0.5,0.75,2,0
a,0902,0.25,0.25,0.5,0.75,4,0
a,0902,0.5,0.25,0.75,1,,1
a,0903,0,0,1,1,1,0
b,0902,0.2,0.2,0.4,0.4,3,0
"""
# 904 is not annotated, 900 out of range, 903 has nobody above 0.8, video c is no part of the set.
PERSONS = """\
b,902,0.2,0.2,0.45,0.45,0.9
a,902,0.25,0.25,0.5,0.7,0.85
a,902,0.5,0.25,0.7,1,0.99
a,902,0.1,0.1,0.2,0.2,0.3
a,903,0,0,0.9,1,0.79
a,904,0,0,0.9,1,0.8
a,900,0,0,0.9,1,0.95
c,902,0,0,0.9,1,0.95
"""


@pytest.fixture
def ava(tmp_path):
    """``ava(csv, persons, **options)`` builds a test set of these files, of two videos of 150 frames."""

    def build(csv=CSV, persons=PERSONS, **options):
        (tmp_path / 'ava.csv').write_text(csv)
        (tmp_path / 'persons.csv').write_text(persons)
        for video in 'ab':
            (tmp_path / 'frames' / video).mkdir(parents=True, exist_ok=True)
        frames = [f'{video} 0 {frame} {video}/{frame + 1:06d}.jpg ""' for video in 'ab' for frame in range(150)]
        (tmp_path / 'list.csv').write_text('\n'.join(frames) + '\n')
        settings = dict(
            type='AVAPersonDataset',
            data_root=str(tmp_path),
            ann_file='ava.csv',
            frame_list='list.csv',
            person_file='persons.csv',
            num_classes=5,
            test_mode=True,
            pipeline=[],
        )
        return DATASETS.build(settings | options)

    return build


def test_key_frames_are_those_with_persons(ava, log):
    dataset = ava()
    assert [info['img_key'] for info in dataset] == ['a,0902', 'a,0904', 'b,0902']
    first, bare, last = dataset
    # Highest score first, those below the threshold left out.
    np.testing.assert_allclose(first['proposals'], [[0.5, 0.25, 0.7, 1], [0.25, 0.25, 0.5, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(first['scores'], [0.99, 0.85])
    assert first['proposals'].dtype == first['scores'].dtype == np.float32
    np.testing.assert_allclose(first['gt_bboxes'], [[0.25, 0.25, 0.5, 0.75], [0.5, 0.25, 0.75, 1]])
    np.testing.assert_array_equal(first['gt_labels'], [[0, 0, 1, 0, 1], [0] * 5])
    assert (first['key_frame'], first['fps'], first['total_frames']) == (60, 30, 150)
    # Detections where nobody is annotated are evaluated, too.
    assert bare['gt_bboxes'].shape == (0, 4) and bare['gt_labels'].shape == (0, 5) and len(bare['proposals']) == 1
    np.testing.assert_allclose(last['scores'], [0.9])
    counts = [line for line in log if 'persons.csv' in line]
    assert (
        len(counts) == 1 and '3 key frames have persons of score 0.8 or more, 1 of them are not annotated' in counts[0]
    )
    assert '1 of 3 annotated key frames have no such person' in counts[0] and '1 other videos' in counts[0]


def test_threshold(ava):
    keys = {thr: [info['img_key'] for info in ava(person_score_thr=thr)] for thr in (0.0, 0.79, 0.95)}
    assert keys[0.0] == keys[0.79] == ['a,0902', 'a,0903', 'a,0904', 'b,0902']
    assert keys[0.95] == ['a,0902']
    assert len(ava(person_score_thr=0.0)[0]['proposals']) == 3


def test_range_and_exclusions(ava, tmp_path):
    (tmp_path / 'excluded.csv').write_text('a,0904\na,0902\n')
    assert [info['img_key'] for info in ava(exclude_file='excluded.csv')] == ['b,0902']
    assert [info['img_key'] for info in ava(timestamp_range=(900, 902))] == ['a,0900', 'a,0902', 'b,0902']


@pytest.mark.parametrize('test_mode', [True, False])
def test_annotated_persons(ava, test_mode):
    dataset = ava(person_file=None, test_mode=test_mode)
    assert [info['img_key'] for info in dataset] == ['a,0902', 'a,0903', 'b,0902']
    for info in dataset:
        np.testing.assert_array_equal(info['proposals'], info['gt_bboxes'])
        np.testing.assert_array_equal(info['scores'], np.ones(len(info['gt_bboxes'])))


def test_arguments_of_the_base_class(ava):
    lazy = ava(lazy_init=True, indices=2)
    assert not lazy._fully_initialized
    assert [info['img_key'] for info in lazy] == ['a,0902', 'a,0904']
    assert pickle.loads(pickle.dumps(lazy))[1]['img_key'] == 'a,0904'
    assert len(ava(custom_classes=[4, 3], num_classes=3)[0]['gt_labels'][0]) == 3


def test_json_of_alphaction(ava, tmp_path):
    """Annotations and boxes in pixels; the boxes alone with the annotations as csv need the table of images."""
    sizes = dict(width=200, height=100)
    images = [dict(id=number, movie=video, timestamp=902, **sizes) for number, video in enumerate('ab')]
    annotations = [
        dict(image_id=0, bbox=[50, 25, 51, 51], action_ids=[2, 4]),
        dict(image_id=1, bbox=[40, 20, 41, 21], action_ids=[3]),
    ]
    (tmp_path / 'min.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    boxes = [dict(image_id=number, bbox=[20, 10, 101, 51], score=0.9, category_id=1) for number in range(2)]
    (tmp_path / 'det.json').write_text(json.dumps(boxes))
    dataset = ava(ann_file='min.json', person_file='det.json')
    assert [info['img_key'] for info in dataset] == ['a,0902', 'b,0902']
    np.testing.assert_allclose(dataset[0]['gt_bboxes'], [[0.25, 0.25, 0.5, 0.75]])
    np.testing.assert_array_equal(dataset[0]['gt_labels'], [[0, 0, 1, 0, 1]])
    np.testing.assert_allclose(dataset[0]['proposals'], [[0.1, 0.1, 0.6, 0.6]], rtol=1e-6)
    mixed = ava(person_file='det.json', image_file='min.json')
    assert [len(info['gt_bboxes']) for info in mixed] == [2, 1]
    with pytest.raises(ValueError, match=r'det\.json: .*image_file'):
        ava(person_file='det.json')


# ---- what is wrong


def test_file_that_misses_a_video(ava, log):
    persons = PERSONS.replace('b,902', 'other,902')
    with pytest.raises(
        ValueError, match=r"persons\.csv: no boxes of 1 of the 2 videos of .*ava\.csv: b\..*missing='skip'"
    ):
        ava(persons=persons)
    assert [info['img_key'] for info in ava(persons=persons, missing='skip')] == ['a,0902', 'a,0904']
    assert any('no boxes of 1 of the 2 videos' in line and 'left out' in line for line in log)


def test_file_of_another_split(ava):
    for missing in ('error', 'skip'):
        with pytest.raises(ValueError, match=r'no boxes of 2 of the 2 videos .*a, b'):
            ava(persons='x,902,0,0,1,1,0.9\n', missing=missing)


BAD = {
    'training': (dict(test_mode=False), 'person_file .* is given without test_mode=True'),
    'threshold': (dict(person_score_thr=80), r'person_score_thr must be in \[0, 1\], found 80'),
    'nobody': (dict(person_score_thr=1.0), 'no person box of score 1.0 or more in the key frames of .*ava.csv'),
    'pixels': (dict(persons='a,902,10,20,30,40,0.9\n'), r'persons\.csv:1: .*look like pixels'),
    'NaN': (dict(persons='a,902,0.1,0.1,0.2,0.2,nan\n'), r'persons\.csv:1: score must be in \[0, 1\], found nan'),
    'no file': (dict(person_file='gone.pkl'), r'gone\.pkl does not exist: check data_root and person_file'),
}


@pytest.mark.parametrize('bad', BAD)
def test_refused(ava, bad):
    options, message = BAD[bad]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ava(**options)


def test_key_frame_beyond_the_video(ava):
    with pytest.raises(FileNotFoundError, match='1 key frames lie outside of their videos: a,0906'):
        ava(persons=PERSONS + 'a,906,0,0,1,1,0.9\n')


# ---- toy data


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'ava'
    write_ava(root, seed=1, num_train=1, num_val=6, size=(96, 64), seconds=7)
    return root


def test_toy_persons_are_those_of_a_detector(toy):
    """Most are found, close to the truth and above the threshold; few others are there."""
    truth: dict = {}
    with open(toy / 'annotations' / 'ava_val_v2.2.csv', newline='') as file:
        for video, second, *box, _, person in csv.reader(file):
            truth.setdefault((video, second), {})[person] = np.array(box, float)
    found = close = false = 0
    with open(toy / 'annotations' / 'person_boxes_val.csv', newline='') as file:
        rows = list(csv.reader(file))
    for video, second, *box, score in rows:
        box, truths = np.array(box, float), np.array(list(truth[video, second].values()))
        sizes = np.tile(truths[:, 2:] - truths[:, :2], 2)
        if (np.abs(box - truths) <= 0.1 * sizes + 1e-5).all(axis=1).any():
            found += 1
            close += float(score) >= 0.8
        else:
            false += 1
    persons = sum(map(len, truth.values()))
    assert persons > 40 and 0.8 * persons < found <= persons and close == found
    assert 0 < false < 0.6 * len(truth)


def test_toy_data_through_the_pipeline(toy):
    """Frames to packed inputs, with boxes in pixels of the resized clip."""
    pipeline = [
        dict(type='mmaction.SampleKeyFrameClip', clip_len=4, frame_interval=4, offset=1),
        dict(type='mmaction.LoadClipFrames'),
        dict(type='mmaction.ResizeShortSideTruncated', scale=48, max_long=80),
        dict(type='mmaction.ClipBoxes'),
        dict(type='mmaction.FormatShape', input_format='NCTHW', collapse=True),
        dict(type='mmaction.PackPersonInputs'),
    ]
    settings = dict(
        type='AVAPersonDataset',
        data_root=str(toy),
        ann_file='annotations/ava_val_v2.2.csv',
        frame_list='frame_lists/val.csv',
        num_classes=9,
        test_mode=True,
    )
    dataset = DATASETS.build(settings | dict(person_file='annotations/person_boxes_val.csv', pipeline=pipeline))
    raw = DATASETS.build(settings | dict(person_file='annotations/person_boxes_val.csv', pipeline=[]))
    packed = dataset[0]
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 4, 48, 72) and sample.img_shape == (48, 72)
    assert (sample.video_id, sample.timestamp) == ('val_0001', 902)
    want = np.clip(raw[0]['proposals'] * [72, 48, 72, 48], 0, [71, 47, 71, 47])
    np.testing.assert_allclose(sample.proposals.bboxes, want, rtol=1e-5)
    np.testing.assert_allclose(sample.proposals.scores, raw[0]['scores'])
    assert (np.diff(sample.proposals.scores) <= 0).all() and (sample.proposals.scores >= 0.8).all()

"""Transforms of models on given person boxes: the published numbers, for annotated and given boxes alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

from mvbench_plugins.datasets.action.person_transforms import crop_boxes, resize_boxes, resized_size, shift_hsv


def clip(height, width, boxes=(), proposals=()):
    rng = np.random.default_rng(0)
    return dict(
        imgs=[rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)],
        img_shape=(height, width),
        gt_bboxes=np.array(boxes, np.float32).reshape(-1, 4),
        gt_labels=np.zeros((len(boxes), 5), np.float32),
        proposals=np.array(proposals, np.float32).reshape(-1, 4),
        scores=np.linspace(1, 0.8, len(proposals), dtype=np.float32),
    )


def build(kind, **options):
    return TRANSFORMS.build(dict(type=f'mmaction.{kind}', **options))


@pytest.mark.parametrize(
    'shape, max_long, want',
    [
        ((360, 640), 464, (256, 455)),
        ((360, 480), 464, (256, 341)),  # 341.3
        ((300, 401), None, (256, 342)),  # 342.2
        ((100, 145), None, (256, 371)),  # 371.2
        ((100, 147), None, (256, 376)),  # 376.3
        ((100, 136), None, (256, 348)),  # 348.2
        ((100, 158), None, (256, 404)),  # 404.5 is truncated
        ((480, 360), 464, (341, 256)),
        ((360, 854), 464, (196, 464)),  # 195.6 rounds, 464.97 is truncated
        ((360, 854), None, (256, 607)),
        ((544, 1280), 464, (197, 463)),
        ((1280, 544), 464, (463, 197)),
        ((256, 300), 464, (256, 300)),  # width and height are not swapped where the short side is right already
        ((300, 256), 464, (300, 256)),
        ((128, 128), 464, (256, 256)),
    ],
)
def test_resized_size(shape, max_long, want):
    assert resized_size(*shape, 256, max_long) == want


def test_resized_clip():
    results = build('ResizeShortSideTruncated', scale=50)(clip(100, 145, [[29, 20, 145, 100]], [[0, 0, 58, 50]]))
    assert results['img_shape'] == (50, 72) and all(image.shape == (50, 72, 3) for image in results['imgs'])
    assert (results['imgs'][1] == cv2.resize(clip(100, 145)['imgs'][1], (72, 50))).all()
    # Each axis by its own ratio, 72 / 145 and 1 / 2.
    np.testing.assert_allclose(results['gt_bboxes'], [[14.4, 10, 72, 50]], rtol=1e-6)
    np.testing.assert_allclose(results['proposals'], [[0, 0, 28.8, 25]], rtol=1e-6)
    assert results['proposals'].dtype == np.float32


def test_boxes_of_another_size():
    np.testing.assert_allclose(
        resize_boxes(np.array([[34.1, 25.6, 341, 256]]), (256, 341), (360, 480)), [[48, 36, 480, 360]]
    )


def test_cropped_boxes():
    boxes = np.array([[10, 20, 110, 180], [0, 0, 339, 255], [300, 200, 341, 256], [50.5, 60.25, 58, 240]])
    want = [[0, 4, 70, 164], [0, 0, 224, 224], [224, 184, 224, 224], [10.5, 44.25, 18, 224]]
    np.testing.assert_array_equal(crop_boxes(boxes, (40, 16, 264, 240)), want)


def test_random_crop():
    np.random.seed(0)
    places = set()
    for _ in range(60):
        # Every pixel says where it is.
        results = clip(34, 40, [[0, 0, 40, 34]], [[10, 10, 20, 20]])
        image = np.stack([*np.indices((34, 40)), np.zeros((34, 40))], axis=-1).astype(np.uint8)
        results['imgs'] = [image, image]
        results = build('RandomClipCrop', size=32)(results)
        assert results['img_shape'] == (32, 32) == results['imgs'][1].shape[:2]
        y, x = results['imgs'][1][0, 0, :2].astype(int)
        places.add((x, y))
        np.testing.assert_array_equal(results['gt_bboxes'], [[0, 0, 32, 32]])
        np.testing.assert_array_equal(results['proposals'], [[10 - x, 10 - y, 20 - x, 20 - y]])
    # int(u * (side - size)): the last place is never drawn, as published
    assert {x for x, _ in places} == set(range(8)) and {y for _, y in places} == {0, 1}


def test_clip_smaller_than_the_crop():
    with pytest.raises(ValueError, match=r'RandomClipCrop: v,0902 has 34 x 40 pixels .*size=48; resize'):
        build('RandomClipCrop', size=48)(clip(34, 40) | dict(img_key='v,0902'))


def test_shifted_colours():
    """In OpenCV's HSV, computed by hand."""
    image = np.array([[[200, 100, 100], [100, 200, 100], [10, 10, 10], [255, 255, 255]]], np.uint8)  # RGB
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    assert hsv[0, :2, 0].tolist() == [0, 60]
    got = cv2.cvtColor(shift_hsv(image, -10, 20, -30), cv2.COLOR_RGB2HSV).astype(int)
    # Red turns below 0, around the circle; the codes of 8 bits lose a level.
    np.testing.assert_allclose(got[0, :2, 0], [170, 50], atol=1)
    np.testing.assert_allclose(got[0, :2, 1], hsv[0, :2, 1] + 20, atol=2)
    assert got[0, :, 2].tolist() == [170, 170, 0, 225]
    assert (shift_hsv(image, 0, 0, 0) == image).all()


def test_colour_jitter_is_one_of_each_clip():
    np.random.seed(0)
    shifts = set()
    for _ in range(40):
        results = clip(4, 4)
        results['imgs'] = [np.full((4, 4, 3), (100, 100, 100), np.uint8)] * 3
        images = build('ClipHSVJitter', hue=0, saturation=0, value=2)(results)['imgs']
        assert (images[0] == images[2]).all()
        shifts.add(int(images[0][0, 0, 0]) - 100)
    assert shifts == {-2, -1, 0, 1, 2}


def test_other_transforms_move_given_boxes_as_well():
    boxes = [[10, 5, 30, 20], [-5, 0, 60, 60]]
    results = build('FlipClip', prob=1.0)(clip(40, 60, boxes, boxes))
    assert results['proposals'].tolist() == [[29, 5, 49, 20], [-1, 0, 64, 60]]
    results = build('ClipBoxes')(results)
    assert results['proposals'].tolist() == [[29, 5, 49, 20], [0, 0, 59, 39]]
    results = build('ResizeShortSide', scale=20)(results)
    assert results['proposals'].tolist() == results['gt_bboxes'].tolist() == [[14.5, 2.5, 24.5, 10], [0, 0, 29.5, 19.5]]


@pytest.mark.parametrize('annotated', [True, False])
@pytest.mark.parametrize('count', [0, 3])
def test_packing(annotated, count):
    """Given boxes go with their scores, with annotations or without, none and several."""
    results = clip(40, 60, [[1, 2, 3, 4]], [[0, 0, 10 + row, 20] for row in range(count)])
    results |= dict(imgs=np.zeros((3, 2, 40, 60), np.uint8), video_id='v', timestamp=902)
    if not annotated:
        del results['gt_bboxes'], results['gt_labels']
    sample = build('PackPersonInputs')(results)['data_samples']
    assert sample.proposals.bboxes.tolist() == results['proposals'].tolist()
    np.testing.assert_allclose(sample.proposals.scores, [1, 0.9, 0.8][:count])
    assert len(sample.proposals) == count and sample.proposals.bboxes.shape == (count, 4)
    assert (sample.video_id, sample.timestamp, sample.img_shape) == ('v', 902, (40, 60))
    assert ('gt_instances' in sample) == annotated


def test_packing_without_given_boxes():
    """In training the annotated boxes are the persons."""
    results = clip(40, 60, [[1, 2, 3, 4]]) | dict(imgs=np.zeros((3, 2, 40, 60), np.uint8))
    del results['proposals']
    assert 'proposals' not in build('PackPersonInputs')(results)['data_samples']


@pytest.mark.parametrize(
    'clip_len, interval, offset, first, second',
    [(64, 1, 0, -32, -31), (32, 2, 0, -32, -30), (16, 4, 1, -31, -27)],
)
def test_published_clips_of_plain_frames(clip_len, interval, offset, first, second):
    """The boundary before the first frame of the second is the centre of the published clips."""
    sample = dict(key_frame=500, total_frames=1000, img_key='v,0902')
    options = dict(clip_len=clip_len, frame_interval=interval, offset=offset)
    frames = build('SampleKeyFrameClip', **options)(dict(sample))['frame_inds'] - 500
    assert frames[:2].tolist() == [first, second] and len(frames) == clip_len
    # The offset counts frames of the data set: at twice the rate, twice as many.
    faster = build('SampleKeyFrameClip', **options)(sample | dict(fps=30, avg_fps=60.0, total_frames=2000))
    assert (faster['frame_inds'] - 1000).tolist() == (2 * frames).tolist()

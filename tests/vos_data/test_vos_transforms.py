"""Training transforms: image and mask move together, clips alike or frame by frame, ranges, objects, packing."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from PIL import Image
from scipy.interpolate import RBFInterpolator

from mvbench_plugins.datasets.vos.colour import shift_hue
from mvbench_plugins.datasets.vos.geometry import MEAN_COLOUR, affine_matrix, thin_plate_spline

SIZE = (96, 128)


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def frame(label: int = 1) -> dict:
    """A frame whose red is 255 on the object and 0 elsewhere, so that mask and image can be compared."""
    mask = np.zeros(SIZE, np.uint8)
    mask[30:60, 40:90] = label
    mask[44:76, 20:60] = label
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 0] = np.where(mask, 255, 0)
    image[..., 2] = 40
    return dict(img=image, gt_seg_map=mask)


def apply(kind: str, results: dict | None = None, **options) -> dict:
    return TRANSFORMS.build(dict(type=kind, **options))(results or frame())


def together(results: dict) -> float:
    """Intersection over union of the mask and of the red pixels."""
    seen, mask = results['img'][..., 0] > 127, results['gt_seg_map'] > 0
    seen &= (results['img'][..., 2] < 80).astype(bool)  # what is filled in from outside is grey
    return (seen & mask).sum() / (seen | mask).sum()


def broadcast(steps: list, share: bool, results: list[dict]) -> dict:
    clip = {key: [entry[key] for entry in results] for key in results[0]}
    return TRANSFORMS.build(dict(type='TransformBroadcaster', share_random_params=share, transforms=steps))(clip)


# ---------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    'kind, options',
    [
        ('RandomVOSAffine', dict(degrees=15, shear=10)),
        ('RandomVOSAffine', dict(degrees=20, shear=10, scale=(0.9, 1.1), interpolation='bicubic')),
        ('RandomVOSResizedCrop', dict(size=96, area=(0.7, 1.0))),
        ('RandomThinPlateSpline', dict()),
    ],
)
def test_image_and_mask_move_together(kind, options):
    before = frame()
    for _ in range(10):
        after = apply(kind, frame(), **options)
        assert after['img'].dtype == after['gt_seg_map'].dtype == np.uint8
        assert set(np.unique(after['gt_seg_map'])) <= {0, 1}
        assert together(after) > 0.9
        assert after['img'].shape != before['img'].shape or (after['img'] != before['img']).any()


def test_affine_map_of_known_angle_scale_and_shear():
    x, y, one = affine_matrix(90, 2, 0, (128, 96)) @ [74, 48, 1]
    assert np.allclose([x, y, one], [64, 48 + 20, 1]), 'right of the centre goes below it, twice as far'
    sheared = affine_matrix(0, 1, 45, (128, 96)) @ [64, 58, 1]
    assert np.allclose(sheared, [54, 58, 1]), 'rows move against their distance from the centre'


def test_affine_ranges_and_fill():
    transform = TRANSFORMS.build(dict(type='RandomVOSAffine', degrees=20, shear=10, scale=(0.8, 1.5)))
    angles, scales, shears = np.array([transform.draw() for _ in range(2000)]).T
    for values, low, high in ((angles, -20, 20), (scales, 0.8, 1.5), (shears, -10, 10)):
        assert low <= values.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < values.max() <= high
    small = apply('RandomVOSAffine', frame(), degrees=0, shear=0, scale=(0.5, 0.5))
    assert tuple(small['img'][0, 0]) == MEAN_COLOUR and small['gt_seg_map'][0, 0] == 0
    assert small['gt_seg_map'].sum() == pytest.approx(frame()['gt_seg_map'].sum() / 4, rel=0.05)


def test_affine_maps_can_be_switched_off():
    transform = TRANSFORMS.build(dict(type='RandomVOSAffine'))
    transform.enabled = False
    assert np.array_equal(transform(frame())['img'], frame()['img'])
    transform.enabled = True
    assert not np.array_equal(transform(frame())['img'], frame()['img'])


def test_resized_crop_draws_area_and_ratio_in_range():
    transform = TRANSFORMS.build(dict(type='RandomVOSResizedCrop', size=32))
    height, width = 480, 854
    x1, y1, x2, y2 = np.array([transform.draw(height, width) for _ in range(2000)]).T
    assert x1.min() >= 0 and y1.min() >= 0 and x2.max() <= width and y2.max() <= height
    areas, ratios = (x2 - x1) * (y2 - y1) / (height * width), (x2 - x1) / (y2 - y1)
    assert 0.355 < areas.min() < 0.4 and ratios.min() > 0.745 and 1.3 < ratios.max() < 1.34
    out = transform(frame())
    assert out['img'].shape == (32, 32, 3) and out['gt_seg_map'].shape == out['img_shape'] == (32, 32)


def test_resized_crop_of_a_long_frame_takes_the_middle():
    transform = TRANSFORMS.build(dict(type='RandomVOSResizedCrop', area=(0.9, 1.0)))
    assert transform.draw(100, 1000) == (433, 0, 566, 100)
    assert transform.draw(1000, 100) == (0, 433, 100, 566)


def test_spline_is_that_of_scipy():
    points = np.random.rand(12, 2) * (SIZE[1], SIZE[0])
    values = points + np.random.randn(12, 2) * 4
    rows, columns = np.arange(SIZE[0]), np.arange(SIZE[1])
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    expected = RBFInterpolator(points, values, kernel='thin_plate_spline')(pixels).T.reshape(2, *SIZE)
    assert np.allclose(thin_plate_spline(points, values, rows, columns), expected, atol=0.01)


def test_spline_moves_points_where_they_were_sent():
    transform = TRANSFORMS.build(dict(type='RandomThinPlateSpline', std=0.03))
    source, target = transform.draw(*SIZE)
    moves = np.concatenate(
        [(target - source) / (SIZE[1], SIZE[0]) for _ in range(200) for source, target in [transform.draw(*SIZE)]]
    )
    assert moves.std() == pytest.approx(0.03, rel=0.05) and source.shape == (12, 2)
    at = thin_plate_spline(target, source, target[:1, 1], target[:1, 0])
    assert np.allclose(at[:, 0, 0], source[0], atol=1e-2)


# ---------------------------------------------------------------------------------------------------- colour


def test_jitter_leaves_the_mask_and_stays_in_range():
    transform = TRANSFORMS.build(
        dict(type='RandomVOSColorJitter', brightness=0.1, contrast=0.03, saturation=0.2, hue=0.05)
    )
    factors = np.array([transform.draw()[0] for _ in range(1000)])
    assert np.allclose(factors.min(axis=0), [0.9, 0.97, 0.8], atol=0.005)
    assert np.allclose(factors.max(axis=0), [1.1, 1.03, 1.2], atol=0.005)
    assert {tuple(transform.draw()[2]) for _ in range(400)} >= {(0, 1, 2, 3), (3, 2, 1, 0)}
    out = transform(frame())
    assert np.array_equal(out['gt_seg_map'], frame()['gt_seg_map']) and out['img'].shape == (*SIZE, 3)


def test_brightness_alone_scales_the_image():
    out = apply(
        'RandomVOSColorJitter', dict(img=np.full((4, 4, 3), 100, np.uint8)), brightness=0.5, contrast=0, saturation=0
    )
    assert 50 <= out['img'].min() == out['img'].max() <= 150 and out['img'][0, 0, 0] != 100


@pytest.mark.parametrize('shift', [-0.3, 0.05, 0.5])
def test_hue_turns(shift):
    colour = (200, 80, 40)
    turned = shift_hue(Image.new('RGB', (1, 1), colour), shift).getpixel((0, 0))
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    assert np.allclose(turned, colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value), atol=5)


def test_hue_out_of_range():
    with pytest.raises(ValueError, match=r'hue must be in \[0, 0.5\], found 0.7'):
        TRANSFORMS.build(dict(type='RandomVOSColorJitter', hue=0.7))


# ---------------------------------------------------------------------------------------------------- clips


STEPS = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomVOSResizedCrop', size=64),
    dict(type='RandomVOSColorJitter', brightness=0.3),
    dict(
        type='RandomGrayscale', prob=0.3, keep_channels=True, channel_weights=(0.299, 0.587, 0.114), color_format='rgb'
    ),
    dict(type='RandomVOSAffine'),
    dict(type='RandomApply', prob=0.5, transforms=[dict(type='RandomThinPlateSpline')]),
]


def test_frames_of_a_clip_are_changed_alike_and_clips_differ():
    first, second = (broadcast(STEPS, True, [frame() for _ in range(3)]) for _ in range(2))
    for key in ('img', 'gt_seg_map'):
        assert all(np.array_equal(first[key][0], other) for other in first[key][1:])
        assert not np.array_equal(first[key][0], second[key][0])


def test_frames_are_changed_each_for_itself():
    for step in (STEPS[2], STEPS[4]):
        images = broadcast([step], False, [frame() for _ in range(3)])['img']
        assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])


def test_static_image_becomes_a_clip(tmp_path):
    """The whole chain of stage 0, with stock transforms where they serve."""
    grey = np.where(frame()['gt_seg_map'], 230, 20).astype(np.uint8)
    Image.fromarray(frame()['img']).save(tmp_path / '1.jpg', quality=98)
    Image.fromarray(grey).save(tmp_path / '1.png')
    load = [dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')]
    once = [dict(type='RandomVOSAffine', degrees=0, shear=0, scale=(0.8, 1.5), interpolation='nearest'), STEPS[0]]
    each = [
        dict(type='RandomVOSAffine', degrees=20, interpolation='bicubic', mask_interpolation='bicubic'),
        dict(type='Resize', scale=(64, 10000), keep_ratio=True, backend='pillow', interpolation='bicubic'),
        dict(type='RandomCrop', crop_size=(64, 64), allow_negative_crop=True),
        STEPS[5],
        dict(type='BinariseVOSMask'),
    ]
    pipeline = [
        dict(type='RepeatStaticImage', num_frames=3),
        dict(type='TransformBroadcaster', transforms=load),
        dict(type='TransformBroadcaster', share_random_params=True, transforms=once),
        dict(type='TransformBroadcaster', transforms=each),
        dict(type='SelectVOSObjects', max_objects=1),
        dict(type='PackVOSInputs'),
    ]
    dataset = DATASETS.build(
        dict(type='StaticVOSDataset', data_root=str(tmp_path), data_prefix=dict(img='.', mask='.'), pipeline=pipeline)
    )
    for _ in range(5):
        packed = dataset[0]
        images, clip = packed['inputs']['img'], packed['data_samples']
        assert images.shape == (3, 3, 64, 64) and clip.num_objects == 1
        masks = torch.stack([sample.gt_sem_seg.sem_seg[0] for sample in clip.video_data_samples])
        assert set(masks.unique().tolist()) == {0, 1} and not torch.equal(masks[0], masks[1])
        shown = (images[:, 0] > 127) & (images[:, 2] < 90)
        assert (shown & (masks > 0)).sum() > 0.85 * (masks > 0).sum(), 'the mask lies on the object'


# ---------------------------------------------------------------------------------------------------- objects


def stripes(*labels: int) -> np.ndarray:
    """A row of 100 pixels per label."""
    return np.repeat(np.array([labels], np.uint8), 100, axis=1)


def select(masks: list[np.ndarray], last: bool = True, **options) -> dict | None:
    results = dict(gt_seg_map=masks, last_try=[last] * len(masks))
    return TRANSFORMS.build(dict(type='SelectVOSObjects', **options))(results)


def test_objects_of_the_first_frame_are_numbered_from_1():
    out = select([stripes(0, 7, 9), stripes(9, 0, 4)])
    assert out['num_objects'] == 2
    assert [mask[0, ::100].tolist() for mask in out['gt_seg_map']] == [[0, 1, 2], [2, 0, 0]]


def test_at_most_three_objects_drawn_without_replacement():
    chosen = set()
    for _ in range(60):
        out = select([stripes(0, 2, 3, 5, 8)])
        slots = out['gt_seg_map'][0][0, ::100].tolist()
        assert out['num_objects'] == 3 and sorted(slots) == [0, 0, 1, 2, 3]
        chosen.update((label, slot) for label, slot in zip((2, 3, 5, 8), slots[1:]))
    assert {label for label, slot in chosen if slot} == {2, 3, 5, 8}
    assert {label for label, slot in chosen if not slot} == {2, 3, 5, 8}


def test_clip_without_objects_is_turned_down_unless_it_is_the_last_try():
    empty = [stripes(0), stripes(4)]
    assert select(empty, last=False) is None
    out = select(empty)
    assert out['num_objects'] == 1 and not np.stack(out['gt_seg_map']).any()


def test_255_of_vost_stays_and_is_no_object():
    out = select([stripes(0, 1, 1, 1, 1, 255), stripes(255, 255, 0, 0, 1, 1)], last=False, ignore_void=True)
    assert out['num_objects'] == 1
    assert out['gt_seg_map'][1][0, ::100].tolist() == [255, 255, 0, 0, 1, 1]
    assert select([stripes(0, 1, 1, 1, 255)], last=False, ignore_void=True) is None, 'a quarter is not annotated'
    assert select([stripes(0, 255)], last=False)['num_objects'] == 1, 'elsewhere 255 is an object like others'


@pytest.mark.parametrize(
    'areas, kept',
    [((901, 0, 0), True), ((900, 399, 399), True), ((900, 0, 400), False), ((101, 0, 0), True), ((100, 0, 0), False)],
)
def test_tiny_objects_of_bl30k(areas, kept):
    masks = [(np.arange(2500) < area).astype(np.uint8)[None] for area in areas]
    out = select(masks, last=False, small_object_areas=(100, 400, 900))
    assert (out is not None) == kept


def test_number_of_objects_is_checked():
    with pytest.raises(ValueError, match='max_objects must be from 1 to 254, found 0'):
        TRANSFORMS.build(dict(type='SelectVOSObjects', max_objects=0))

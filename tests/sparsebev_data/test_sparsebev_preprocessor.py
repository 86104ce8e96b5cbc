"""What happens to images on the device, against plain loops written from the description."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample

from mvbench_plugins.sparsebev import color_augmentation
from mvbench_plugins.sparsebev import grid_mask as grid_mask_module
from mvbench_plugins.sparsebev.color_augmentation import augment_colors, hsv_to_rgb, rgb_to_hsv
from mvbench_plugins.sparsebev.data_preprocessor import SparseBEVDataPreprocessor
from mvbench_plugins.sparsebev.grid_mask import grid_mask

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def rgb_images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator).float()


def test_hue_saturation_and_value_are_those_of_the_standard_library():
    images = rgb_images(2, 3, 8, 8)
    images[0, :, 0, 0] = 0
    images[0, :, 0, 1] = 255
    images[0, :, 0, 2] = torch.tensor([200.0, 200.0, 10.0])  # two equal maxima
    images[0, :, 0, 3] = torch.tensor([10.0, 200.0, 200.0])
    images[0, :, 0, 4] = torch.tensor([200.0, 10.0, 200.0])
    hue, saturation, value = rgb_to_hsv(images)
    for n, y, x in np.ndindex(2, 8, 8):
        want = colorsys.rgb_to_hsv(*(images[n, :, y, x] / 255).tolist())
        got = hue[n, y, x] / 360, saturation[n, y, x], value[n, y, x] / 255
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_colours_come_back_also_beyond_their_range():
    images = rgb_images(4, 3, 16, 16) * 1.7 - 60  # brightness and contrast are not clipped
    torch.testing.assert_close(hsv_to_rgb(*rgb_to_hsv(images)), images, atol=2e-3, rtol=1e-4)


class Draws:
    """Chosen instead of random numbers: each coin and each number in turn."""

    def __init__(self, monkeypatch, coins: list[list[bool]], numbers: list[list[float]]) -> None:
        monkeypatch.setattr(color_augmentation, '_coin', lambda images: self._next(coins).bool())
        monkeypatch.setattr(color_augmentation, '_uniform', self._uniform)
        self.numbers, self.ranges = numbers, []

    def _uniform(self, images: torch.Tensor, low: float, high: float) -> torch.Tensor:
        self.ranges.append((low, high))
        return self._next(self.numbers)

    @staticmethod
    def _next(values: list) -> torch.Tensor:
        return torch.tensor(values.pop(0), dtype=torch.float32)[:, None, None, None]


def test_colour_augmentation_is_that_of_a_loop_over_pixels(monkeypatch):
    """Three images: everything with the contrast early, everything with it late, nothing but saturation and hue."""
    images = rgb_images(3, 3, 6, 7)
    late, brightness, contrast = [False, True, False], [20.0, -25.0, 9.0], [1.3, 0.6, 9.0]
    saturation, hue = [0.7, 1.4, 1.2], [15.0, -17.0, -10.0]
    whole = [True, True, False]
    draws = Draws(
        monkeypatch,
        coins=[late, whole, whole, [True] * 3, [True] * 3, [False] * 3],
        numbers=[brightness, contrast, saturation, hue],
    )
    got = augment_colors(images)
    assert draws.ranges == [(-32.0, 32.0), (0.5, 1.5), (0.5, 1.5), (-18.0, 18.0)] and not draws.numbers
    for n, y, x in np.ndindex(3, 6, 7):
        rgb = images[n, :, y, x].numpy()[::-1].astype(float)
        if whole[n]:
            rgb = rgb + brightness[n]
            rgb = rgb if late[n] else rgb * contrast[n]
        if rgb.min() < 0:
            continue  # the standard library knows no negative colours
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        h = (h * 360 + hue[n]) % 360 / 360
        s *= saturation[n]
        if s > 1:
            continue  # nor more than full ones
        rgb = np.array(colorsys.hsv_to_rgb(h, s, v))
        rgb = rgb * contrast[n] if whole[n] and late[n] else rgb
        np.testing.assert_allclose(got[n, :, y, x], rgb[::-1], atol=2e-2, rtol=1e-4)


def test_images_are_augmented_each_by_itself_and_again_under_a_seed():
    images = rgb_images(1, 3, 8, 8).expand(64, -1, -1, -1)
    torch.manual_seed(3)
    first = augment_colors(images)
    torch.manual_seed(3)
    assert torch.equal(augment_colors(images), first) and first.dtype == torch.float32
    torch.manual_seed(4)
    assert not torch.equal(augment_colors(images), first)
    means = first.mean((2, 3))
    assert len({tuple(row) for row in means.tolist()}) > 60
    exchanged = (means.argsort(1) != images[0].mean((1, 2)).argsort()).any(1)
    assert 10 < exchanged.sum() < 54
    assert first.min() < 0 and first.max() > 255  # never clipped


def plain_grid_mask(height: int, width: int, distance: int, top: int, left: int) -> np.ndarray:
    """The mask by loops over a canvas and a crop of its middle."""
    stripe = min(max(int(distance * 0.5 + 0.5), 1), distance - 1)
    rows, columns = int(1.5 * height), int(1.5 * width)
    canvas = np.ones((rows, columns))
    for i in range(rows // distance):
        canvas[distance * i + top : distance * i + top + stripe] = 0
    for i in range(columns // distance):
        canvas[:, distance * i + left : distance * i + left + stripe] = 0
    y, x = (rows - height) // 2, (columns - width) // 2
    return 1 - canvas[y : y + height, x : x + width]


def test_grid_mask_is_that_of_a_loop(monkeypatch):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        height, width = int(rng.integers(3, 60)), int(rng.integers(3, 90))
        distance = int(rng.integers(2, height))
        draws = [distance, *rng.integers(0, distance, 2).tolist()]
        asked, left = [], list(draws)
        monkeypatch.setattr(grid_mask_module, '_draw', lambda *bounds: (asked.append(bounds), left.pop(0))[1])  # noqa: B023
        mask = grid_mask((height, width))
        assert asked == [(2, height), (0, distance), (0, distance)] and mask.shape == (height, width)
        np.testing.assert_array_equal(mask, plain_grid_mask(height, width, *draws))
        shares.append(mask.float().mean().item())
    assert 0.5 < np.mean(shares) < 0.9


def make_batch(sizes: list[tuple[int, int]], frames: int = 2) -> dict:
    """Samples of uint8 images of these heights and widths, as the data loader hands them over."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (frames * 6, 3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    return dict(inputs=dict(img=images), data_samples=[Det3DDataSample() for _ in sizes])


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_tests_normalise_and_pad_only(bgr_to_rgb):
    preprocessor = SparseBEVDataPreprocessor(MEAN, STD, bgr_to_rgb)
    batch = make_batch([(40, 60), (30, 50)])
    result = preprocessor(batch)
    images = result['inputs']['imgs']
    assert images.shape == (2, 12, 3, 64, 64)
    for given, got, (height, width) in zip(batch['inputs']['img'], images, [(40, 60), (30, 50)], strict=True):
        for channel in range(3):
            source = given[:, 2 - channel if bgr_to_rgb else channel].float()
            torch.testing.assert_close(got[:, channel, :height, :width], (source - MEAN[channel]) / STD[channel])
        assert not got[..., height:, :].any() and not got[..., width:].any()
    assert [sample.pad_shape for sample in result['data_samples']] == [(64, 64)] * 2
    assert torch.equal(preprocessor(batch)['inputs']['imgs'], images)


def test_training_masks_all_images_of_a_batch_alike_or_the_leading_frames_only():
    batch = make_batch([(64, 96), (64, 96)])
    options = dict(color_augmentation=False, grid_mask_prob=1.0)
    plain = SparseBEVDataPreprocessor(MEAN, STD)(batch)['inputs']['imgs']
    torch.manual_seed(0)
    masked = SparseBEVDataPreprocessor(MEAN, STD, **options)(batch, training=True)['inputs']['imgs']
    survives = masked[0, 0, 0] != 0
    assert 0.3 < survives.float().mean() < 1
    torch.testing.assert_close(masked, plain * survives)
    torch.manual_seed(0)
    some = SparseBEVDataPreprocessor(MEAN, STD, grid_mask_frames=1, **options)(batch, training=True)['inputs']['imgs']
    assert torch.equal(some[:, :6], masked[:, :6]) and torch.equal(some[:, 6:], plain[:, 6:])


def test_training_draws_by_the_seed_and_masks_seven_of_ten_batches():
    batch = make_batch([(32, 32)], frames=1)
    preprocessor = SparseBEVDataPreprocessor(MEAN, STD)

    def train(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return preprocessor(batch, training=True)['inputs']['imgs']

    assert torch.equal(train(1), train(1)) and not torch.equal(train(1), train(2))
    plain = SparseBEVDataPreprocessor(MEAN, STD, color_augmentation=False)
    torch.manual_seed(0)
    masked = [bool((plain(batch, training=True)['inputs']['imgs'] == 0).any()) for _ in range(200)]
    assert 0.6 < np.mean(masked) < 0.8


def test_colours_are_augmented_before_they_are_normalised():
    """On 0 to 255, where brightness moves by up to 32."""
    batch = make_batch([(32, 32)])
    options = dict(grid_mask_prob=0.0, bgr_to_rgb=True)
    torch.manual_seed(0)
    got = SparseBEVDataPreprocessor(MEAN, STD, **options)(batch, training=True)['inputs']['imgs'][0]
    torch.manual_seed(0)
    frames = [augment_colors(frame) for frame in batch['inputs']['img'][0].float().split(6)]
    want = (torch.cat(frames).flip(1) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(got, want)


def test_batches_of_unequal_frames_are_refused():
    preprocessor = SparseBEVDataPreprocessor(MEAN, STD)
    batch = make_batch([(32, 32), (32, 32)])
    batch['inputs']['img'][1] = batch['inputs']['img'][1][:6]
    with pytest.raises(ValueError, match='one T for all samples.*num_frames'):
        preprocessor(batch)
    batch['inputs']['img'] = [images[:5] for images in batch['inputs']['img']]
    with pytest.raises(ValueError, match=r'expected \[T \* 6, 3, H, W\]'):
        preprocessor(batch)

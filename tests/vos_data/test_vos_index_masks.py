"""Index masks: labels read from pictures of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mvbench_plugins.datasets.vos import object_labels, read_index_mask


@pytest.mark.parametrize('mode', ['P', 'L', 'RGB', 'RGBA'])
def test_labels_are_read_from_palette_and_grey_pictures(tmp_path, mode):
    labels = np.array([[0, 1, 2], [7, 200, 255]], np.uint8)
    picture = Image.fromarray(labels)
    if mode == 'P':
        picture.putpalette(list(range(255, -1, -1)) * 3)
    picture = picture if mode == 'P' else picture.convert(mode)
    picture.save(tmp_path / 'mask.png')
    assert np.array_equal(read_index_mask(tmp_path / 'mask.png'), labels)


def test_black_and_white_masks_have_label_1(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert('1').save(tmp_path / 'mask.png')
    assert read_index_mask(tmp_path / 'mask.png').tolist() == [[0, 1]]


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB'])
def test_masks_of_still_images_tell_by_brightness(tmp_path, mode):
    """Whatever a set saved them as, white is the object."""
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode).save(tmp_path / 'mask.png')
    assert read_index_mask(tmp_path / 'mask.png', brightness=True).tolist() == [[0, 255]]


def test_pictures_that_are_no_index_masks(tmp_path):
    colours, deep, broken = (tmp_path / f'{name}.png' for name in ('colours', 'deep', 'broken'))
    Image.new('RGB', (4, 4), (128, 0, 0)).save(colours)
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(deep)
    Image.fromarray(np.random.default_rng(0).integers(0, 5, (64, 64), np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"colours.png: found a picture of mode 'RGB' with colours; expected"):
        read_index_mask(colours)
    with pytest.raises(ValueError, match=r"deep.png: found a picture of mode 'I;16'; expected"):
        read_index_mask(deep)
    with pytest.raises(ValueError, match=r'broken.png: the mask cannot be read'):
        read_index_mask(broken)
    with pytest.raises(FileNotFoundError, match=r'none.png: no such mask'):
        read_index_mask(tmp_path / 'none.png')


@pytest.mark.parametrize(
    'values, labels', [((0, 0), []), ((0, 255), [255]), ((255, 255), [255]), ((3, 255), [3]), ((9, 2), [2, 9])]
)
def test_255_is_an_object_only_alone(values, labels):
    assert object_labels(np.array([values], np.uint8)) == labels

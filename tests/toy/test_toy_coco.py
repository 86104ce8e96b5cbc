"""The toy world and its COCO writer: the annotations fit the pictures, the bytes are reproducible, folders are safe."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from toy_folders import contents

from mvbench_plugins.datasets.toy import CLASSES, PALETTE, Scene, Solid, coco, random_scene, write_coco
from mvbench_plugins.datasets.toy.polygons import mask_to_polygons

SIZE = 96
SMALL = {'seed': 3, 'num_train': 40, 'num_val': 6, 'size': SIZE}


@pytest.fixture(scope='module')
def toy_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'new' / 'set'
    assert write_coco(folder, **SMALL)
    return folder


@pytest.fixture(scope='module')
def train(toy_set) -> COCO:
    return COCO(str(toy_set / 'annotations' / 'instances_train.json'))


def test_standard_layout_and_complete_fields(toy_set):
    for split, length in (('train', 40), ('val', 6)):
        data = json.loads((toy_set / 'annotations' / f'instances_{split}.json').read_text())
        assert {'info', 'licenses', 'categories', 'images', 'annotations'} == data.keys()
        assert [category['name'] for category in data['categories']] == list(CLASSES)
        assert [category['id'] for category in data['categories']] == list(range(1, len(CLASSES) + 1))
        assert len(data['images']) == length == len(list((toy_set / split).iterdir()))
        for image in data['images']:
            assert cv2.imread(str(toy_set / split / image['file_name'])).shape == (image['height'], image['width'], 3)
        ids = [annotation['id'] for annotation in data['annotations']]
        assert len(set(ids)) == len(ids)
        for annotation in data['annotations']:
            assert annotation['iscrowd'] == 0
    assert len(PALETTE) == len(set(PALETTE)) == len(CLASSES)


def test_boxes_and_areas_are_those_of_the_decoded_masks(train):
    for annotation in train.dataset['annotations']:
        mask = train.annToMask(annotation)
        assert list(cv2.boundingRect(mask)) == annotation['bbox']
        assert mask.sum() == annotation['area']


def test_masks_of_an_image_are_disjoint_and_lie_on_the_solids(toy_set, train):
    for image_id, image in train.imgs.items():
        masks = [train.annToMask(annotation) for annotation in train.imgToAnns[image_id]]
        assert 1 <= len(masks) <= 8
        assert np.sum(masks, axis=0).max() == 1
        picture = cv2.imread(str(toy_set / 'train' / image['file_name'])).astype(float)
        for mask in masks:
            # A band from 2 to 4 px outside, without the other solids, shows the background.
            near, far = (cv2.dilate(mask, np.ones((n, n), np.uint8)) for n in (5, 9))
            band = (far > near) & ~cv2.dilate(np.max(masks, axis=0), np.ones((3, 3), np.uint8)).astype(bool)
            if band.sum() > 20:
                assert np.linalg.norm(picture[mask == 1].mean(0) - picture[band].mean(0)) > 60


def test_all_classes_and_all_sizes_occur(train):
    annotations = train.dataset['annotations']
    assert {annotation['category_id'] for annotation in annotations} == set(range(1, len(CLASSES) + 1))
    sides = [max(annotation['bbox'][2:]) for annotation in annotations]
    assert 8 <= min(sides) <= 12
    assert 0.9 * SIZE / 2 <= max(sides) <= SIZE / 2


def test_solids_hide_each_other_but_stay_recognisable():
    shares = []
    for seed in range(40):
        scene = random_scene(np.random.default_rng(seed), SIZE)
        ids = scene.render()[1]
        for index, solid in enumerate(scene.solids):
            alone = (solid.coverage(SIZE, SIZE)[1] >= 0.5).sum()
            shares.append((ids == index + 1).sum() / alone)
    assert min(shares) >= 0.4
    assert np.mean(np.array(shares) < 0.9) > 0.1


@pytest.mark.parametrize(
    'rows',
    [
        ['1'],
        ['11111', '10001', '10101', '10001', '11111'],  # a hole with an island
        ['1010', '0101', '1010'],  # pixels that touch at corners only
        ['0110', '1001', '0110'],  # a hole that is closed by corners only
        ['111111', '101011', '111001', '100111', '111111'],  # several holes
    ],
)
def test_polygons_are_simple_and_decode_to_the_mask(rows):
    mask = np.array([[int(pixel) for pixel in row] for row in rows], np.uint8)
    dataset = COCO()
    dataset.imgs = {1: {'height': mask.shape[0], 'width': mask.shape[1]}}
    polygons = mask_to_polygons(mask)
    decoded = dataset.annToMask({'image_id': 1, 'segmentation': polygons})
    np.testing.assert_array_equal(decoded, mask)
    for polygon in polygons:
        corners = list(zip(polygon[::2], polygon[1::2], strict=True))
        assert len(set(corners)) == len(corners) >= 4  # no outline touches itself


def test_the_nearest_solid_is_seen_and_solids_move():
    far = Solid('disc', 20, (20, 20), 0.0, (255, 0, 0), depth=2.0)
    near = Solid('square', 20, (20, 20), 0.0, (0, 0, 255), depth=1.0, velocity=(10, 0), spin=np.pi / 4)
    scene = Scene(np.zeros((40, 60, 3), np.float32), (near, far))
    image, ids = scene.render()
    assert ids[20, 20] == 1 and image[20, 20].argmax() == 2
    assert set(np.unique(ids)) == {0, 1, 2}  # the disc shows around the square
    image, ids = scene.render(t=3.0)
    assert ids[20, 20] == 2 and image[20, 20].argmax() == 0
    assert ids[20, 50] == 1
    # The square stands on a corner at first, and on a side after an odd number of eighths of a turn.
    assert cv2.boundingRect((ids == 1).astype(np.uint8)) == (43, 13, 14, 14)
    assert scene.render(t=10.0)[1].max() == 2 and 1 not in scene.render(t=10.0)[1]  # it has left the image


def test_same_seed_same_bytes(toy_set, tmp_path):
    write_coco(tmp_path, **SMALL)
    assert contents(tmp_path) == contents(toy_set)


def test_other_seed_other_images(toy_set, tmp_path):
    write_coco(tmp_path, **SMALL | {'seed': 4})
    first, second = contents(toy_set), contents(tmp_path)
    assert first.keys() == second.keys()
    assert not [name for name in first if first[name] == second[name]]


def test_an_image_does_not_depend_on_the_length_of_the_set(toy_set, tmp_path):
    write_coco(tmp_path, **SMALL | {'num_train': 5})
    long, short = contents(toy_set), contents(tmp_path)
    pictures = [name for name in short if name.endswith('.png')]
    assert len(pictures) == 11
    assert all(long[name] == short[name] for name in pictures)
    # Neither do the splits repeat each other.
    assert short['train/000000000001.png'] != short['val/000000000001.png']


def test_complete_set_is_left_alone_and_damaged_one_is_made_anew(tmp_path):
    arguments = {'num_train': 3, 'num_val': 1, 'size': 32}
    assert write_coco(tmp_path, **arguments)
    before = contents(tmp_path)
    stamp = (tmp_path / 'toy.json').stat().st_mtime_ns
    assert not write_coco(tmp_path, **arguments)
    assert (tmp_path / 'toy.json').stat().st_mtime_ns == stamp
    (tmp_path / 'train' / '000000000002.png').unlink()
    assert write_coco(tmp_path, **arguments)
    assert contents(tmp_path) == before


def test_interrupted_run_is_made_anew(toy_set, tmp_path, monkeypatch):
    calls = []

    def interrupted_scene(rng, size):
        calls.append(size)
        if len(calls) > 10:
            raise KeyboardInterrupt
        return random_scene(rng, size)

    with monkeypatch.context() as patch:
        patch.setattr(coco, 'random_scene', interrupted_scene)
        with pytest.raises(KeyboardInterrupt):
            write_coco(tmp_path, **SMALL)
    assert len(list((tmp_path / 'train').iterdir())) == 10
    (tmp_path / 'val' / 'half.png').write_bytes(b'')
    assert write_coco(tmp_path, **SMALL)
    assert contents(tmp_path) == contents(toy_set)


def test_foreign_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'mine.png').write_bytes(b'precious')
    with pytest.raises(FileExistsError, match=r'no toy data set.*choose another folder'):
        write_coco(tmp_path, **SMALL)
    (tmp_path / 'toy.json').write_text('{"someone": "else"}')
    with pytest.raises(FileExistsError, match='no toy data set'):
        write_coco(tmp_path, **SMALL)
    assert contents(tmp_path) == {'train/mine.png': b'precious', 'toy.json': b'{"someone": "else"}'}


def test_set_of_other_arguments_is_refused_and_untouched(toy_set):
    before = contents(toy_set)
    with pytest.raises(FileExistsError, match=r"toy\.json.*'seed': 3.*'seed': 4.*delete this one"):
        write_coco(toy_set, **SMALL | {'seed': 4})
    assert contents(toy_set) == before


def test_tool_writes_the_set_and_says_so(run_tool, toy_set, tmp_path, capsys):
    command = ['coco', '--out', tmp_path, '--seed', 3, '--num-train', 40, '--num-val', 6, '--size', SIZE]
    run_tool(*command)
    assert '40 training and 6 validation images, written' in capsys.readouterr().out
    assert contents(tmp_path) == contents(toy_set)
    run_tool(*command)
    assert 'left as it is' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('option', 'found', 'message'),
    [('--size', 10, 'size: found 10, expected an integer of at least 32'), ('--num-val', 0, 'num_val: found 0')],
)
def test_tool_refuses_bad_numbers(run_tool, tmp_path, option, found, message):
    with pytest.raises(SystemExit, match=message):
        run_tool('coco', '--out', tmp_path / 'set', option, found)
    assert not (tmp_path / 'set').exists()


def test_tool_refuses_a_file_as_folder(run_tool, tmp_path):
    (tmp_path / 'file').write_text('text')
    with pytest.raises(SystemExit, match='file is a file, expected a folder'):
        run_tool('coco', '--out', tmp_path / 'file')

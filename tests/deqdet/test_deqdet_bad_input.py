"""The list of bad input of DEQDet: checkpoints, annotation files, images and classes.

What is wrong is said before training starts. Misspelt config keys are those of all plugins: ``test_runner_tools.py``.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.runner import load_checkpoint

from mvbench_plugins.common.inert_unpickler import load_inert
from mvbench_plugins.deqdet import dataset


@pytest.fixture
def make(toy_config, toy_coco, tmp_path):
    """``make(change)`` builds the training set after ``change(annotations)`` on a copy of the toy data."""

    def build(change=None, **options):
        root = tmp_path / 'coco'
        shutil.copytree(toy_coco, root)
        path = root / 'annotations' / 'instances_train.json'
        if change:
            content = json.loads(path.read_text())
            replaced = change(content)
            path.write_text(replaced if isinstance(replaced, str) else json.dumps(content))
        cfg = ConfigDict(toy_config.train_dataloader.dataset.to_dict(), data_root=str(root), **options)
        return DATASETS.build(cfg)

    return build


def _set(number: int, **fields):
    return lambda content: content['annotations'][number].update(fields)


BAD_FILES = {
    'box of three numbers': (_set(2, bbox=[1, 2, 3]), r'annotations\[2\].*four numbers.*\[1, 2, 3\]'),
    'box that is no list': (_set(2, bbox=None), r'annotations\[2\].*four numbers'),
    'box of NaN': (_set(3, bbox=[1, 2, float('nan'), 4]), r'annotations\[3\].*finite'),
    'negative width': (_set(3, bbox=[1, 2, -5, 4]), r'annotations\[3\].*at least 0'),
    'unknown category': (_set(0, category_id=77), r'annotations\[0\].*category_id 77'),
    'unknown image': (_set(1, image_id=10**6), r'annotations\[1\].*image_id 1000000'),
    'id used twice': (
        lambda content: content['images'][1].update(id=content['images'][0]['id']),
        r'images\[1\].*used twice',
    ),
    'image without a name': (
        lambda content: content['images'][1].update(file_name=None),
        r'images\[1\].*file_name is missing',
    ),
    'no area': (_set(1, area=None), r'annotations\[1\].*area must be a number'),
    'iscrowd of text': (_set(1, iscrowd='no'), r"annotations\[1\].*iscrowd must be 0 or 1.*'no'"),
    'no annotations': (lambda content: content.pop('annotations'), r'"annotations" is missing'),
    'truncated file': (lambda content: json.dumps(content)[:5000], r'no valid JSON'),
}


@pytest.mark.parametrize('change, message', BAD_FILES.values(), ids=BAD_FILES)
def test_broken_annotation_file(make, change, message):
    with pytest.raises(ValueError, match=r'instances_train\.json.*' + message):
        make(change)


def test_missing_annotation_file(make):
    with pytest.raises(FileNotFoundError, match=r'absent\.json does not exist.*ann_file'):
        make(ann_file='annotations/absent.json')


def test_misspelt_class(make):
    """The stock dataset would train on the other classes and say nothing."""
    with pytest.raises(ValueError, match=r"instances_train\.json.*\['dics'\].*'disc'"):
        make(metainfo=dict(classes=('dics', 'square')))


def test_data_set_without_usable_images(make):
    with pytest.raises(ValueError, match=r'instances_train\.json: no image left.*filter_cfg'):
        make(lambda content: content['annotations'].clear())


def test_boxes_without_area_are_dropped_as_in_the_stock_dataset(make, toy_coco):
    """COCO itself has some; they must not end a run."""
    content = json.loads((toy_coco / 'annotations' / 'instances_train.json').read_text())
    image = content['annotations'][0]['image_id']
    count = sum(annotation['image_id'] == image for annotation in content['annotations'])
    assert count > 1
    data = make(_set(0, bbox=[5, 5, 0, 7]))
    (item,) = (item for item in data if item['data_samples'].img_id == image)
    assert len(item['data_samples'].gt_instances) == count - 1


def _corners(content):
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]


def _sides_swapped(content):
    """Of images twice as wide as high."""
    for image in content['images']:
        image['height'], image['width'] = image['width'], image['height'] // 2


@pytest.mark.parametrize(('change', 'warned'), [(None, False), (_corners, True), (_sides_swapped, True)])
def test_boxes_beyond_their_images_are_told(make, monkeypatch, change, warned):
    """Two common slips; annotators may well guess what lies outside of an image, so that this ends nothing."""
    told = []
    monkeypatch.setattr(dataset, 'print_log', lambda text, *_: told.append(text))
    make(change)
    assert any('boxes reach far beyond their images. bbox must be [x, y, w' in text for text in told) is warned


@pytest.mark.parametrize('damage', ['missing', 'empty', 'text'])
def test_unreadable_image(make, damage):
    data = make()
    info = data.get_data_info(4)
    path = info['img_path']
    if damage == 'missing':
        shutil.move(path, path + '.gone')
    else:
        open(path, 'wb').write(b'' if damage == 'empty' else b'no picture')
    with pytest.raises(ValueError, match=rf'{path}.*cannot be read.*instances_train\.json'):
        data[4]


#: What becomes of the content of a checkpoint (None: there is no file), and the message.
BAD_CHECKPOINTS: dict[str, tuple[Callable[[bytes], bytes] | None, type[Exception], str]] = {
    'missing': (None, FileNotFoundError, r'given\.pth does not exist'),
    'truncated': (lambda content: content[: len(content) // 2], ValueError, r'given\.pth.*cannot be read'),
    'html page': (lambda content: b'<html>rate limited</html>', ValueError, r'given\.pth.*cannot be read'),
    'empty': (lambda content: b'', ValueError, r'given\.pth.*cannot be read'),
    'pickle of something else': (lambda content: pickle.dumps([1, 2]), ValueError, r'given\.pth'),
}


@pytest.mark.parametrize('damage, kind, message', BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_bad_checkpoint(build, tmp_path, damage, kind, message):
    """Loaded by the runner, and read by the conversion."""
    path = tmp_path / 'given.pth'
    if damage is not None:
        torch.save(dict(state_dict=build().state_dict(), meta=dict(epoch=24)), path)
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(kind, match=message):
        load_checkpoint(build(), str(path))
    with pytest.raises(kind, match=r'given\.pth'):
        load_inert(path)


def test_checkpoint_of_another_model_is_refused(build, tmp_path):
    """Without the check mmengine would log a list of keys and go on with random weights."""
    path = tmp_path / 'retinanet.pth'
    model = build()
    backbone = {key: value for key, value in model.state_dict().items() if key.startswith('backbone.')}
    torch.save(dict(state_dict={**backbone, 'bbox_head.retina_cls.weight': torch.ones(9)}), path)
    with pytest.raises(ValueError, match=r'retinanet\.pth holds weights of another model.*prefix='):
        load_checkpoint(model, str(path))

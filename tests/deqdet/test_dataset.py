"""What is wrong with a data set is said before training starts."""

from __future__ import annotations

import json
import shutil

import pytest
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict


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

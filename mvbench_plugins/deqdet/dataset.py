"""COCO-format datasets whose files are checked before any work is lost."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Container, Hashable
from numbers import Real
from pathlib import Path
from typing import Any

import cv2
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

# some annotators guess what lies outside
_MAX_OUTSIDE = 0.1


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """``CocoDataset`` with one thorough check at start and errors that name file, entry and remedy.

    The stock dataset silently drops what it does not understand: a misspelt class name, an annotation of an unknown
    category, a box of NaN. Here each of these ends the run before it starts. Boxes without area, of which COCO itself
    has some, are dropped as in the stock dataset, with one line in the log that counts them.
    """

    def load_data_list(self) -> list[dict]:
        """Check the annotation file, then load it as the stock dataset does.

        Raises:
            FileNotFoundError: no annotation file.
            ValueError: no valid JSON, a missing field, a broken annotation, an unknown category or class name.
        """
        check_coco_file(self.ann_file, self.metainfo.get('classes'))
        return super().load_data_list()

    def filter_data(self) -> list[dict]:
        """Filter as usual.

        Raises:
            ValueError: nothing is left to train or test on.
        """
        left = super().filter_data()
        if not left:
            raise ValueError(
                f'{self.ann_file}: no image left to use. It has none, or filter_cfg={self.filter_cfg} removes all '
                f'(images without objects of the classes {self._shown_classes()}, or too small). Check '
                'metainfo.classes and filter_cfg of this dataset.'
            )
        return left

    def _shown_classes(self) -> str:
        classes = self.metainfo.get('classes') or ()
        return ', '.join(classes[:5]) + (', ...' if len(classes) > 5 else '')

    def prepare_data(self, idx: int) -> Any:
        """Load and transform one image.

        Raises:
            ValueError: the image file is missing or cannot be decoded.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = Path(self.get_data_info(idx)['img_path'])
            # An error of a transform, or of remote storage, is none of the image's.
            if '://' in str(path) or (path.is_file() and cv2.imread(str(path)) is not None):
                raise
            state = f'{path.stat().st_size} bytes' if path.is_file() else 'no such file'
            raise ValueError(
                f'image {path} ({state}) cannot be read. Restore the file, correct data_prefix, or remove its entry '
                f'from {self.ann_file}. ({error})'
            ) from error


def check_coco_file(ann_file: str, classes: tuple[str, ...] | None = None) -> None:
    """Check a COCO annotation file for what would otherwise be dropped silently.

    Args:
        ann_file: path of the JSON file. A file that is not local is left to the loader.
        classes: names the dataset is asked for; each must be a category of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the file, the entry and the field.
    """
    path = Path(ann_file)
    if '://' in str(ann_file):
        return
    if not path.is_file():
        raise FileNotFoundError(
            f'annotation file {path} does not exist (current folder: {Path.cwd()}): check data_root and ann_file of '
            'the dataset'
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{path}: no valid JSON ({error}); the file may be truncated, download or write it again'
        ) from None
    for field in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise ValueError(f'{path}: field "{field}" is missing or no list; is this a COCO instances file?')
    _check_entries(path, content)
    names = {category['name'] for category in content['categories']}
    unknown = [name for name in classes or () if name not in names]
    if unknown:
        raise ValueError(
            f'{path}: metainfo.classes asks for {unknown}, which are no categories of this file; it has '
            f'{sorted(map(str, names))}. Set metainfo=dict(classes=...) of the dataset to the names in the file.'
        )
    images = {image['id']: image for image in content['images']}
    category_ids = {category['id'] for category in content['categories']}
    flat = outside = 0
    for number, annotation in enumerate(content['annotations']):
        problem = _problem(annotation, images, category_ids)
        if problem:
            raise ValueError(
                f'{path}: annotations[{number}] (id {annotation.get("id")}): {problem}. Correct '
                'or remove this annotation.'
            )
        flat += min(annotation['bbox'][2:]) <= 0
        outside += _reaches_beyond(annotation['bbox'], images[annotation['image_id']])
    if flat:
        print_log(f'{path}: {flat} of {len(content["annotations"])} boxes have no area and are not used', 'current')
    if outside > _MAX_OUTSIDE * len(content['annotations']):
        print_log(
            f'{path}: {outside} of {len(content["annotations"])} boxes reach far beyond their images. bbox must be '
            '[x, y, width, height] in pixels, not two corners; and are width and height of the images right?',
            'current',
            logging.WARNING,
        )


def _check_entries(path: Path, content: dict) -> None:
    """Refuse images and categories without their fields, and ids that stand for two entries of a list."""
    kinds: dict[str, dict[str, type]] = {
        'images': {'file_name': str, 'height': int, 'width': int},
        'categories': {'name': str},
        'annotations': {},
    }
    for field, needed in kinds.items():
        ids: set[int | str] = set()
        for number, entry in enumerate(content[field]):
            found = entry if isinstance(entry, dict) else {}
            wrong = [name for name, kind in needed.items() if not isinstance(found.get(name), kind)]
            if not isinstance(found.get('id'), (int, str)) or found['id'] in ids:
                wrong.append('id')
            elif field == 'images' and not wrong and min(found['height'], found['width']) < 1:
                wrong = ['height', 'width']
            if wrong:
                raise ValueError(
                    f'{path}: {field}[{number}]: found {str(entry)[:80]}, expected '
                    f'{"".join(f"{name} ({kind.__name__}), " for name, kind in needed.items())}id of its own; '
                    f'{" and ".join(wrong)} is missing, wrong or used twice. Correct or remove this entry.'
                )
            ids.add(found['id'])


def _reaches_beyond(box: list[float], image: dict) -> bool:
    """Whether a box leaves its image by more than a tenth of its size."""
    x, y, width, height = box
    return 10 * (x + width) > 11 * image['width'] or 10 * (y + height) > 11 * image['height']


def _problem(annotation: dict, image_ids: Container, category_ids: set) -> str | None:
    box = annotation.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, Real) for value in box):
        return f'bbox must be four numbers [x, y, width, height], found {box!r}'
    if not all(map(_is_finite, box)) or min(box[2:]) < 0:
        return f'bbox must be finite with width and height of at least 0, found {box}'
    if not isinstance(annotation.get('image_id'), Hashable) or annotation.get('image_id') not in image_ids:
        return f'image_id {annotation.get("image_id")!r} is no image of this file'
    if not isinstance(annotation.get('category_id'), Hashable) or annotation.get('category_id') not in category_ids:
        return f'category_id {annotation.get("category_id")!r} is no category of this file'
    # The stock reader and the metric look these two up without asking.
    if not isinstance(annotation.get('area'), Real) or not _is_finite(annotation['area']):
        return f'area must be a number (width x height will do), found {annotation.get("area")!r}'
    if annotation.get('iscrowd') not in (0, 1):
        return f'iscrowd must be 0 or 1 (0 for a single object), found {annotation.get("iscrowd")!r}'
    return None


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False

"""Writes the toy world as a COCO detection and instance segmentation data set."""

import json
import os

import cv2
import numpy as np
from tqdm import tqdm

from mvbench_plugins.datasets.toy.output import begin_toy_folder, write_image
from mvbench_plugins.datasets.toy.polygons import mask_to_polygons
from mvbench_plugins.datasets.toy.random_scene import random_scene
from mvbench_plugins.datasets.toy.scene import Scene
from mvbench_plugins.datasets.toy.shapes import CLASSES, SUPERCATEGORIES

MIN_IMAGE_SIZE = 32
_VERSION = 1  # of the content: raise it when equal arguments give other images


def write_coco(
    out: str | os.PathLike, *, seed: int = 0, num_train: int = 800, num_val: int = 100, size: int = 128
) -> bool:
    """Writes ``annotations/instances_{train,val}.json`` and PNG images under ``train/`` and ``val/``.

    Equal arguments give equal bytes, and image ``k`` of a split depends on ``seed``, ``size`` and ``k`` only. A
    complete set of the same arguments is left as it is, an unfinished one is made anew.

    Args:
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training images.
        num_val: Number of validation images.
        size: Side of the square images in pixels.

    Returns:
        Whether the set was written; False if it was there.

    Raises:
        ValueError: If a number is too small.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds something else.
    """
    numbers = {'seed': (seed, 0), 'num_train': (num_train, 1), 'num_val': (num_val, 1), 'size': (size, MIN_IMAGE_SIZE)}
    folder = begin_toy_folder(out, 'coco', _VERSION, numbers, parts=('annotations', 'train', 'val'))
    if folder is None:
        return False
    with tqdm(total=num_train + num_val, desc=f'toy COCO -> {out}', unit='image') as progress:
        for stream, (split, length) in enumerate((('train', num_train), ('val', num_val))):
            images: list[dict] = []
            annotations: list[dict] = []
            for index in range(length):
                # A stream of its own for each image: the length of one split changes no other image.
                scene = random_scene(np.random.default_rng([seed, stream, index]), size)
                image_id = index + 1
                picture, ids = scene.render()
                name = f'{image_id:012d}.png'
                write_image(folder.root / split / name, picture)
                images.append({'id': image_id, 'file_name': name, 'height': size, 'width': size, 'license': 1})
                annotations += _annotate(scene, ids, image_id, first_id=len(annotations) + 1)
                progress.update()
            content = json.dumps(_document(split, images, annotations), separators=(',', ':'))
            (folder.root / 'annotations' / f'instances_{split}.json').write_text(content, encoding='utf-8')
    folder.finish()
    return True


def _annotate(scene: Scene, ids: np.ndarray, image_id: int, first_id: int) -> list[dict]:
    """COCO annotations of what is visible of each solid, in the order of the scene."""
    annotations = []
    for index, solid in enumerate(scene.solids):
        mask = (ids == index + 1).astype(np.uint8)
        annotations.append(
            {
                'id': first_id + index,
                'image_id': image_id,
                'category_id': CLASSES.index(solid.shape) + 1,
                'bbox': list(cv2.boundingRect(mask)),  # x, y, width, height
                'area': int(mask.sum()),
                'iscrowd': 0,
                'segmentation': mask_to_polygons(mask),
            }
        )
    return annotations


def _document(split: str, images: list[dict], annotations: list[dict]) -> dict:
    """The content of an annotation file; without a date of creation, which would make equal sets differ."""
    return {
        'info': {
            'description': f'Toy world of coloured solids, {split} split',
            'url': '',
            'version': str(_VERSION),
            'year': 2026,
            'contributor': 'mvbench_plugins',
            'date_created': '',
        },
        'licenses': [{'id': 1, 'name': 'Apache-2.0', 'url': 'https://www.apache.org/licenses/LICENSE-2.0'}],
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': supercategory}
            for label, (name, supercategory) in enumerate(zip(CLASSES, SUPERCATEGORIES, strict=True))
        ],
        'images': images,
        'annotations': annotations,
    }

"""Readers of AlphAction's json files: key frames by image id, with their persons and actions in pixels."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .ava_files import AVARows

_LARGEST_RELATIVE = 2.0  # no set of boxes in pixels ends this near to the corner of its images
_BEYOND = 1.1  # share of the image that x + w may reach; detectors overshoot by little
_SHARE_BEYOND = 0.5  # of all boxes: more are no overshoot, but another format or size


class AVAImage(NamedTuple):
    """What an image id stands for: a second of a movie, and the size in pixels that its boxes are given in."""

    video: str
    second: int
    width: int
    height: int


def xyxy_from_xywh(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Convert boxes as the published models do, the last pixel included: ``x2 = x + max(w - 1, 0)``.

    Args:
        boxes: ``[n, 4]``, x, y, w, h in pixels.
        sizes: ``[n, 2]`` or ``[2]``, width and height of the image.

    Returns:
        float64 ``[n, 4]``, x1, y1, x2, y2 in pixels, clipped to ``[0, width - 1] x [0, height - 1]``. Boxes that are
        empty then are among them (see ``is_empty``).
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:] - 1, 0)], axis=1)
    return np.clip(corners, 0, np.tile(np.asarray(sizes, np.float64) - 1, 2))


def is_empty(boxes: np.ndarray) -> np.ndarray:
    """Bool ``[n]``: which boxes ``[n, 4]`` (xyxy) do not have ``x1 < x2`` and ``y1 < y2``."""
    return ~(boxes[:, :2] < boxes[:, 2:]).all(axis=1)


def read_json(path: str | Path) -> Any:
    """Read a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no json.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {path} does not exist: check data_root and the file names')
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: no json text ({error}); download or write the file again') from None


def read_images(path: str | Path) -> dict[Hashable, AVAImage]:
    """Read the table of images of an annotation file such as ``ava_val_v2.2_min.json``.

    Returns:
        Image by id, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the image that is wrong.
    """
    return _images(path, read_json(path))


def read_alphaction_annotations(path: str | Path, *, label_ids: Collection[int] | None = None) -> AVARows:
    """Read an annotation file such as ``ava_train_v2.2_min.json`` as the rows of a csv: one for each action of a box.

    Boxes are fractions of the size that the file states for their image, after the conversion of ``xyxy_from_xywh``.
    Empty ones are dropped, as the published data loader does.

    Args:
        path: the json file: ``images`` of id, movie, timestamp, width and height, and ``annotations`` of image_id,
            bbox ``[x, y, w, h]`` in pixels and action_ids.
        label_ids: action ids that are allowed; None allows every positive one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the first annotation that is wrong.
    """
    content = read_json(path)
    images = _images(path, content)
    annotations = content.get('annotations')
    if not isinstance(annotations, list) or not annotations:
        raise ValueError(f'{path}: annotations must be a list of boxes, found none. Is this ava_SPLIT_min.json?')
    boxes = boxes_in_pixels(path, annotations, images, 'annotation')
    sizes = np.array([images[one['image_id']][2:] for one in annotations], np.float64)
    corners = xyxy_from_xywh(boxes, sizes)
    used = ~is_empty(corners)
    corners /= np.tile(sizes, 2)
    rows, actions = [], []
    for number in np.flatnonzero(used).tolist():
        ids = annotations[number].get('action_ids')
        if not isinstance(ids, list) or not all(_is_action(one, label_ids) for one in ids):
            known = f'of the {len(label_ids)} known ones' if label_ids is not None else 'from 1 on'
            raise ValueError(
                f'{path}: annotation {number}: action_ids must be a list of ids {known}, found {ids!r}. Check '
                'num_classes and the label map, or correct the entry.'
            )
        rows += [number] * max(len(ids), 1)
        actions += ids or [0]
    found = [images[annotations[number]['image_id']] for number in rows]
    return AVARows(
        videos=[image.video for image in found],
        seconds=np.array([image.second for image in found], np.int64),
        boxes=corners[rows],
        actions=np.array(actions, np.int64),
        persons=np.array(rows, np.int64),
        box_texts=[str(number) for number in rows],
    )


def boxes_in_pixels(
    path: str | Path, entries: list[Any], images: dict[Hashable, AVAImage], name: str = 'entry'
) -> np.ndarray:
    """Collect and check ``bbox`` of entries that name their image.

    Args:
        path: the file, for messages.
        entries: dicts of ``image_id`` and ``bbox``.
        images: by id.
        name: what an entry is called in messages.

    Returns:
        float64 ``[n, 4]``: x, y, w, h in pixels.

    Raises:
        ValueError: names the first entry that is wrong, or says that the boxes are not in pixels.
    """
    boxes = np.empty((len(entries), 4))
    for number, entry in enumerate(entries):
        place = f'{path}: {name} {number}'
        if not isinstance(entry, dict) or not {'image_id', 'bbox'} <= entry.keys():
            raise ValueError(f'{place} must have image_id and bbox, found {str(entry)[:80]}')
        if not isinstance(entry['image_id'], Hashable) or entry['image_id'] not in images:
            raise ValueError(
                f'{place} has image_id {entry["image_id"]!r}, which is not among the {len(images)} images of the '
                'annotations. Do the files belong to the same split and version?'
            )
        try:
            x, y, w, h = entry['bbox']
            boxes[number] = x, y, w, h
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f'{place}: bbox must be 4 numbers x, y, w, h, found {entry["bbox"]!r}') from None
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
    if wrong.any():
        number = int(wrong.argmax())
        raise ValueError(
            f'{path}: {name} {number} (image_id {entries[number]["image_id"]!r}): bbox must be finite x, y, w, h in '
            f'pixels with w and h of at least 0, found {boxes[number].tolist()}. Correct or remove the entry.'
        )
    if not len(boxes):
        return boxes
    ends = boxes[:, :2] + boxes[:, 2:]
    if ends.max() <= _LARGEST_RELATIVE:
        raise ValueError(
            f'{path}: bbox must be x, y, w, h in pixels, but all {len(boxes)} look like fractions of the image: the '
            f'first is {boxes[0].tolist()}. Multiply them by the width and height of their images, or write a csv of '
            'video,second,x1,y1,x2,y2,score with fractions.'
        )
    sizes = np.array([images[entry['image_id']][2:] for entry in entries], np.float64)
    beyond = (ends > _BEYOND * sizes).any(axis=1)
    if beyond.mean() > _SHARE_BEYOND:
        number = int(beyond.argmax())
        raise ValueError(
            f'{path}: {int(beyond.sum())} of {len(boxes)} boxes reach far beyond their images: {name} {number} is '
            f'{boxes[number].tolist()} in an image of {sizes[number].tolist()}. bbox must be x, y, w, h (not x2, y2) '
            'in pixels of the width and height that the annotations state.'
        )
    return boxes


def _images(path: str | Path, content: Any) -> dict[Hashable, AVAImage]:
    listed = content.get('images') if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f'{path}: expected "images", a list of id, movie, timestamp, width and height, found none. Is this an '
            'annotation file of AlphAction (ava_SPLIT_VERSION_min.json)?'
        )
    images = {}
    for number, entry in enumerate(listed):
        try:
            numbers = [_whole(entry[field]) for field in ('timestamp', 'width', 'height')]
            image = AVAImage(str(entry['movie']), *numbers)
            valid = min(image.width, image.height) > 0 and entry['id'] not in images
            images[entry['id']] = image
        except (KeyError, TypeError, ValueError, OverflowError):
            valid = False
        if not valid:
            raise ValueError(
                f'{path}: image {number} must have an id of its own, movie, timestamp (second), width and height, '
                f'found {str(entry)[:120]}'
            )
    return images


def _whole(value: Any) -> int:
    """A whole number of 64 bits, also from text; raises ValueError, TypeError or OverflowError."""
    number = int(value)
    if float(number) != float(value) or abs(number) >= 1 << 63:
        raise ValueError(value)
    return number


def _is_action(value: Any, label_ids: Collection[int] | None) -> bool:
    return type(value) is int and (value >= 1 if label_ids is None else value in label_ids)

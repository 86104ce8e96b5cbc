"""Files of person boxes, as detectors write them: AlphAction's json, the pickles of mmaction2 and LFB, and csv."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvbench_plugins.common.inert_unpickler import as_array, load_plain_pickle

from .alphaction_files import boxes_in_pixels, is_empty, read_images, read_json, xyxy_from_xywh

_COLUMNS = 'video,second,x1,y1,x2,y2,score'
_DIGITS = 18  # of a second, at most: more do not fit into 64 bits
_OVERSHOOT = 0.05  # of the image, that a detector's box may reach beyond it; it is clipped


@dataclass(frozen=True)
class PersonBoxes:
    """Person boxes by key frame.

    Attributes:
        path: the file they are from.
        by_key_frame: (video, second) -> boxes float32 ``[n, 4]``, x1, y1, x2, y2 as fractions of width and height, and
            scores float32 ``[n]``, highest first. Key frames that the file states to be without persons have n = 0.
    """

    path: Path
    by_key_frame: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]

    def of(self, video: str, second: int, score_thr: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The boxes ``[n, 4]`` and scores ``[n]`` of a key frame, of at least ``score_thr``; n may be 0."""
        boxes, scores = self.by_key_frame.get((video, second), _NO_PERSONS)
        kept = int((scores >= np.float32(score_thr)).sum())
        return boxes[:kept], scores[:kept]

    def videos(self) -> list[str]:
        """Names of the videos, each once."""
        return list(dict.fromkeys(video for video, _ in self.by_key_frame))

    def __len__(self) -> int:
        """Number of boxes."""
        return sum(len(scores) for _, scores in self.by_key_frame.values())


_NO_PERSONS = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def read_person_boxes(path: str | Path, images: str | Path | None = None) -> PersonBoxes:
    """Read and check a file of person boxes.

    Args:
        path: one of

            - ``.csv``, no header: video, second, x1, y1, x2, y2 (fractions of the image), score;
            - ``.pkl`` of mmaction2, LFB: ``'video,0902'`` -> numbers ``[n, 5]``, x1, y1, x2, y2 (fractions), score;
            - ``.json`` of AlphAction: a list of image_id, bbox ``[x, y, w, h]`` in pixels, and score. The boxes become
              fractions of the size that ``images`` states; empty ones are dropped (see ``xyxy_from_xywh``).
        images: annotation file of AlphAction, ``ava_val_v2.2_min.json``, that says which image ids stand for which
            key frame; needed for json only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the first entry that is wrong and what to do about it; or the file has no boxes.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ('.csv', '.pkl', '.pickle', '.json'):
        raise ValueError(f'{path}: person boxes must be in a .json, .pkl or .csv file, found {path.suffix!r}')
    if not path.is_file():
        raise FileNotFoundError(f'file of person boxes {path} does not exist: check data_root and person_file')
    if suffix == '.json':
        boxes = _read_alphaction(path, images)
    else:
        boxes = _read_csv(path) if suffix == '.csv' else _read_pickle(path)
    if not len(boxes):
        raise ValueError(f'{path}: the file holds no person boxes; run the detector again, or name another file')
    return boxes


def _read_csv(path: Path) -> PersonBoxes:
    keys, numbers, lines = [], [], []
    with path.open(newline='', encoding='utf-8-sig') as file:
        reader = csv.reader(file)
        try:
            for row in filter(None, reader):
                try:
                    video, second, *values = row
                    keys.append((video, int(second)))
                    numbers.append([float(value) for value in values])
                except ValueError:
                    values = []
                if len(values) != 5:
                    raise ValueError(
                        f'{path}:{reader.line_num}: expected {_COLUMNS} (no header; a whole second, the others '
                        f'numbers), found {",".join(row)!r}. Correct or remove the line.'
                    )
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f'{path}:{reader.line_num + 1}: no csv text ({error}); write it again') from error
    numbers = np.array(numbers, np.float64).reshape(-1, 5)
    _check_fractions(numbers, lambda row: f'{path}:{lines[row]}')
    return _grouped(path, keys, numbers[:, :4], numbers[:, 4])


def _read_pickle(path: Path) -> PersonBoxes:
    content = load_plain_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected a dict of 'video,0902' -> numbers [n, 5] (x1, y1, x2, y2, score), found "
            f'{type(content).__name__}. Is this a file of person boxes?'
        )
    places, parts = [], []
    for name, value in content.items():
        video, comma, second = name.rpartition(',') if isinstance(name, str) else ('', '', '')
        if not comma or not second.isdecimal() or len(second) > _DIGITS:
            raise ValueError(f"{path}: keys must be 'VIDEO,SECOND' such as 'abc,0902', found {name!r}")
        array = as_array(value)
        if array.dtype.kind not in 'fiu' or (array.size and (array.ndim != 2 or array.shape[1] != 5)):
            raise ValueError(
                f'{path}: entry {name!r} must be numbers [n, 5] (x1, y1, x2, y2, score), found '
                f'{array.dtype} {list(array.shape)}'
            )
        parts.append(array.reshape(-1, 5).astype(np.float64))
        places += [(name, row) for row in range(len(parts[-1]))]
    numbers = np.concatenate([np.zeros((0, 5)), *parts])
    _check_fractions(numbers, lambda row: f'{path}: entry {places[row][0]!r}, row {places[row][1]}')
    every = {name: (name.rpartition(',')[0], int(name.rpartition(',')[2])) for name in content}
    return _grouped(path, [every[name] for name, _ in places], numbers[:, :4], numbers[:, 4], every.values())


def _read_alphaction(path: Path, images: str | Path | None) -> PersonBoxes:
    if images is None:
        raise ValueError(
            f'{path}: boxes of a json file name their key frames by image ids. Give the annotation file that explains '
            'them, ava_SPLIT_VERSION_min.json (image_file of the data set), or convert the boxes to a csv of '
            f'{_COLUMNS}.'
        )
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(
            f'{path}: expected a list of image_id, bbox and score, found {type(entries).__name__}. Is this '
            'ava_SPLIT_det_person_bbox.json?'
        )
    table = read_images(images)
    boxes = boxes_in_pixels(path, entries, table)
    scores = np.empty(len(entries))
    for row, entry in enumerate(entries):
        try:
            scores[row] = entry['score']
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                f'{path}: entry {row} (image_id {entry["image_id"]!r}): score must be a number in [0, 1], found '
                f'{entry.get("score")!r}. Is this a file of detections?'
            ) from None
    _check_scores(scores, lambda row: f'{path}: entry {row} (image_id {entries[row]["image_id"]!r})')
    found = [table[entry['image_id']] for entry in entries]
    sizes = np.array([(image.width, image.height) for image in found], np.float64).reshape(-1, 2)
    fractions = xyxy_from_xywh(boxes, sizes) / np.tile(sizes, 2)
    return _grouped(path, [image[:2] for image in found], fractions, scores)


def _check_fractions(numbers: np.ndarray, place: Callable[[int], str]) -> None:
    """Refuses rows of x1, y1, x2, y2, score that cannot be fractions of an image."""
    _check_scores(numbers[:, 4], place)
    boxes = numbers[:, :4]
    # written so that NaN fails, too
    inside = ((boxes >= -_OVERSHOOT) & (boxes <= 1 + _OVERSHOOT)).all(axis=1)
    wrong = ~inside | is_empty(boxes)
    if not wrong.any():
        return
    row = int(wrong.argmax())
    found = boxes[row].tolist()
    if not np.isfinite(boxes[row]).all():
        problem = 'coordinates must be finite; correct or remove it'
    elif not inside[row]:
        pixels = boxes[row].max() > 2
        problem = 'x1, y1, x2, y2 must be fractions of width and height in [0, 1]. ' + (
            'These look like pixels: divide them by the size of the image.' if pixels else 'Correct or remove it.'
        )
    else:
        problem = 'a box must have x1 < x2 and y1 < y2 (not x, y, w, h); correct or remove it'
    raise ValueError(f'{place(row)}: found box {found}; {problem}')


def _check_scores(scores: np.ndarray, place: Callable[[int], str]) -> None:
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f'{place(row)}: score must be in [0, 1], found {scores[row]}. Logits and percentages must be converted, '
            'NaN removed.'
        )


def _grouped(
    path: Path,
    keys: list[tuple[str, int]],
    boxes: np.ndarray,
    scores: np.ndarray,
    every: Iterable[tuple[str, int]] = (),
) -> PersonBoxes:
    """Sorts the boxes of each key frame by falling scores; equal scores keep the order of the file.

    Boxes without area are dropped. ``every`` lists key frames beside those of the boxes.
    """
    boxes, scores = np.clip(boxes, 0, 1).astype(np.float32), scores.astype(np.float32)
    rows: dict[tuple[str, int], list[int]] = {key: [] for key in (*every, *keys)}
    empty = is_empty(boxes)
    for row in np.argsort(-scores, kind='stable').tolist():
        if not empty[row]:
            rows[keys[row]].append(row)
    return PersonBoxes(path, {key: (boxes[of_key], scores[of_key]) for key, of_key in rows.items()})

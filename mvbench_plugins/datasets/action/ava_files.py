"""Readers of the files that AVA consists of: annotations, label map, excluded timestamps, frame lists.

Every file is checked when it is read, and an error names the file, the line and what to do.
"""

from __future__ import annotations

import csv
import re
import sys
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_COLUMNS = 'video,second,x1,y1,x2,y2,action_id,person_id'
_ITEM = re.compile(r'(?:item|label)\s*\{([^{}]*)\}')
_NAME = re.compile(r"""\bname:\s*(?:"([^"]*)"|'([^']*)')""")
# Up to 18 digits fit into int64.
_ID = re.compile(r'\b(?:label_)?id:\s*(\d{1,18})(?![\w.])')
_SECOND = re.compile(r'\d{1,18}')
_FRAME_NUMBER = re.compile(r'(\d{1,18})(\.\w+)$')
_COMMENT = re.compile(r"""("[^"\n]*"|'[^'\n]*')|#[^\n]*""")


@dataclass(frozen=True)
class AVARows:
    """The rows of an AVA csv, one entry of each field for each row, in the order of the file.

    Attributes:
        videos: names of the videos.
        seconds: [n] int64, the second of the key frame in the full-length video.
        boxes: [n, 4] float64, x1, y1, x2, y2 as fractions of width and height.
        actions: [n] int64, action id; 0 where the row states a person without action.
        persons: [n] int64, id of the person in the video.
        box_texts: the four coordinates as they stand in the file; equal texts at one second mean the same person.
    """

    videos: list[str]
    seconds: np.ndarray
    boxes: np.ndarray
    actions: np.ndarray
    persons: np.ndarray
    box_texts: list[str]

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True)
class ListedFrames:
    """The frames of one video as a frame list gives them: consecutive numbers in one folder.

    Attributes:
        folder: folder of the frames, relative to the folder that all frames are in.
        template: format string of the file name, such as ``'abc_{:06d}.jpg'``.
        first: number of the first file.
        count: how many frames there are.
    """

    folder: str
    template: str
    first: int
    count: int


def read_ava_csv(path: str | Path, *, label_ids: Collection[int] | None = None) -> AVARows:
    """Read and check an AVA annotation file (``ava_train_v2.2.csv`` and the like).

    Rows have eight columns: video, second, x1, y1, x2, y2, action id (empty: a person without action), person id. A row
    of seven is refused, since it may as well have lost its action as its person.

    Args:
        path: the csv file; it has no header.
        label_ids: action ids that are allowed; None allows every positive one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the first line that is wrong and what is wrong with it.
    """
    path = _existing(path)
    videos, box_texts = [], []
    seconds, actions, persons, boxes = array('q'), array('q'), array('q'), array('d')
    for line, row in _csv_rows(path):
        try:
            video, second, x1, y1, x2, y2, action, person = row
            box = (float(x1), float(y1), float(x2), float(y2))
            seconds.append(int(second))
            actions.append(int(action) if action else 0)
            persons.append(int(person))
            # Written so that NaN fails, too. Boxes so thin that three decimals make them a line are let through.
            valid = 0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1
        except (ValueError, OverflowError):
            valid = False
        if not valid or (action and (actions[-1] < 1 or (label_ids is not None and actions[-1] not in label_ids))):
            raise ValueError(f'{path}:{line}: {_problem(row, line, label_ids)}')
        videos.append(sys.intern(video))
        boxes.extend(box)
        box_texts.append(sys.intern(f'{x1},{y1},{x2},{y2}'))
    if not videos:
        raise ValueError(f'{path}: the file has no rows, expected {_COLUMNS}; download or write it again')
    return AVARows(
        videos=videos,
        seconds=np.array(seconds),
        boxes=np.array(boxes).reshape(-1, 4),
        actions=np.array(actions),
        persons=np.array(persons),
        box_texts=box_texts,
    )


def read_exclusions(path: str | Path) -> set[tuple[str, int]]:
    """Read the key frames (video, second) that AVA excludes, from a csv of these two columns; it may be empty.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the line that is wrong.
    """
    path = _existing(path)
    excluded = set()
    for line, row in _csv_rows(path):
        if len(row) != 2 or not _SECOND.fullmatch(row[1]):
            raise ValueError(
                f'{path}:{line}: expected video,second with a whole second, found {",".join(row)!r}. Is this a file '
                'of excluded timestamps? Correct or remove the line.'
            )
        excluded.add((row[0], int(row[1])))
    return excluded


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read the action names from a label map, ``item { name: "..." id: 1 }`` or ``label { ... label_id: 1 ... }``.

    Returns:
        Name by action id, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the line of the item that is wrong.
    """
    path = _existing(path)
    try:
        text = _COMMENT.sub(r'\1', path.read_text(encoding='utf-8-sig'))
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: no text ({error}); download it again') from error
    names: dict[int, str] = {}
    for item in _ITEM.finditer(text):
        place = f'{path}:{text.count(chr(10), 0, item.start()) + 1}'
        name, number = _NAME.search(item[1]), _ID.search(_NAME.sub('', item[1]))
        if not name or not number:
            raise ValueError(f'{place}: expected name: "..." and id: NUMBER (or label_id), found {item[0]!r}')
        if int(number[1]) < 1 or int(number[1]) in names:
            raise ValueError(f'{place}: id {number[1]} must be at least 1 and stand in the file only once')
        names[int(number[1])] = name[1] if name[1] is not None else name[2]
    rest = _ITEM.sub('', text).strip()
    if rest or not names:
        raise ValueError(
            f'{path}: expected items such as item {{ name: "sit" id: 11 }}, found {rest[:40]!r}. Is this a label map '
            '(.pbtxt)? It may be truncated; download or write it again.'
        )
    return names


def read_frame_list(path: str | Path) -> dict[str, ListedFrames]:
    """Read a frame list: a header, then ``original_vido_id video_id frame_id path labels`` for each frame.

    Returns:
        The frames of each video, by its name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the line that is wrong, or the video whose frames are not numbered one by one.
    """
    path = _existing(path)
    counts: dict[str, int] = {}
    ends: dict[str, list[str]] = {}
    line = 0
    with path.open(encoding='utf-8-sig') as file:
        try:
            for line, text in enumerate(file, start=1):
                fields = text.split()
                if line == 1 and fields[:1] == ['original_vido_id']:
                    continue
                if len(fields) < 4 or not fields[2].isdecimal():
                    raise ValueError(
                        f'{path}:{line}: expected original_vido_id video_id frame_id path labels, separated by spaces, '
                        f'found {text.strip()!r}; write the list again with tools/prepare_data.py ava'
                    )
                video = fields[0]
                if video in counts:
                    counts[video] += 1
                    ends[video][1] = fields[3]
                else:
                    counts[video] = 1
                    ends[video] = [fields[3], fields[3]]
        except UnicodeDecodeError as error:
            raise ValueError(f'{path}:{line + 1}: no text ({error}); write the list again') from error
    return {video: _listed(path, video, counts[video], *ends[video]) for video in counts}


def _listed(path: Path, video: str, count: int, first: str, last: str) -> ListedFrames:
    """Turns the paths of the first and the last frame into a template, and refuses a list with holes."""
    folder, slash, name = first.rpartition('/')
    number = _FRAME_NUMBER.search(name)
    if number:
        start = name[: number.start()].replace('{', '{{').replace('}', '}}')
        template = f'{start}{{:0{len(number[1])}d}}{number[2]}'
        # A list without the missing frames would shift all later ones against the annotations.
        if last == f'{folder}{slash}{template.format(int(number[1]) + count - 1)}':
            return ListedFrames(folder, template, int(number[1]), count)
    raise ValueError(
        f'{path}: the {count} frames of video {video} are not numbered one by one: they run from {first} to '
        f'{last}. Extract the missing frames and write the list again with tools/prepare_data.py ava.'
    )


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {path} does not exist: check data_root and the file names')
    return path


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields) of the lines that are not blank."""
    with path.open(newline='', encoding='utf-8-sig') as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f'{path}:{reader.line_num + 1}: no csv text ({error}); download it again') from error


def _problem(row: list[str], line: int, label_ids: Collection[int] | None) -> str:
    """Says what is wrong with a row of an annotation file."""
    if len(row) != 8:
        return f'found {len(row)} columns, expected 8: {_COLUMNS}. Correct or remove the line: {",".join(row)!r}'
    if line == 1 and not any(map(_is_number, row[1:])):
        return f'found a header, {",".join(row)!r}; AVA files have none. Remove the line.'
    remedy = f'Correct or remove the line: {",".join(row)!r}'
    if not _is_whole(row[1]):
        return f'second must be a whole number, found {row[1]!r}. {remedy}'
    wrong = [value for value in row[2:6] if not _is_number(value) or not 0 <= float(value) <= 1]
    if wrong:
        return f'x1,y1,x2,y2 must be fractions of the image in [0, 1], found {wrong[0]!r}. {remedy}'
    x1, y1, x2, y2 = map(float, row[2:6])
    if x1 > x2 or y1 > y2:
        return f'the box must have x1 <= x2 and y1 <= y2, found {",".join(row[2:6])}. {remedy}'
    if row[6] and not _is_whole(row[6]):
        return f'action_id must be a whole number or empty, found {row[6]!r}. {remedy}'
    if not _is_whole(row[7]):
        return f'person_id must be a whole number, found {row[7]!r} (is this a file of detections?). {remedy}'
    known = f'one of the {len(label_ids)} known ids' if label_ids is not None else 'at least 1'
    return f'action_id must be {known}, found {row[6]}. Check num_classes and the label map, or {remedy.lower()}'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_whole(text: str) -> bool:
    """Whether this is an integer of 64 bits."""
    try:
        return -(1 << 63) <= int(text) < 1 << 63
    except ValueError:
        return False

"""Damage to valid files, and what a reader may make of it: a right answer, or a clear error that names the file."""

from __future__ import annotations

import copy
import math
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st

import mvbench_plugins

Answer = TypeVar('Answer')

SECONDS = 30  # more than any reader needs for a small file, on a busy machine too
#: Values that are in no valid file, or not where they are put.
JUNK = (None, True, '', 'x', 'é/\0', -1, 0, 1, 0.5, 1e300, 10**400, math.nan, math.inf, [], {}, [[1], [2, 3]], ['x'])
_OURS = str(Path(mvbench_plugins.__file__).parent), str(Path(__file__).resolve().parents[2] / 'tools')


def answer(read: Callable[[], Answer], *files: Path) -> Answer | None:
    """What a reader returns; None if it refuses one of the files as the suite's readers do.

    Any other way to fail is a defect: another kind of error, one raised elsewhere (by numpy, json, Pillow, ...) that
    nobody put into words, one that does not name the file, or no end.
    """
    try:
        with _limited(SECONDS):
            return read()
    except (ValueError, FileNotFoundError) as error:
        raised_at = traceback.extract_tb(error.__traceback__)[-1]
        assert type(error) in (ValueError, FileNotFoundError) and raised_at.filename.startswith(_OURS), (
            f'{type(error).__name__} of {raised_at.filename}:{raised_at.lineno}: {error}'
        )
        assert any(file.name in str(error) for file in files), f'{error} names none of {files}'
        return None


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise TimeoutError(f'no end after {seconds} s')

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def damaged_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file that was cut off, overwritten in places, or is of another kind."""
    kind = draw(st.sampled_from(('random', 'cut', 'cut', 'overwritten', 'overwritten', 'inserted', 'removed')))
    if kind == 'random':
        return draw(st.binary(max_size=200))
    start = draw(st.integers(0, len(valid)))
    if kind == 'cut':
        return valid[:start]
    length = draw(st.integers(1, 12))
    if kind == 'removed':
        return valid[:start] + valid[start + length :]
    piece = draw(st.binary(min_size=1, max_size=12))
    return valid[:start] + piece + valid[start + (len(piece) if kind == 'overwritten' else 0) :]


@st.composite
def damaged_text(draw: st.DrawFn, valid: str) -> str:
    """A text file in which single lines or fields were changed, removed or repeated."""
    lines = valid.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(('field', 'field', 'field', 'remove', 'repeat', 'text', 'header')))
    if kind == 'field':
        separator = ',' if ',' in lines[number] else ' '
        fields = lines[number].rstrip('\n').split(separator)
        place = draw(st.integers(0, len(fields) - 1))
        wrong = (
            '',
            'nan',
            'inf',
            '-1',
            '0',
            '2',
            '1e999',
            '7.5',
            '9' * 30,
            '9' * 5000,
            'x',
            '"',
            'é',
            '\0',
            '{}',
            '1,2',
        )
        fields[place] = draw(st.sampled_from(wrong))
        lines[number] = separator.join(fields) + '\n'
    elif kind == 'remove':
        del lines[number]
    elif kind == 'repeat':
        lines.insert(number, lines[number])
    elif kind == 'text':
        lines.insert(number, draw(st.text(max_size=40)) + '\n')
    else:
        lines.insert(0, 'video,second,x1,y1,x2,y2,action_id,person_id\n')
    return ''.join(lines)


@st.composite
def damaged_tree(draw: st.DrawFn, valid: Any, junk: tuple = JUNK) -> Any:
    """Dicts and lists with one or two values replaced, moved or removed."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 2))):
        # From level to level, so that the few fields at the top are hit as often as the many below.
        container: Any = None
        inner = tree
        while isinstance(inner, (dict, list)) and inner and (container is None or draw(st.integers(0, 3))):
            container = inner
            key = draw(st.sampled_from(list(container) if isinstance(container, dict) else range(len(container))))
            inner = container[key]
        if container is None:
            return draw(st.sampled_from(junk))
        kind = draw(st.sampled_from(('replace', 'replace', 'remove', 'move')))
        if kind == 'remove':
            del container[key]
        elif kind == 'move':
            other = draw(st.sampled_from(list(container) if isinstance(container, dict) else range(len(container))))
            container[key] = copy.deepcopy(container[other])
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(junk)))
    return tree

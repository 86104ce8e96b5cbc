"""The objects that a user gives, each at the frame where it appears first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mvbench_plugins.apis.vos_frames import FrameStream
from mvbench_plugins.apis.vos_masks import load_mask
from mvbench_plugins.apis.vos_prompts import Prompt
from mvbench_plugins.datasets.vos.index_masks import VOID, object_labels

Mask: TypeAlias = str | Path | np.ndarray
Masks: TypeAlias = Mask | Mapping[int, Mask]


class GivenObjects:
    """Index maps and prompts by frame, reduced to the objects that are new there.

    An object is given once. A label that an earlier frame has given is taken out of later masks, so that a folder with
    a complete annotation can be passed on as it is. 255 means "ignore" beside other labels; alone it is an object, as
    in DAVIS 2016.

    All masks are read at once to check them, and again when their frame comes: none is kept.

    Args:
        stream: the video.
        masks: index map (path of a png, or integer array ``[h, w]``) of the first frame; or a folder of png named as
            the frames (as their files in a folder, ``00000.png`` on in a video), or a dict by 0-based frame index.
        prompts: rectangles and discs, painted over the masks.

    Attributes:
        first: index of the first frame with an object.
        labels: all labels, in the order of their appearance.

    Raises:
        FileNotFoundError, TypeError, ValueError: something is wrong, or there is no object at all.
    """

    def __init__(self, stream: FrameStream, masks: Masks | None, prompts: Sequence[Prompt]) -> None:
        self._size = stream.video.size
        self._masks: dict[int, Mask] = {} if masks is None else _by_frame(masks, stream)
        self._prompts = list(prompts)
        self._new: dict[int, list[int]] = {}
        self.labels: list[int] = []
        frames = sorted({*self._masks, *(prompt.frame for prompt in prompts)})
        _check_frames(frames, stream)
        for frame in frames:
            new = self._find_new(frame)
            if new:
                self._new[frame] = new
                self.labels += new
        if not self.labels:
            found = f'{len(self._masks)} masks without any object' if self._masks else 'nothing'
            raise ValueError(
                f'{stream.video.origin}: found {found}, expected an object to follow: a mask with a label that is not '
                '0, a box or a point (masks=, boxes=, points=; --mask, --box, --point)'
            )
        self.first = min(self._new)

    @property
    def last(self) -> int:
        """Index of the last frame with a new object."""
        return max(self._new)

    @property
    def palette_file(self) -> Path | None:
        """The first file with a mask, whose colours results take over."""
        files = (self._masks[frame] for frame in sorted(self._masks))
        return next((Path(file) for file in files if isinstance(file, (str, Path))), None)

    @property
    def files(self) -> Iterable[Path]:
        """The files that are read."""
        return (Path(mask) for mask in self._masks.values() if isinstance(mask, (str, Path)))

    def at(self, frame: int) -> np.ndarray | None:
        """The index map, uint8 ``[h, w]``, of objects that are new at a frame; None if there are none."""
        if frame not in self._new:
            return None
        keep = np.zeros(256, np.uint8)
        keep[self._new[frame]] = self._new[frame]
        return keep[self._paint(frame)]

    def _paint(self, frame: int) -> np.ndarray:
        width, height = self._size
        if frame in self._masks:
            index_map = load_mask(self._masks[frame], frame, self._size)
        else:
            index_map = np.zeros((height, width), np.uint8)
        for prompt in self._prompts:
            if prompt.frame == frame:
                prompt.paint(index_map)
        return index_map

    def _find_new(self, frame: int) -> list[int]:
        """Labels that a frame gives for the first time."""
        prompted = {prompt.label for prompt in self._prompts if prompt.frame == frame}
        known = {*self.labels}
        if prompted and frame in self._masks:
            known |= {*object_labels(load_mask(self._masks[frame], frame, self._size))}
        twice = prompted & known
        if twice:
            raise ValueError(
                f'box or point at frame {frame}: found label {min(twice)}, which a mask there or an earlier frame has '
                'given already. An object is given once: choose another label for another object'
            )
        found = object_labels(self._paint(frame))
        hidden = prompted - {*found}
        if hidden:
            raise ValueError(
                f'box or point of label {min(hidden)} at frame {frame}: others that come after it cover it wholly; '
                'give the larger ones first'
            )
        # Beside labels of earlier frames 255 is no object either.
        known = {*self.labels, VOID} if self.labels else set()
        return [label for label in found if label not in known]


def _by_frame(masks: Masks, stream: FrameStream) -> dict[int, Mask]:
    if isinstance(masks, Mapping):
        wrong = [frame for frame in masks if isinstance(frame, bool) or not isinstance(frame, Integral)]
        if wrong:
            raise TypeError(f'masks: found the key {wrong[0]!r}, expected 0-based indices of frames')
        return {int(frame): mask for frame, mask in masks.items()}
    if isinstance(masks, np.ndarray):
        return {0: masks}
    if not isinstance(masks, (str, Path)):
        raise TypeError(
            f'masks: found {type(masks).__name__}, expected the path of a png or of a folder of png, an integer array '
            '[h, w], or a dict of those by frame index'
        )
    path = Path(masks).expanduser()
    return _in_folder(path, stream) if path.is_dir() else {0: path}


def _in_folder(folder: Path, stream: FrameStream) -> dict[int, str | Path | np.ndarray]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == '.png')
    if not files:
        raise ValueError(f'masks: folder {folder} holds no png')
    if stream.files is not None:
        frames = {file.stem: index for index, file in enumerate(stream.files)}
        expected = f'the name of a frame of {stream.video.origin}, such as {stream.files[0].stem}.png'
        found = {file: frames.get(file.stem) for file in files}
    else:
        expected = 'the 0-based index of its frame, such as 00000.png'
        found = {file: int(file.stem) if file.stem.isdecimal() else None for file in files}
    by_frame: dict[int, str | Path | np.ndarray] = {}
    for file, frame in found.items():
        if frame is None:
            raise ValueError(f'mask {file}: expected {expected}')
        if frame in by_frame:
            raise ValueError(f'masks {by_frame[frame]} and {file.name} belong to one frame, {frame}: remove one')
        by_frame[frame] = file
    return by_frame


def _check_frames(frames: list[int], stream: FrameStream) -> None:
    for frame in frames[:1] + frames[-1:]:
        count = stream.video.num_frames
        if frame < 0 or (count is not None and frame >= count):
            expected = 'an index from 0 on' if count is None else f'0 to {count - 1}'
            raise ValueError(
                f'object given at frame {frame} of {stream.video.origin}, expected {expected} (frames count from 0)'
            )

"""What is remembered of a video: for each object a bounded number of frames, and one compressed token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .attention import FrameMemory


class StoredFrame(NamedTuple):
    """A memorised frame of one group of objects.

    Attributes:
        step: number of the frame, counted from the first annotated one.
        memory: keys and values, one row for each object of the group.
    """

    step: int
    memory: FrameMemory


@dataclass
class ObjectGroup:
    """Objects that entered on the same frame: they remember the same frames, and are read together.

    Attributes:
        count: number of objects.
        permanent: the frame on which the objects entered, which is never removed, then memory frames.
        last: the last frame that did not become permanent. Later memory frames do not clear it.
    """

    count: int
    permanent: list[StoredFrame]
    last: StoredFrame | None = None

    @property
    def frames(self) -> list[StoredFrame]:
        """All frames, in the order in which they are read."""
        return self.permanent if self.last is None else [*self.permanent, self.last]

    def store(self, frame: StoredFrame, permanent: bool, max_frames: int) -> None:
        """Remember one more frame, and forget another where there is no room."""
        if not permanent or max_frames == 1:
            self.last = frame
            return
        if len(self.permanent) >= max_frames:
            del self.permanent[1]
        self.permanent.append(frame)


@dataclass
class VideoMemory:
    """State of one video between frames; its size does not grow with the video.

    Objects are numbered in the order in which they appeared, which is also the order of rows everywhere.

    Attributes:
        mem_every: so many frames after the last memory frame comes the next; annotated frames are memory frames anyway.
        max_frames: most permanent frames of an object, its first one included.
        step: number of the frame that comes next, counted from the first annotated one.
        last_memory_step: number of the last memory frame.
        groups: the objects, by the frame on which they entered.
        tokens: compressed memory of each object ``[n, 1, C]``; None before the first.
        labels: of the objects, in the annotation.
        size: height and width of the memorised frames; None before the first.
    """

    mem_every: int = 5
    max_frames: int = 1
    step: int = 0
    last_memory_step: int = 0
    groups: list[ObjectGroup] = field(default_factory=list)
    tokens: Tensor | None = None
    labels: list[int] = field(default_factory=list)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, value in (('mem_every', self.mem_every), ('max_memory_frames', self.max_frames)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'test_cfg.{name}: found {value!r}, expected a whole number of at least 1')

    @property
    def num_objects(self) -> int:
        """Number of objects that have a token, whether or not they were memorised yet."""
        return 0 if self.tokens is None else len(self.tokens)

    def frames_of(self, index: int) -> list[int]:
        """Numbers of the frames that object ``index`` remembers, in the order in which they are read."""
        for group in self.groups:
            if index < group.count:
                return [frame.step for frame in group.frames]
            index -= group.count
        return []

    def check_size(self, height: int, width: int) -> None:
        """Frames are read by frames of the same size.

        Raises:
            ValueError: the first frame had another one.
        """
        if self.size not in (None, (height, width)):
            raise ValueError(
                f'found a frame of {height} x {width} (height x width, as the network sees it), expected '
                f'{self.size[0]} x {self.size[1]} like those before it; resize the frames of the video to one size'
            )
        self.size = height, width

    def enter(self, token: Tensor, count: int) -> None:
        """Give tokens ``[1, 1, C]`` to new objects."""
        tokens = token.detach().expand(count, -1, -1)
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens])

    def store(self, memory: FrameMemory, annotated: bool) -> None:
        """Remember the current frame.

        Args:
            memory: of the frame, one row for each object; rows behind those of known groups are of objects that enter.
            annotated: the frame came with an annotation.
        """
        permanent = annotated or self.step - self.last_memory_step >= self.mem_every
        counts = [group.count for group in self.groups]
        if self.num_objects > sum(counts):
            counts.append(self.num_objects - sum(counts))
        parts, start = [], 0
        for count in counts:
            # Parts of one tensor would keep the whole of it for as long as one group remembers the frame.
            part = memory if len(counts) == 1 else memory.select(slice(start, start + count)).clone()
            parts.append(StoredFrame(self.step, part))
            start += count
        for group, frame in zip(self.groups, parts, strict=False):
            group.store(frame, permanent, self.max_frames)
        if len(parts) > len(self.groups):
            self.groups.append(ObjectGroup(counts[-1], [parts[-1]]))
        if permanent:
            self.last_memory_step = self.step

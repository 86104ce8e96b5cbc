"""One way through a video, from key frame to key frame: what a user may choose, and what is checked at its start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from mvbench_plugins.apis.clips import count_key_frames
from mvbench_plugins.apis.people import People, PersonFinder, find_people
from mvbench_plugins.apis.video_reader import Source, VideoSource, open_video

_MAX_LIVE_DELAY = 10.0  # seconds of a camera's frames that may wait to be drawn


@dataclass(frozen=True)
class RunOptions:
    """What a user may choose; see :meth:`ActionDetInferencer.__call__`.

    Raises:
        ValueError: a number is out of range.
    """

    batch_size: int = 1
    interval: float = 1.0
    step: int | None = None
    fps: float | None = None
    max_seconds: float | None = None
    person_boxes: People | None = None
    first_second: int = 0
    det_score_thr: float | None = None
    lookahead: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f'batch_size: found {self.batch_size}, expected at least 1')
        if self.max_seconds is not None and not 0 < self.max_seconds < float('inf'):
            raise ValueError(f'max_seconds: found {self.max_seconds}, expected a positive number')
        if self.det_score_thr is not None and not 0 <= self.det_score_thr <= 1:
            raise ValueError(f'det_score_thr: found {self.det_score_thr}, expected a number in [0, 1]')

    def spacing(self, video_fps: float) -> float:
        """Frames between key frames."""
        spacing = self.interval * video_fps if self.step is None else self.step
        if not 1 <= spacing < float('inf'):
            asked = f'interval: found {self.interval} s' if self.step is None else f'step: found {self.step}'
            raise ValueError(
                f'{asked}, expected at least one frame, which lasts {1 / video_fps:.4g} s at {video_fps:g} fps'
            )
        return spacing

    def max_frames(self, video_fps: float) -> int | None:
        """How many frames of the video to look at, None for all."""
        return None if self.max_seconds is None else max(1, round(self.max_seconds * video_fps))


@dataclass
class KeyFrameRun:
    """An open video and how to go through it.

    Attributes:
        video: the video itself.
        options: what the user chose.
        frames: those of its frames to look at.
        spacing: frames between key frames.
        find_people: the people of a clip; None for models that find them.
        lookahead: how many later key frames a key frame waits for.
    """

    video: VideoSource
    options: RunOptions
    frames: Iterator[np.ndarray]
    spacing: float
    find_people: PersonFinder | None
    lookahead: int

    @property
    def num_clips(self) -> int | None:
        """How many key frames to expect, None where nobody knows."""
        limits = (self.video.num_frames, self.options.max_frames(self.video.fps))
        known = [number for number in limits if number is not None]
        return count_key_frames(self.spacing, min(known)) if known else None

    def check_delay(self) -> None:
        """Refuses to hold a camera's frames for long until they are drawn.

        Raises:
            ValueError: what is to be drawn comes late, and the video cannot be read a second time for it.
        """
        delay = self.lookahead * self.spacing / self.video.fps
        if self.video.live and delay > _MAX_LIVE_DELAY:
            raise ValueError(
                f'lookahead: {self.video.origin} cannot be read a second time, and {delay:.0f} s of frames would wait '
                f'in memory to be drawn. Choose a lookahead of at most {_MAX_LIVE_DELAY:.0f} s, such as 0, or leave '
                'out the annotated video'
            )


def open_run(source: Source, options: RunOptions, memory: Any, score_thr: float) -> KeyFrameRun:
    """Opens a video and checks that the options fit it and the model.

    Args:
        source: see :func:`~mvbench_plugins.apis.video_reader.open_video`.
        options: what the user chose.
        memory: long-term memory of the model, which then takes people as given; None if it has none.
        score_thr: ``det_score_thr`` where the user chose none.

    Raises:
        FileNotFoundError, TypeError, ValueError: the video, the people or an option is wrong.
    """
    _check_model(options, memory)
    with ExitStack() as stack:
        video = stack.enter_context(open_video(source, options.fps))
        spacing = options.spacing(video.fps)
        limit = options.max_frames(video.fps)
        people, lookahead = None, 0
        if memory is not None:
            if options.det_score_thr is not None:
                score_thr = options.det_score_thr
            people = find_people(options.person_boxes, video, spacing, options.first_second, score_thr)
            by_default = 0 if video.live else memory.after
            lookahead = by_default if options.lookahead is None else options.lookahead
        stack.pop_all()  # the run closes it
    return KeyFrameRun(video, options, islice(video, limit), spacing, people, lookahead)


def reopen(source: Source, run: KeyFrameRun) -> VideoSource:
    """Opens the video of a run once more, to read the frames that the run read."""
    return open_video(source, run.options.fps)


def _check_model(options: RunOptions, memory: Any) -> None:
    if memory is None:
        chosen = [name for name in ('person_boxes', 'det_score_thr', 'lookahead') if getattr(options, name) is not None]
        if chosen:
            raise ValueError(
                f'{chosen[0]}: this model finds people itself and has no long-term memory: leave it out '
                '(--person-boxes, --det-config, --det-score-thr, --lookahead)'
            )
        return
    if options.person_boxes is None:
        raise ValueError(
            'this model tells actions of people that are given to it. Give their boxes: person_boxes=... a file, '
            'arrays or a PersonDetector (--person-boxes FILE, or --det-config with --det-checkpoint)'
        )
    if options.lookahead is not None and not 0 <= options.lookahead <= memory.after:
        raise ValueError(
            f'lookahead: found {options.lookahead}, expected 0 to {memory.after} key frames, which is what the memory '
            'of this model holds'
        )

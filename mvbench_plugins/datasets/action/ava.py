"""AVA v2.1 and v2.2: one sample for each annotated second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from .ava_files import AVARows, read_ava_csv, read_exclusions, read_label_map
from .ava_sources import VideoSource, check_filename_template, find_frame_folders, find_listed_frames, find_video_files
from .key_frames import KeyFrameDataset, key_frame_entry
from .second_clips import SecondClips, find_second_clips


@DATASETS.register_module()
class AVAKeyFrameDataset(KeyFrameDataset):
    """Key frames of AVA with persons and their actions.

    Differs from mmaction's ``AVADataset`` where the published models do: seconds outside of ``timestamp_range`` are
    left out, rows are one person if the *text* of their boxes is equal, persons without action are kept (an all-zero
    row), frames may be named after the video, and the key frame is counted from ``timestamp_start`` on, not from file
    number 1. All files are checked when the data set is built. Versions 2.1 and 2.2 differ in the files only.

    Args:
        ann_file: csv of video, second, x1, y1, x2, y2, action id, person id.
        pipeline: transforms.
        data_prefix: ``dict(img=...)``, folder with one folder of frames for each video; ``dict(video=...)``, folder
            of video files that begin at second ``timestamp_start``; or ``dict(clips=...)``, folder with one folder of
            one-second files ``<second>.mp4`` for each video (see ``LoadSecondClips``).
        frame_list: csv that lists the frames of each video, with paths relative to ``data_prefix['img']``. None: the
            frames are counted, from ``start_index`` on.
        exclude_file: csv of key frames to leave out. The published recipes train with all.
        label_file: label map (pbtxt) with the names of the actions.
        filename_tmpl: name of a frame file without ``frame_list``; mmaction2's own tools write ``'img_{:05d}.jpg'``.
        start_index: number of the first frame file without ``frame_list``.
        fps: rate of the frames on disk, and at which the clips of video files are sampled.
        timestamp_start: second that the frames or video files begin at.
        timestamp_range: first and last second that is used.
        num_classes: number of label columns, one more than there are actions; column 0 is unused.
        custom_classes: ids of a part of the actions; column ``i`` then is action ``custom_classes[i - 1]``. All persons
            stay, as persons without action if need be.
        missing: what to do about key frames whose video is absent or too short: ``'error'`` ends the run, ``'skip'``
            leaves them out and logs how many.
        lazy_init: load annotations only when they are needed.
        **kwargs: other arguments of mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: an annotation file, or with ``missing='error'`` a video is absent.
        ValueError: an argument or a file is wrong; names the line and the remedy.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list,
        data_prefix: dict = dict(img='frames'),
        frame_list: str | None = None,
        exclude_file: str | None = None,
        label_file: str | None = None,
        filename_tmpl: str = '{video}_{:06d}.jpg',
        start_index: int = 1,
        fps: int = 30,
        timestamp_start: int = 900,
        timestamp_range: tuple[int, int] = (902, 1798),
        num_classes: int = 81,
        custom_classes: Sequence[int] | None = None,
        missing: str = 'error',
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        if missing not in ('error', 'skip'):
            raise ValueError(f"AVAKeyFrameDataset: missing must be 'error' or 'skip', found {missing!r}")
        if len(data_prefix) != 1 or not set(data_prefix) <= {'img', 'video', 'clips'}:
            raise ValueError(
                'AVAKeyFrameDataset: data_prefix must be dict(img=FRAMES) or dict(video=VIDEOS) or dict(clips=CLIPS), '
                f'found {data_prefix}'
            )
        check_filename_template(filename_tmpl)
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=data_prefix,
            num_classes=num_classes,
            start_index=start_index,
            lazy_init=True,
            **kwargs,
        )
        self.frame_list = self._under_root(frame_list)
        self.exclude_file = self._under_root(exclude_file)
        self.label_file = self._under_root(label_file)
        self.filename_tmpl = filename_tmpl
        self.fps = fps
        self.timestamp_start = timestamp_start
        self.timestamp_range = timestamp_range
        self.custom_classes = custom_classes
        self.missing = missing
        self._label_map = read_label_map(self.label_file) if self.label_file else None
        self._check_classes()
        if self._label_map:
            names = [self._label_map.get(number, f'action {number}') for number in self._action_ids()]
            self._metainfo.setdefault('classes', tuple(names))
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read the annotations and find the videos."""
        # Which ids are wrong cannot be told when only some are asked for.
        label_ids = range(1, self.num_classes) if self.custom_classes is None else None
        rows = self._read_annotations(label_ids)
        self._log_unnamed_actions(rows)
        persons = self._persons_by_key_frame(rows)
        if not persons:
            raise ValueError(
                f'{self.ann_file}: no key frame to use. It has none in the seconds {self.timestamp_range[0]} to '
                f'{self.timestamp_range[1]} (timestamp_range), or {self.exclude_file} excludes all.'
            )
        sources = self._find_videos(dict.fromkeys(video for video, _ in persons))
        persons = self._with_frames(persons, sources)
        entries = []
        for (video, second), merged in persons.items():
            entry = key_frame_entry(video, second, self._frame_of(second), self.fps, sources[video].info)
            entry['gt_bboxes'] = rows.boxes[[row for row, _ in merged.values()]].astype(np.float32)
            entry['gt_labels'] = [columns for _, columns in merged.values()]
            entries.append(entry)
        return entries

    def _read_annotations(self, label_ids: range | None) -> AVARows:
        return read_ava_csv(self.ann_file, label_ids=label_ids)

    def _action_ids(self) -> Sequence[int]:
        """Action id of each column from 1 on."""
        return range(1, self.num_classes) if self.custom_classes is None else self.custom_classes

    def _check_classes(self) -> None:
        ids = self._action_ids()
        if len(ids) != self.num_classes - 1 or len(set(ids)) != len(ids) or any(number < 1 for number in ids):
            raise ValueError(
                f'AVAKeyFrameDataset: custom_classes must be {self.num_classes - 1} different ids from 1 on '
                f'(num_classes - 1), found {self.custom_classes}'
            )
        if self._label_map is None:
            return
        if self.custom_classes is None:
            wrong = [number for number in self._label_map if number >= self.num_classes]
            remedy = f'the ids must be below num_classes={self.num_classes}: set it to {max(self._label_map) + 1}'
        else:
            wrong = [number for number in ids if number not in self._label_map]
            remedy = 'each of custom_classes must be in the label map'
        if wrong:
            raise ValueError(f'{self.label_file}: action ids {wrong} do not fit; {remedy}')

    def _log_unnamed_actions(self, rows: AVARows) -> None:
        """The usual label maps of AVA name only the 60 actions that are evaluated, of the 80 that are annotated."""
        if not self._label_map or self.custom_classes is not None:
            return
        unnamed = rows.actions[(rows.actions > 0) & ~np.isin(rows.actions, list(self._label_map))]
        if len(unnamed):
            print_log(
                f'{self.ann_file}: {len(unnamed)} rows have actions that {self.label_file} does not name '
                f'(ids {np.unique(unnamed).tolist()}): they are used as labels, and not evaluated',
                'current',
            )

    def _persons_by_key_frame(self, rows: AVARows) -> dict[tuple[str, int], dict[str, tuple[int, list[int]]]]:
        """(video, second) -> text of a box -> (its first row, label columns)."""
        excluded = read_exclusions(self.exclude_file) if self.exclude_file else set()
        columns = {number: column for column, number in enumerate(self._action_ids(), start=1)}
        first, last = self.timestamp_range
        key_frames: dict[tuple[str, int], dict[str, tuple[int, list[int]]]] = {}
        fields = zip(rows.videos, rows.seconds.tolist(), rows.box_texts, rows.actions.tolist())
        for row, (video, second, text, action) in enumerate(fields):
            if first <= second <= last and (video, second) not in excluded:
                _, labels = key_frames.setdefault((video, second), {}).setdefault(text, (row, []))
                if action in columns:
                    labels.append(columns[action])
        return key_frames

    def _find_videos(self, videos: dict[str, None]) -> Mapping[str, VideoSource | SecondClips]:
        if 'clips' in self.data_prefix:
            return find_second_clips(videos, self.data_prefix['clips'])
        if 'video' in self.data_prefix:
            return find_video_files(videos, self.data_prefix['video'], self.fps)
        root = self.data_prefix['img']
        if self.frame_list:
            return find_listed_frames(videos, root, self.frame_list)
        return find_frame_folders(videos, root, self.filename_tmpl, self.start_index)

    def _with_frames(self, persons: dict, sources: Mapping[str, VideoSource | SecondClips]) -> dict:
        """Leaves out key frames without a frame, or refuses them."""
        absent = list(dict.fromkeys(video for video, _ in persons if video not in sources))
        beyond = [
            f'{video},{second:04d}'
            for video, second in persons
            if video in sources and not self._is_inside(sources[video], second)
        ]
        if not absent and not beyond:
            return persons
        problems = []
        if absent:
            number = len({video for video, _ in persons})
            problems.append(f'{len(absent)} of {number} videos are missing {self._searched()}: {shortened(absent)}')
        if beyond:
            problems.append(f'{len(beyond)} key frames lie outside of their videos: {shortened(beyond)}')
        problem = f'{self.ann_file}: ' + '; '.join(problems)
        left = {
            key: value
            for key, value in persons.items()
            if key[0] in sources and self._is_inside(sources[key[0]], key[1])
        }
        if self.missing == 'error' or not left:
            raise FileNotFoundError(
                f'{problem}. Check data_prefix, filename_tmpl, fps and timestamp_start; tools/prepare_data.py ava '
                "extracts and lists what is missing. missing='skip' uses what is there."
            )
        print_log(f'{problem}. {len(persons) - len(left)} of {len(persons)} key frames are left out.', 'current')
        return left

    def _is_inside(self, source: VideoSource | SecondClips, second: int) -> bool:
        if isinstance(source, SecondClips):
            return source.holds(second)
        return 0 <= self._frame_of(second) <= source.last

    def _searched(self) -> str:
        if 'clips' in self.data_prefix:
            return f'in {self.data_prefix["clips"]} (VIDEO/SECOND.mp4)'
        if 'video' in self.data_prefix:
            return f'in {self.data_prefix["video"]} (VIDEO.mp4, .mkv, .webm or .avi)'
        if self.frame_list:
            return f'in {self.frame_list} or in {self.data_prefix["img"]}'
        return f'in {self.data_prefix["img"]} (VIDEO/{self.filename_tmpl.format(self.start_index, video="VIDEO")})'

    def _frame_of(self, second: int) -> int:
        return (second - self.timestamp_start) * self.fps


def shortened(names: list[str]) -> str:
    """The first of some names, for a message."""
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')

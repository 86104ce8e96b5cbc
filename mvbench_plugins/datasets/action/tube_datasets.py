"""JHMDB and UCF101-24: every frame of a trimmed or untrimmed video is a key frame with a clip of its own."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from .key_frames import KeyFrameDataset, key_frame_entry
from .tubes import TubeAnnotations, read_tube_annotations


class TubeKeyFrameDataset(KeyFrameDataset):
    """Key frames of a data set of action tubes.

    Training takes the annotated frames of the training videos. Testing takes all frames of the test videos, annotated
    or not, since the metrics count detections on all of them.

    Args:
        ann_file: the pickle of the ground truth (see ``read_tube_annotations``).
        pipeline: transforms.
        data_prefix: ``dict(img=...)``, folder of the frames, ``<class>/<video>/<number>`` below it.
        split: which of the splits of the file, from 1.
        key_frame_interval: train on every n-th annotated frame of a video only.
        num_classes: number of label columns, one more than there are actions, which the file has to agree with; column
            0 is unused. None: as the file says.
        test_mode: the test videos instead of the training videos.
        lazy_init: load annotations only when they are needed.
        **kwargs: other arguments of mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: the annotation file or frames are absent.
        ValueError: an argument or an entry of the file is wrong.
    """

    FILENAME_TMPL = '{:05d}.jpg'

    def __init__(
        self,
        ann_file: str,
        pipeline: list,
        data_prefix: dict,
        split: int = 1,
        key_frame_interval: int = 1,
        num_classes: int | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if set(data_prefix) != {'img'}:
            raise ValueError(f'{name}: data_prefix must be dict(img=FRAMES), found {data_prefix}')
        if key_frame_interval < 1 or (test_mode and key_frame_interval != 1):
            raise ValueError(
                f'{name}: key_frame_interval must be at least 1, and 1 for testing, where each frame counts; '
                f'found {key_frame_interval}'
            )
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=data_prefix,
            num_classes=num_classes,
            start_index=1,
            test_mode=test_mode,
            lazy_init=True,
            **kwargs,
        )
        self.split = split
        self.key_frame_interval = key_frame_interval
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read the tubes and check that all frames are there."""
        annotations = read_tube_annotations(self.ann_file)
        self._check_split_and_classes(annotations)
        self.num_classes = len(annotations.classes) + 1
        self._metainfo.setdefault('classes', annotations.classes)
        lists = annotations.test_videos if self.test_mode else annotations.train_videos
        videos = lists[self.split - 1]
        check_frame_folders(
            self.data_prefix['img'], self.FILENAME_TMPL, {video: annotations.num_frames[video] for video in videos}
        )
        entries: list[dict] = []
        dropped = 0
        for video in videos:
            boxes, without_area = _boxes_by_frame(annotations, video)
            dropped += without_area
            entries.extend(self._entries(video, annotations.num_frames[video], boxes))
        if dropped:
            print_log(f'{self.ann_file}: {dropped} boxes have no area inside the image and are not used', 'current')
        if not entries:
            raise ValueError(f'{self.ann_file}: split {self.split} has no key frame to use')
        return entries

    def _check_split_and_classes(self, annotations: TubeAnnotations) -> None:
        if not 1 <= self.split <= len(annotations.train_videos):
            raise ValueError(
                f'{self.ann_file}: split must be from 1 to {len(annotations.train_videos)}, found {self.split}'
            )
        if self.num_classes not in (None, len(annotations.classes) + 1):
            raise ValueError(
                f'{self.ann_file}: the file has {len(annotations.classes)} classes, so num_classes must be '
                f'{len(annotations.classes) + 1} (column 0 is unused), found {self.num_classes}'
            )

    def _entries(self, video: str, num_frames: int, boxes: dict[int, list[tuple[int, np.ndarray]]]) -> list[dict]:
        source = dict(
            frame_dir=os.path.join(self.data_prefix['img'], video),
            filename_tmpl=self.FILENAME_TMPL,
            start_index=1,
            total_frames=num_frames,
        )
        frames = range(1, num_frames + 1) if self.test_mode else sorted(boxes)[:: self.key_frame_interval]
        entries = []
        for frame in frames:
            entry = key_frame_entry(video, frame, frame - 1, None, source)
            found = boxes.get(frame, [])
            entry['gt_bboxes'] = np.array([box for _, box in found], np.float32).reshape(-1, 4)
            entry['gt_labels'] = [[index + 1] for index, _ in found]
            entries.append(entry)
        return entries


@DATASETS.register_module()
class JHMDBDataset(TubeKeyFrameDataset):
    """JHMDB: 21 actions, 928 videos of up to 40 frames, all annotated; three splits.

    Frames are ``<class>/<video>/00001.png`` and so on, the annotation file is ``JHMDB-GT.pkl``. Arguments are those of
    :class:`TubeKeyFrameDataset`.
    """

    FILENAME_TMPL = '{:05d}.png'


@DATASETS.register_module()
class UCF101_24Dataset(TubeKeyFrameDataset):  # noqa: N801 (the name of the data set)
    """UCF101-24: 24 actions, untrimmed videos; split 1 is the one that results are published for.

    Frames are ``<class>/<video>/00001.jpg`` and so on, the annotation file is ``UCF101v2-GT.pkl``. Arguments are those
    of :class:`TubeKeyFrameDataset`.
    """


def check_frame_folders(root: str | Path, template: str, num_frames: dict[str, int]) -> None:
    """Check that the folders of frames hold what the annotations count.

    Raises:
        FileNotFoundError: says how many videos differ, and how the first ones do.
    """
    problems = [
        f'{video} ({problem})'
        for video, count in num_frames.items()
        if (problem := frame_folder_problem(Path(root, video), template, count))
    ]
    if problems:
        raise FileNotFoundError(
            f'{root}: the frames of {len(problems)} of {len(num_frames)} videos are not as annotated: '
            f'{"; ".join(problems[:5])}{"; ..." if len(problems) > 5 else ""}. Check data_prefix; '
            'tools/prepare_data.py lists all and extracts missing frames.'
        )


def frame_folder_problem(folder: Path, template: str, count: int) -> str | None:
    """What differs between a folder and the files 1 to ``count`` that it should hold; None if nothing does."""
    if not folder.is_dir():
        return 'no such folder'
    names = set(os.listdir(folder))
    absent = [number for number in range(1, count + 1) if template.format(number) not in names]
    if absent:
        return f'{len(absent)} of {count} frames are missing, the first is {template.format(absent[0])}'
    if template.format(count + 1) in names:
        return f'more frames than the {count} annotated: another frame rate?'
    return None


def _boxes_by_frame(annotations: TubeAnnotations, video: str) -> tuple[dict[int, list[tuple[int, np.ndarray]]], int]:
    """Boxes of each frame as (class index, xyxy in [0, 1]), and how many have no area inside the image."""
    height, width = annotations.resolution[video]
    boxes: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    without_area = 0
    for index, tubes in annotations.tubes[video].items():
        for tube in tubes:
            # Coordinates are used as published, although they count pixels from 1.
            normalised = np.clip(tube[:, 1:] / [width, height, width, height], 0, 1)
            for frame, box in zip(tube[:, 0].astype(int).tolist(), normalised):
                if box[0] < box[2] and box[1] < box[3]:
                    boxes[frame].append((index, box))
                else:
                    without_area += 1
    return boxes, without_area

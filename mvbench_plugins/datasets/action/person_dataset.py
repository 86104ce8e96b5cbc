"""AVA with person boxes: the persons of a key frame are given, by a detector or by the annotations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from .alphaction_files import read_alphaction_annotations
from .ava import AVAKeyFrameDataset, shortened
from .ava_files import AVARows, read_exclusions
from .person_boxes import PersonBoxes, read_person_boxes


@DATASETS.register_module()
class AVAPersonDataset(AVAKeyFrameDataset):
    """Key frames of AVA with the boxes of their persons, for models that do not detect persons themselves.

    A sample has ``proposals``, float32 ``[n, 4]``, xyxy in [0, 1], and ``scores``, float32 ``[n]``, highest first.

    - With ``person_file`` (test only): the key frames are those of the annotated videos, within ``timestamp_range`` and
      not excluded, that have a box of at least ``person_score_thr``, whether they are annotated or not. The others are
      no samples, as in the published evaluation; the log says how many.
    - Without: the annotated key frames, with their annotated boxes at score 1. This is how the published models are
      trained.

    Args:
        ann_file: csv, or the json of AlphAction (``ava_val_v2.2_min.json``) that holds the same.
        pipeline: transforms.
        person_file: person boxes of a detector (see ``read_person_boxes``).
        image_file: json of AlphAction that explains the image ids of a json ``person_file``; None: ``ann_file``.
        person_score_thr: lowest score of a person.
        lazy_init: load annotations only when they are needed.
        **kwargs: see ``AVAKeyFrameDataset``. With ``missing='skip'``, annotated videos that ``person_file`` lacks are
            logged instead of refused.

    Raises:
        FileNotFoundError: a file is absent.
        ValueError: an argument or a file is wrong; names the entry and the remedy.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list,
        person_file: str | None = None,
        image_file: str | None = None,
        person_score_thr: float = 0.8,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(ann_file, pipeline, lazy_init=True, **kwargs)
        if person_file and not self.test_mode:
            raise ValueError(
                f'AVAPersonDataset: person_file {person_file} is given without test_mode=True. Training takes the '
                'annotated boxes: leave person_file out, or set test_mode.'
            )
        if not 0 <= person_score_thr <= 1:
            raise ValueError(f'AVAPersonDataset: person_score_thr must be in [0, 1], found {person_score_thr}')
        self.person_file = self._under_root(person_file)
        self.image_file = self._under_root(image_file)
        self.person_score_thr = person_score_thr
        self._persons: PersonBoxes | None = None
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read annotations and person boxes, and find the videos."""
        if self.person_file:
            images = self.image_file or (self.ann_file if self._has_json() else None)
            self._persons = read_person_boxes(self.person_file, images)
        entries = super().load_data_list()
        for entry in entries:
            entry['proposals'], entry['scores'] = self._persons_of(entry)
        self._persons = None
        return entries

    def _has_json(self) -> bool:
        return str(self.ann_file).lower().endswith('.json')

    def _read_annotations(self, label_ids: range | None) -> AVARows:
        if self._has_json():
            return read_alphaction_annotations(self.ann_file, label_ids=label_ids)
        return super()._read_annotations(label_ids)

    def _persons_by_key_frame(self, rows: AVARows) -> dict:
        """As in the base class; with ``person_file``, of the key frames that have persons."""
        annotated = super()._persons_by_key_frame(rows)
        if self._persons is None:
            return annotated
        videos = dict.fromkeys(video for video, _ in annotated)
        self._check_coverage(self._persons, videos)
        order = {video: number for number, video in enumerate(videos)}
        keys = sorted(self._detected(self._persons, order), key=lambda key: (order[key[0]], key[1]))
        if not keys:
            raise ValueError(
                f'{self.person_file}: no person box of score {self.person_score_thr} or more in the key frames of '
                f'{self.ann_file}. Check person_score_thr, and that the files belong together.'
            )
        without = len(annotated.keys() - set(keys))
        message = (
            f'{self.person_file}: {len(keys)} key frames have persons of score {self.person_score_thr} or more, '
            f'{len(set(keys) - annotated.keys())} of them are not annotated; {without} of {len(annotated)} annotated '
            'key frames have no such person: they are left out, their boxes count as missed'
        )
        others = len(set(self._persons.videos()) - videos.keys())
        print_log(message + (f'. Boxes of {others} other videos are not used.' if others else ''), 'current')
        return {key: annotated.get(key, {}) for key in keys}

    def _check_coverage(self, persons: PersonBoxes, videos: dict[str, None]) -> None:
        covered = set(persons.videos())
        missed = [video for video in videos if video not in covered]
        if not missed:
            return
        problem = f'{self.person_file}: no boxes of {len(missed)} of the {len(videos)} videos of {self.ann_file}: '
        if self.missing == 'error' or len(missed) == len(videos):
            raise ValueError(
                f'{problem}{shortened(missed)}. Do the files belong to the same split, and are the videos named '
                "alike? Run the detector on these videos too; missing='skip' goes on without them."
            )
        print_log(f'{problem}{shortened(missed)}: they are left out', 'current')

    def _detected(self, persons: PersonBoxes, videos: Iterable[str]) -> list[tuple[str, int]]:
        """Key frames of these videos that have a person above the threshold."""
        excluded = read_exclusions(self.exclude_file) if self.exclude_file else set()
        first, last = self.timestamp_range
        return [
            key
            for key in persons.by_key_frame
            if key[0] in videos
            and first <= key[1] <= last
            and key not in excluded
            and len(persons.of(*key, self.person_score_thr)[0])
        ]

    def _persons_of(self, entry: dict) -> tuple[np.ndarray, np.ndarray]:
        if self._persons is None:
            return entry['gt_bboxes'], np.ones(len(entry['gt_bboxes']), np.float32)
        return self._persons.of(entry['video_id'], entry['timestamp'], self.person_score_thr)

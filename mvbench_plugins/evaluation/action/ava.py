"""Frame-mAP of AVA, as its official evaluation script computes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mvbench_plugins.datasets.action.ava_files import read_ava_csv, read_exclusions, read_label_map

from .detection_csv import as_written, write_detections
from .matching import first_choice, frame_pairs, greedy_match, interpolated_ap, paired_iou
from .predictions import KeyFrame, log_table, read_sample, stack, unique_key_frames

IOU_THR = 0.5
# Groups of actions by AVA's ids.
GROUPS = {'person_movement': range(1, 15), 'object_manipulation': range(15, 64), 'person_interaction': range(64, 81)}


@METRICS.register_module()
class AVAFrameMetric(BaseMetric):
    """Mean average precision at IoU 0.5 over the actions of the label map, on key frames.

    The protocol is ActivityNet's ``get_ava_performance.py``. Where the stock ``AVAMetric`` differs from it:

    - boxes and scores have the five decimals of a published csv, not four;
    - every (box, action) pair with ``score >= action_thr`` counts, not only those above;
    - detections in key frames without ground truth are false positives;
    - boxes without area are no detections;
    - an action that has ground truth and no detection has an AP of 0, instead of being left out of the mean.

    As in both, ties of equal score are ranked as ``numpy.argsort`` leaves them.

    Args:
        ann_file: ground truth, such as ``ava_val_v2.2.csv``.
        label_file: label map (pbtxt) of the actions to evaluate: 60 of AVA's 80 in the published protocol.
        exclude_file: csv of key frames (video, second) that count on neither side.
        num_classes: columns of the predicted scores, with the unused column 0.
        custom_classes: action ids that the columns from 1 on stand for, as in the dataset; default: column = id.
        action_thr: lowest score of a (box, action) pair; the published protocol has none.
        ignore_empty_frames: do not count detections in key frames without ground truth, as the stock metric.
        classwise: also return the AP of each action, as ``<action>_AP``; it is in the log in any case.
        out_csv: file to write all detections to, in the official format.
        collect_device: see ``BaseMetric``.
        prefix: see ``BaseMetric``.

    Raises:
        FileNotFoundError: an annotation file does not exist.
        ValueError: an annotation file is broken, no row is left to evaluate, or the label map, num_classes and
            custom_classes do not fit together.
    """

    default_prefix = 'mAP'

    def __init__(
        self,
        ann_file: str,
        label_file: str,
        exclude_file: str | None = None,
        num_classes: int = 81,
        custom_classes: Sequence[int] | None = None,
        action_thr: float = 0.0,
        ignore_empty_frames: bool = False,
        classwise: bool = False,
        out_csv: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_classes = num_classes
        self.action_thr = action_thr
        self.ignore_empty_frames = ignore_empty_frames
        self.classwise = classwise
        self.out_csv = out_csv
        self.excluded = read_exclusions(exclude_file) if exclude_file else set()
        names = read_label_map(label_file)
        self.ids = _ids_of_columns(label_file, names, num_classes, custom_classes)
        self.names = {column: names[action] for column, action in self.ids.items() if action in names}
        self._read_ground_truth(ann_file)

    def _read_ground_truth(self, ann_file: str) -> None:
        """Keep the rows of evaluated actions in key frames that are not excluded."""
        rows = read_ava_csv(ann_file)
        evaluated = [self.ids[column] for column in self.names]
        kept = np.isin(rows.actions, evaluated)
        keys = list(zip(rows.videos, rows.seconds.tolist()))
        if self.excluded:
            kept &= np.array([key not in self.excluded for key in keys])
        if not kept.any():
            raise ValueError(
                f'{ann_file}: none of its {len(rows)} rows is left to evaluate: all have other actions than the '
                f'{len(evaluated)} of label_file, or excluded key frames. Do ann_file, label_file and exclude_file '
                'belong together?'
            )
        self.gt_frames: dict[tuple[str, int], int] = {}
        self.gt_index = np.array(
            [self.gt_frames.setdefault(keys[row], len(self.gt_frames)) for row in kept.nonzero()[0].tolist()]
        )
        self.gt_boxes, self.gt_actions = rows.boxes[kept], rows.actions[kept]

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Take the detections out of a batch of data samples.

        Raises:
            ValueError: names the key frame whose prediction is incomplete, of wrong shape or not finite.
        """
        self.results.extend(read_sample(sample, self.num_classes) for sample in data_samples)

    def compute_metrics(self, results: list[KeyFrame]) -> dict[str, float]:
        """Evaluate all key frames.

        Returns:
            ``overall`` and, for those groups of which an action has ground truth, ``person_movement``,
            ``object_manipulation`` and ``person_interaction``: mean AP in [0, 1]. The groups are AVA's: a label map
            that does not reach into all three has actions of its own and no groups.
        """
        frames = unique_key_frames(results)
        if self.out_csv:
            write_detections(self.out_csv, frames, self.ids, self.action_thr)
            print_log(f'detections of {len(frames)} key frames written to {Path(self.out_csv)}', 'current')
        frames = [frame for frame in frames if (frame.video, frame.timestamp) not in self.excluded]
        self._log_coverage(frames)
        if self.ignore_empty_frames:
            frames = [frame for frame in frames if (frame.video, frame.timestamp) in self.gt_frames]
        precisions, counts = self._precisions(frames)

        log_table(
            [['id', 'action', 'boxes', 'AP']]
            + [[self.ids[column], self.names[column], counts[column], ap] for column, ap in precisions.items()]
        )
        metrics = {'overall': float(np.nanmean(list(precisions.values())))}
        evaluated = {self.ids[column] for column in self.names}
        groups = GROUPS if all(evaluated & set(ids) for ids in GROUPS.values()) else {}
        for group, ids in groups.items():
            members = [ap for column, ap in precisions.items() if self.ids[column] in ids and not np.isnan(ap)]
            if members:
                metrics[group] = float(np.mean(members))
        if self.classwise:
            metrics |= {f'{self.names[column]}_AP': ap for column, ap in precisions.items() if not np.isnan(ap)}
        return metrics

    def _log_coverage(self, frames: list[KeyFrame]) -> None:
        """State which key frames only one side has: evaluating with a wrong file or on a part shows here."""
        predicted = {(frame.video, frame.timestamp) for frame in frames}
        missed = len(self.gt_frames.keys() - predicted)
        empty = len(predicted - self.gt_frames.keys())
        treatment = 'are ignored' if self.ignore_empty_frames else 'count as false positives'
        print_log(
            f'{len(predicted)} key frames predicted, {len(self.gt_frames)} annotated; {missed} annotated ones were not '
            f'predicted (their boxes count as missed), detections in {empty} without annotation {treatment}',
            'current',
        )

    def _precisions(self, frames: list[KeyFrame]) -> tuple[dict[int, float], dict[int, int]]:
        """Compute the AP and the number of annotated boxes of each evaluated column; NaN without ground truth."""
        numbers, boxes, scores = stack(frames, self.num_classes)
        boxes = as_written(boxes)
        with_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
        number_of = {(frame.video, frame.timestamp): number for number, frame in enumerate(frames)}
        gt_numbers = np.array([number_of.get(key, -1) for key in self.gt_frames])[self.gt_index]
        gt_order = np.argsort(gt_numbers, kind='stable')

        precisions, counts = {}, {}
        for column in self.names:
            gts = gt_order[self.gt_actions[gt_order] == self.ids[column]]
            counts[column] = len(gts)
            dets = np.flatnonzero(with_area & (scores[:, column] >= self.action_thr))
            values = as_written(scores[dets, column])
            # As official: key frames in the order of the detections, falling scores within.
            order = np.lexsort((-values, numbers[dets]))
            precisions[column] = _class_ap(
                numbers[dets][order], boxes[dets][order], values[order], gt_numbers[gts], self.gt_boxes[gts]
            )
        return precisions, counts


def _class_ap(
    numbers: np.ndarray, boxes: np.ndarray, scores: np.ndarray, gt_numbers: np.ndarray, gt_boxes: np.ndarray
) -> float:
    """Compute the AP of one action.

    A detection counts for the annotated box that it overlaps most, and for no other: once that box is taken by a
    detection of higher score, it is a false positive.
    """
    if not len(gt_boxes):
        return float('nan')
    dets, gts = frame_pairs(numbers, gt_numbers)
    dets, gts, ious = first_choice(dets, gts, paired_iou(boxes[dets], gt_boxes[gts]))
    enough = ious >= IOU_THR
    hits = greedy_match(dets[enough], gts[enough], ious[enough], len(boxes), len(gt_boxes))
    # The official order among equal scores: published numbers contain it.
    return interpolated_ap(hits[np.argsort(scores)[::-1]], len(gt_boxes))


def _ids_of_columns(
    label_file: str, names: dict[int, str], num_classes: int, custom_classes: Sequence[int] | None
) -> dict[int, int]:
    """Return the action id of each score column, after checking that the columns hold the evaluated actions."""
    if custom_classes is None:
        if max(names) >= num_classes:
            raise ValueError(
                f'{label_file}: action id {max(names)} needs num_classes of at least {max(names) + 1} (column = action '
                f'id, column 0 unused), found num_classes={num_classes}'
            )
        return {column: column for column in range(1, num_classes)}
    unknown = sorted(set(custom_classes) - names.keys())
    if unknown or len(custom_classes) != num_classes - 1:
        raise ValueError(
            f'custom_classes has {len(custom_classes)} ids, of which {unknown} are not in {label_file}; expected '
            f'num_classes - 1 = {num_classes - 1} ids of that label map'
        )
    return dict(enumerate(custom_classes, start=1))

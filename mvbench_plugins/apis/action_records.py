"""Detections of actions as plain lists and dicts, for json files and for drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmaction.structures import ActionDataSample

from mvbench_plugins.apis.action_names import Names, column_names


def to_record(
    sample: ActionDataSample, size: tuple[int, int], names: Names, pred_score_thr: float, action_thr: float
) -> dict[str, Any]:
    """Turns the detections of a key frame into plain numbers.

    Args:
        sample: data sample on the CPU with ``pred_instances`` (normalised boxes), ``time`` and ``frame_index``.
        size: (width, height) of the video in pixels.
        names: names of the actions, see :func:`~mvbench_plugins.apis.action_names.column_names`.
        pred_score_thr: people with a lower person score are left out.
        action_thr: actions with a lower score are left out.

    Returns:
        ``time`` (seconds), ``frame`` (0-based index) and ``detections``: ``box`` (x1, y1, x2, y2 in pixels),
        ``person_score`` (where the model has it) and ``actions`` (``id``, ``name``, ``score``; best first).
    """
    found = sample.pred_instances
    scores = found.scores.numpy()
    titles = column_names(names, scores.shape[1])
    boxes = found.bboxes.numpy() * np.tile(size, 2)
    people = found.person_scores.tolist() if 'person_scores' in found else [None] * len(boxes)
    detections = []
    for box, person, row in zip(boxes.tolist(), people, scores.tolist(), strict=True):
        if person is not None and person < pred_score_thr:
            continue
        detection: dict[str, Any] = dict(box=[round(value, 2) for value in box])
        if person is not None:
            detection['person_score'] = round(person, 4)
        # column 0 is no action
        order = sorted(range(1, len(row)), key=lambda action: -row[action])
        detection['actions'] = [
            dict(id=action, name=titles[action], score=round(row[action], 4))
            for action in order
            if row[action] >= action_thr
        ]
        detections.append(detection)
    return dict(time=round(sample.time, 3), frame=sample.frame_index, detections=detections)

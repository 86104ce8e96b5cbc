"""Videos of index masks on disk and what a segmenter would hand to the metric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import PixelData

from mvbench_plugins.common.palette_png import davis_palette, write_index_map
from mvbench_plugins.datasets.vos import object_labels


class Videos:
    """Ground truth in a folder; ``predictions`` are masks by video.

    Args:
        root: of the files.
        truth: masks [frames, H, W] by video; one that is None has no file.
        given: labels that are given by number of the frame, by video; by default those of the first frame.
        unsaved: numbers of the frames that are no part of the submission, by video.
    """

    def __init__(self, root: Path, truth: dict[str, list], given: dict | None = None, unsaved: dict | None = None):
        self.root, self.truth, self.given, self.unsaved = root, truth, given or {}, unsaved or {}
        for video, masks in truth.items():
            (root / video).mkdir(parents=True)
            for frame, mask in enumerate(masks):
                if mask is not None:
                    write_index_map(self.path(video, frame), mask, davis_palette())

    def path(self, video: str, frame: int) -> Path:
        return self.root / video / f'{frame:05d}.png'

    def samples(self, video: str, predictions) -> Iterator[dict]:
        """Frame by frame, as the evaluator passes them on."""
        for frame, (mask, truth) in enumerate(zip(predictions, self.truth[video], strict=True)):
            path = None if truth is None else str(self.path(video, frame))
            default = {0: object_labels(self.truth[video][0])} if video not in self.given else {}
            given = self.given.get(video, default).get(frame)
            sample = DetDataSample(
                metainfo=dict(
                    video_name=video,
                    frame_id=frame,
                    frame_name=f'{frame:05d}',
                    video_length=len(predictions),
                    gt_mask_path=path,
                    annotated=given is not None,
                    given_labels=given,
                    save=frame not in self.unsaved.get(video, ()),
                    palette_path=str(self.path(video, 0)),
                )
            )
            sample.pred_sem_seg = PixelData(sem_seg=torch.from_numpy(np.asarray(mask))[None])
            yield TrackDataSample(video_data_samples=[sample]).to_dict()

    def evaluate(self, predictions: dict, **options) -> dict:
        metric = METRICS.build({'type': 'VOSMetric', **options})
        for video, masks in predictions.items():
            for sample in self.samples(video, masks):
                metric.process({}, [sample])
        return metric.evaluate(len(predictions))

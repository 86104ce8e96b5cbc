"""Frame-mAP and video-mAP of JHMDB and UCF101-24."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.utils import track_iter_progress

from mvbench_plugins.datasets.action.tubes import read_tube_annotations

from .frame_map import frame_ap
from .linking import LinkRule, Tube, link_video
from .predictions import KeyFrame, log_table, read_sample, stack, unique_key_frames
from .video_map import suppress_tubes, video_ap

VIDEO_IOU_THRS = (0.2, 0.5, 0.75)
COCO_IOU_THRS = tuple(np.arange(0.5, 1.0, 0.05).tolist())


@METRICS.register_module()
class ActionTubeMetric(BaseMetric):
    """Frame-mAP at IoU 0.5 and video-mAP at 0.2, 0.5, 0.75 and 0.5:0.95 over all frames of the test videos.

    The protocol is that of the ACT detector (Kalogeiton et al., ICCV 2017), in which JHMDB and UCF101-24 results are
    published: boxes in pixels of the video with ``width = x2 - x1 + 1``, detections linked online into tubes, and the
    area under the plain precision-recall curve by trapezoids.

    Args:
        ann_file: ground-truth tubes, such as ``JHMDB-GT.pkl`` or ``UCF101v2-GT.pkl``.
        split: number of the split, from 1, whose test videos are evaluated.
        action_thr: lowest score of a (box, class) pair; the published protocol has none.
        linking: values of :class:`LinkRule` that differ from the published ones.
        classwise: also return ``<class>_frame_AP@0.5`` and ``<class>_video_AP@0.5``; they are in the log in any case.
        collect_device: see ``BaseMetric``.
        prefix: see ``BaseMetric``.

    Raises:
        FileNotFoundError: no annotation file.
        ValueError: a broken annotation file, no such split, or an impossible value of linking.
    """

    # No prefix: the names say which metric they are of. (None would be warned about.)
    default_prefix = ''

    def __init__(
        self,
        ann_file: str,
        split: int = 1,
        action_thr: float = 0.0,
        linking: dict | None = None,
        classwise: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.action_thr = action_thr
        self.classwise = classwise
        unknown = sorted((linking or {}).keys() - LinkRule.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f'linking has {unknown}; expected some of {sorted(LinkRule.__dataclass_fields__)}')
        self.rule = LinkRule(**(linking or {}))
        annotations = read_tube_annotations(ann_file)
        if not 1 <= split <= len(annotations.test_videos):
            raise ValueError(f'{ann_file} has the splits 1 to {len(annotations.test_videos)}, found split={split}')
        self.source = f'the test videos of split {split} of {ann_file}'
        self.classes = annotations.classes
        self.num_frames = {video: annotations.num_frames[video] for video in annotations.test_videos[split - 1]}
        self.sizes = annotations.resolution
        self.truth = self._read_tubes(ann_file, annotations.tubes)

    def _read_tubes(
        self, ann_file: str, tubes: dict[str, dict[int, list[np.ndarray]]]
    ) -> list[dict[str, list[np.ndarray]]]:
        """Return for each class the annotated tubes of the evaluated videos, by frame."""
        truth: list[dict[str, list[np.ndarray]]] = [{} for _ in self.classes]
        for video in self.num_frames:
            for label, arrays in tubes[video].items():
                truth[label][video] = [tube[np.argsort(tube[:, 0])] for tube in arrays]
                if any((np.diff(tube[:, 0]) != 1).any() for tube in truth[label][video]):
                    raise ValueError(
                        f'{ann_file}: a tube of class {self.classes[label]!r} in video {video!r} leaves out frames; '
                        'the overlap of tubes is defined for consecutive frames. Split it into one tube for each part.'
                    )
        if not any(annotated for by_video in truth for annotated in by_video.values()):
            raise ValueError(f'no annotated tube in {self.source}: nothing to evaluate')
        return truth

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Take the detections out of a batch of data samples.

        Raises:
            ValueError: names the key frame whose prediction is incomplete, of wrong shape or not finite, or that is no
                frame of the evaluated videos.
        """
        for sample in data_samples:
            frame = read_sample(sample, len(self.classes) + 1)
            if not 1 <= frame.timestamp <= self.num_frames.get(frame.video, 0):
                known = self.num_frames.get(frame.video)
                found = f'it has frames 1 to {known}' if known else f'that is none of {self.source}'
                raise ValueError(
                    f'prediction for frame {frame.timestamp} of video {frame.video!r}, but {found}. Do ann_file and '
                    'split of the test dataset and of the metric agree?'
                )
            self.results.append(frame)

    def compute_metrics(self, results: list[KeyFrame]) -> dict[str, float]:
        """Evaluate all frames, then link them and evaluate the tubes.

        Returns:
            ``frame_mAP@0.5``, ``video_mAP@0.2``, ``video_mAP@0.5``, ``video_mAP@0.75``, ``video_mAP@0.5:0.95``: means
            over the classes with ground truth, in [0, 1].
        """
        frames = sorted(unique_key_frames(results), key=lambda frame: (frame.video, frame.timestamp))
        total = sum(self.num_frames.values())
        print_log(f'{len(frames)} of the {total} frames of {self.source} were predicted', 'current')
        numbers, boxes, scores = stack(frames, len(self.classes) + 1)
        scales = [self.sizes[frame.video][::-1] * 2 for frame in frames]
        boxes = boxes * np.array(scales, float).reshape(-1, 4)[numbers]
        frame_aps = self._frame_aps(frames, numbers, boxes, scores)
        video_aps = self._video_aps(self._link(frames, numbers, boxes, scores[:, 1:]))

        log_table(
            [['class', 'frame AP@0.5', *(f'video AP@{thr}' for thr in VIDEO_IOU_THRS), 'video AP@0.5:0.95']]
            + [[name, ap, *row] for name, ap, row in zip(self.classes, frame_aps, video_aps.tolist())]
        )
        metrics = {'frame_mAP@0.5': float(np.nanmean(frame_aps))}
        names = [*map(str, VIDEO_IOU_THRS), '0.5:0.95']
        metrics |= {f'video_mAP@{name}': float(mean) for name, mean in zip(names, np.nanmean(video_aps, 0))}
        if self.classwise:
            for name, ap, row in zip(self.classes, frame_aps, video_aps):
                if not np.isnan(ap):
                    metrics[f'{name}_frame_AP@0.5'] = ap
                    metrics[f'{name}_video_AP@0.5'] = float(row[VIDEO_IOU_THRS.index(0.5)])
        return metrics

    def _frame_aps(
        self, frames: list[KeyFrame], numbers: np.ndarray, boxes: np.ndarray, scores: np.ndarray
    ) -> list[float]:
        number_of = {(frame.video, frame.timestamp): number for number, frame in enumerate(frames)}
        precisions = []
        for column, truth in enumerate(self.truth, start=1):
            tubes = [(video, tube) for video, annotated in truth.items() for tube in annotated]
            gt_numbers = [number_of.get((video, frame), -1) for video, tube in tubes for frame in tube[:, 0].tolist()]
            gt_boxes = np.concatenate([np.zeros((0, 4)), *(tube[:, 1:] for _, tube in tubes)])
            used = scores[:, column] >= self.action_thr
            precisions.append(
                frame_ap(numbers[used], boxes[used], scores[used, column], np.array(gt_numbers, int), gt_boxes)
            )
        return precisions

    def _link(
        self, frames: list[KeyFrame], numbers: np.ndarray, boxes: np.ndarray, scores: np.ndarray
    ) -> list[list[tuple[str, Tube]]]:
        """Return for each class the (video, tube) of all videos."""
        tubes: list[list[tuple[str, Tube]]] = [[] for _ in self.classes]
        videos = sorted({frame.video for frame in frames})
        # Frames are sorted by video, so the detections of a video are one slice.
        of_frame = np.searchsorted(videos, [frame.video for frame in frames])
        bounds = np.searchsorted(of_frame[numbers], np.arange(len(videos) + 1))
        timestamps = np.array([frame.timestamp for frame in frames], int)[numbers]
        for index, video in enumerate(track_iter_progress(videos) if videos else ()):
            part = slice(bounds[index], bounds[index + 1])
            linked = link_video(
                timestamps[part], boxes[part], scores[part], self.num_frames[video], self.rule, self.action_thr
            )
            for label, found in enumerate(linked):
                tubes[label] += [(video, tube) for tube in suppress_tubes(found, self.rule.tube_nms_thr)]
        return tubes

    def _video_aps(self, tubes: list[list[tuple[str, Tube]]]) -> np.ndarray:
        """Compute [classes, 4] AP at the single thresholds and the mean from 0.5 to 0.95."""
        rows = []
        for found, truth in zip(tubes, self.truth):
            precisions = video_ap(found, truth, VIDEO_IOU_THRS + COCO_IOU_THRS)
            single = len(VIDEO_IOU_THRS)
            rows.append([*precisions[:single], np.mean(precisions[single:])])
        return np.array(rows)

"""J&F of video object segmentation, frame by frame while the model runs, and result files for the servers."""

from __future__ import annotations

import csv
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmdet.evaluation.metrics import BaseVideoMetric
from mmdet.registry import METRICS
from mmengine.logging import print_log
from terminaltables import AsciiTable

from mvbench_plugins.datasets.vos.index_masks import VOID
from mvbench_plugins.datasets.vos.result_writer import ResultWriter

from .fast_masks import read_mask
from .vos_measures import frame_measures
from .vos_summary import ObjectScores, check_categories, read_seen, summarise, summarise_split

_WAITING = 8  # frames for each thread that may wait for their measures: bounds the memory

# Of one frame: video, number, {label: (J, F), or None where it does not count}, name of the written file.
Row = tuple[str, int, dict[int, tuple[float, float] | None], str | None]


@METRICS.register_module()
class VOSMetric(BaseVideoMetric):
    """Region similarity J, contour accuracy F and their mean, as the DAVIS toolkit computes them.

    A frame is scored if its data sample names a ground-truth file (``gt_mask_path``) and is to be saved (``save``). An
    object takes part from the frame on which it is given (``given_labels``) to the last scored one of its video;
    objects that are never given do not. An object that neither mask of a frame shows scores 1 there. Masks are
    measured in threads while the model goes on, and never kept.

    Label 255 of the ground truth is an object if it is given (DAVIS 2016: nothing else is), and no object otherwise.

    Args:
        skip_first: leave out the frame on which an object is given.
        skip_last: leave out the last scored frame of each video, as DAVIS, MOSE and VOST do.
        ignore_void: pixels of label 255 in the ground truth count neither for nor against an object (VOST); otherwise
            they count as background (DAVIS).
        meta_file: ``meta.json`` of YouTube-VOS, which tells the objects' categories.
        seen_classes: categories of the training set; with ``meta_file`` Js, Fs, Ju, Fu and G are computed.
        outfile_prefix: write the masks to this folder, all of them to ``<outfile_prefix>.zip`` and J and F of each
            object to ``<outfile_prefix>.csv``.
        layout: benchmark whose submission layout the files have, see ``result_writer.LAYOUTS``.
        format_only: only write, for a server that has the ground truth.
        num_threads: threads that measure and write, beside the one that runs the model. Measures are many short steps
            that hold Python's lock: more than one thread pays only where large files are written.
        collect_device: see ``BaseMetric``.
        prefix: see ``BaseMetric``.

    Raises:
        FileNotFoundError: no meta file.
        ValueError: ``format_only`` without ``outfile_prefix``, one of ``meta_file`` and ``seen_classes`` without the
            other, an unknown layout or a broken meta file.
    """

    default_prefix = 'vos'

    def __init__(
        self,
        skip_first: bool = True,
        skip_last: bool = True,
        ignore_void: bool = False,
        meta_file: str | None = None,
        seen_classes: Sequence[str] | None = None,
        outfile_prefix: str | None = None,
        layout: str = 'davis',
        format_only: bool = False,
        num_threads: int = 1,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only and outfile_prefix is None:
            raise ValueError('format_only=True needs outfile_prefix, the folder of the result files')
        if (meta_file is None) != (seen_classes is None):
            raise ValueError('meta_file and seen_classes belong together: give both, or none for no split')
        self.skip_first = skip_first
        self.skip_last = skip_last
        self.ignore_void = ignore_void
        self.seen = None if meta_file is None or seen_classes is None else read_seen(meta_file, seen_classes)
        self.writer = None if outfile_prefix is None else ResultWriter(outfile_prefix, layout)
        self.format_only = format_only
        self.num_threads = num_threads
        self.pool: ThreadPoolExecutor | None = None
        self.waiting: deque[Future] = deque()
        self.given: dict[str, list[int]] = defaultdict(list)  # of each video the labels given so far

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Take the predictions of a batch; the frames of a video have to come in order.

        Raises:
            ValueError: names the frame without a prediction, or whose prediction and ground truth differ in size, the
                ground-truth file that cannot be read, or the object of which the meta file says no category.
        """
        for track_sample in data_samples:
            for sample in track_sample['video_data_samples']:
                predicted = sample.get('pred_sem_seg')
                self.add_frame(sample.metainfo, None if predicted is None else predicted.sem_seg[0])

    def add_frame(self, meta: dict, mask: torch.Tensor | np.ndarray | Path | None) -> None:
        """Hand one frame over to the threads; the frames of a video have to come in order.

        Args:
            meta: meta information of the frame's data sample.
            mask: predicted labels ``(height, width)``, or their file; None is wrong in frames that are scored or saved.

        Raises:
            ValueError: see :meth:`process`.
            FileNotFoundError: the file of an earlier frame's mask is missing.
        """
        truth_path = None if self.format_only or not meta['save'] else meta['gt_mask_path']
        if meta['frame_id'] == 0:
            self.given.pop(meta['video_name'], None)
        known = self.given[meta['video_name']]
        new = [label for label in meta['given_labels'] or () if label not in known]
        if self.seen is not None:
            check_categories(meta['video_name'], new, self.seen)
        known += new
        if truth_path is None and (self.writer is None or not meta['save']):
            return
        if mask is None:
            raise ValueError(
                f'frame {meta["frame_name"]} of video {meta["video_name"]!r} has no pred_sem_seg; '
                'expected the labels of its pixels as the model predicts them'
            )
        if isinstance(mask, torch.Tensor):
            mask = mask.cpu().numpy()
        if isinstance(mask, np.ndarray):
            mask = mask.astype(np.uint8, copy=False)
        labels = {label: self.skip_first and label in new for label in known}
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix='vos_metric')
        self.waiting.append(self.pool.submit(self._measure, mask, labels, meta, truth_path))
        while len(self.waiting) > _WAITING * self.num_threads:
            self.results.append(self.waiting.popleft().result())

    def _measure(self, mask: np.ndarray | Path, labels: dict[int, bool], meta: dict, truth_path: str | None) -> Row:
        """Write and score one frame, but for labels that are to be left out (True); runs in a thread."""
        mask = read_mask(mask) if isinstance(mask, Path) else mask
        name = None
        if self.writer is not None and meta['save']:
            name = self.writer.write(meta['video_name'], meta['frame_name'], mask, meta['palette_path'])
        scores = dict.fromkeys(labels) if truth_path is not None else {}
        counted = [label for label, left_out in labels.items() if not left_out]
        if truth_path is not None and counted:
            truth = read_mask(truth_path)
            if truth.shape != mask.shape:
                raise ValueError(
                    f'{truth_path}: the mask has (height, width) {truth.shape}, the prediction for frame '
                    f'{meta["frame_name"]} of video {meta["video_name"]!r} has {mask.shape}; '
                    'expected the size of the frame in its file'
                )
            void = VOID if self.ignore_void and VOID not in labels else None
            scores |= zip(counted, map(tuple, frame_measures(mask, truth, counted, void).tolist()))
        return meta['video_name'], meta['frame_id'], scores, name

    def wait(self) -> None:
        """Wait for the threads; then ``results`` has a row of each frame."""
        try:
            while self.waiting:
                self.results.append(self.waiting.popleft().result())
        finally:
            if self.pool is not None:
                self.pool.shutdown()
            self.pool = None
            self.waiting.clear()
            self.given.clear()

    def evaluate(self, size: int = 1) -> dict[str, float]:
        """Wait for the threads, collect from all ranks and compute the metrics; see ``BaseVideoMetric``."""
        self.wait()
        return super().evaluate(size)

    def compute_metrics(self, results: list[Row]) -> dict[str, float]:
        """Average over frames, then over objects.

        Returns:
            What :func:`summarise` and, with a meta file, :func:`summarise_split` return; nothing if only files are
            written.

        Raises:
            ValueError: no object is scored.
        """
        if self.writer is not None:
            archive = self.writer.pack(name for *_, name in results if name is not None)
            print_log(f'masks written to {self.writer.out_dir} and {archive}', 'current')
        if self.format_only:
            return {}
        objects = self._objects(results)
        if not objects:
            raise ValueError(
                'no object to score: no frame after the one on which an object is given has a ground-truth file. '
                'Use format_only=True and outfile_prefix to write results for a server.'
            )
        self._report(objects)
        metrics = summarise(objects)
        if self.seen is not None:
            metrics |= summarise_split(objects, self.seen)
        return metrics

    def _objects(self, results: list[Row]) -> list[ObjectScores]:
        """Return the objects with the frames that count."""
        videos: dict[str, dict[int, dict]] = defaultdict(dict)
        for video, frame, scores, _ in results:
            if scores:
                videos[video][frame] = scores
        objects = []
        for video, frames in sorted(videos.items()):
            ordered = [frames[frame] for frame in sorted(frames)]
            for label in ordered[-1]:  # the last frame knows all objects
                found = [frame.get(label) for frame in ordered[: len(ordered) - self.skip_last]]
                counted = [values for values in found if values is not None]
                if counted:
                    objects.append(ObjectScores(video, label, np.array(counted)))
                else:
                    print_log(f'object {label} of video {video!r} is in no frame that counts: left out', 'current')
        return objects

    def _report(self, objects: list[ObjectScores]) -> None:
        """Log the means of each video, and write those of each object."""
        videos = defaultdict(list)
        for one in objects:
            videos[one.video].append(one.means)
        rows: list[list[object]] = [['video', 'objects', 'J&F', 'J', 'F']]
        for video, means in videos.items():
            rows.append([video, len(means), *(f'{value:.3f}' for value in (np.mean(means), *np.mean(means, axis=0)))])
        print_log(f'\n{AsciiTable(rows).table}', 'current')
        if self.writer is None:
            return
        path = Path(f'{self.writer.out_dir}.csv')
        with open(path, 'w', newline='', encoding='utf-8') as file:
            table = csv.writer(file)
            table.writerow(['video', 'object', 'frames', 'J', 'F'])
            table.writerows([one.video, one.label, len(one.values), *one.means.tolist()] for one in objects)
        print_log(f'J and F of each object written to {path}', 'current')

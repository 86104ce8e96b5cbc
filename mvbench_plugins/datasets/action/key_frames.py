"""What the data sets of action detection have in common: a sample is one key frame, with the video around it."""

from __future__ import annotations

import numpy as np
from mmaction.datasets import BaseActionDataset
from mmengine.fileio import join_path
from mmengine.utils import is_abs


class KeyFrameDataset(BaseActionDataset):
    """A data set of key frames with normalised boxes and multi-hot labels.

    Subclasses load entries of ``video_id``, ``timestamp``, ``img_key``, ``key_frame``, ``fps``, ``gt_bboxes``
    (float32 ``[n, 4]``, xyxy in [0, 1]), ``gt_labels`` (for each box the columns that are 1; expanded only when a
    sample is taken, since half a million label rows would fill the memory with zeros) and ``source``: where the frames
    are, merged into the sample.
    """

    def get_data_info(self, idx: int) -> dict:
        """One sample, as the pipeline takes it; ``gt_labels`` is float32 ``[n, num_classes]``, column 0 unused."""
        info = super().get_data_info(idx)
        info.update(info.pop('source'))
        labels = np.zeros((len(info['gt_bboxes']), self.num_classes), np.float32)
        for row, columns in enumerate(info['gt_labels']):
            labels[row, columns] = 1
        info['gt_labels'] = labels
        return info

    def _under_root(self, path: str | None) -> str | None:
        """Joins a relative path with ``data_root``, as the base class does with ``ann_file``."""
        return join_path(self.data_root, path) if path and self.data_root and not is_abs(path) else path


def key_frame_entry(video: str, timestamp: int, key_frame: int, fps: int | None, source: dict) -> dict:
    """The entry of a key frame without its boxes.

    Args:
        video: name of the video.
        timestamp: what the annotations call the key frame: a second, or a frame number from 1.
        key_frame: index of the frame from 0, counted at ``fps``.
        fps: rate at which key frames are counted; None where frames are counted as they are stored.
        source: ``frame_dir``, ``filename_tmpl``, ``start_index`` and ``total_frames`` of frames on disk, or
            ``filename`` and ``start_index`` of a video file.
    """
    return dict(
        video_id=video,
        timestamp=timestamp,
        img_key=f'{video},{timestamp:04d}',
        key_frame=key_frame,
        fps=fps,
        source=source,
    )

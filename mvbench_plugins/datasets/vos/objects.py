"""Which objects of a clip are trained on, and how a clip is handed to the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform, to_tensor
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import PixelData

from .index_masks import VOID


@TRANSFORMS.register_module()
class BinariseVOSMask(BaseTransform):
    """Make greyscale masks of one object (static images) to index masks of label 1.

    Args:
        threshold: lowest value that is the object.
    """

    def __init__(self, threshold: int = 128) -> None:
        self.threshold = threshold

    def transform(self, results: dict) -> dict:
        """Change the ``gt_seg_map`` of one frame."""
        results['gt_seg_map'] = (results['gt_seg_map'] >= self.threshold).astype(np.uint8)
        return results


@TRANSFORMS.register_module()
class SelectVOSObjects(BaseTransform):
    """Choose objects of a clip, among those of its first frame, and number them from 1.

    A clip without an object, or with too much that is not annotated, is turned down (None) so that the data set draws
    another one of the same video; the last try is taken as it is, with one empty object if need be. Sets
    ``num_objects`` (at least 1); ``gt_seg_map`` has 0 for the background and for objects that were not chosen.

    Args:
        max_objects: how many objects at most; chosen at random if there are more.
        ignore_void: 255 means "not annotated" (VOST): it is no object, and stays 255 in the masks.
        max_void: turn a clip down if more than this fraction of the first mask's nonzero pixels is 255.
        small_object_areas: ``(least, grown, large)`` in pixels, against tiny objects that were only about to come into
            view (BL30K: 100, 400, 900): an object counts if it has more than ``large`` in the first frame, or more than
            ``least`` there and less than ``grown`` in each of the next two. None: all count.
    """

    def __init__(
        self,
        max_objects: int = 3,
        ignore_void: bool = False,
        max_void: float = 0.2,
        small_object_areas: tuple[int, int, int] | None = None,
    ) -> None:
        if not 1 <= max_objects < VOID:
            raise ValueError(f'SelectVOSObjects: max_objects must be from 1 to {VOID - 1}, found {max_objects}')
        self.max_objects = max_objects
        self.ignore_void = ignore_void
        self.max_void = max_void
        self.small_object_areas = small_object_areas

    def transform(self, results: dict) -> dict | None:
        """Relabel the list ``gt_seg_map``; None if the clip is turned down."""
        masks = results['gt_seg_map']
        areas = np.stack([np.bincount(mask.ravel(), minlength=VOID + 1) for mask in masks[:3]])
        labels = self._candidates(areas)
        if (not labels or self._too_much_void(areas[0])) and not results['last_try'][0]:
            return None
        if len(labels) > self.max_objects:
            labels = np.random.choice(labels, self.max_objects, replace=False).tolist()
        slots = np.zeros(VOID + 1, np.uint8)
        slots[labels] = np.arange(1, len(labels) + 1)
        if self.ignore_void:
            slots[VOID] = VOID
        results['gt_seg_map'] = [slots[mask] for mask in masks]
        results['num_objects'] = max(1, len(labels))
        return results

    def _candidates(self, areas: np.ndarray) -> list[int]:
        labels = [label for label in np.flatnonzero(areas[0]).tolist() if label]
        if self.ignore_void:
            labels = [label for label in labels if label != VOID]
        if self.small_object_areas is not None:
            least, grown, large = self.small_object_areas
            first, later = areas[0], areas[1:].max(axis=0, initial=0)
            labels = [
                label for label in labels if first[label] > large or (first[label] > least and later[label] < grown)
            ]
        return labels

    def _too_much_void(self, areas: np.ndarray) -> bool:
        return self.ignore_void and areas[VOID] > self.max_void * areas[1:].sum()


@TRANSFORMS.register_module()
class PackVOSInputs(BaseTransform):
    """Pack the frames for the model: ``inputs`` is ``dict(img=uint8 [T, 3, H, W])``, RGB.

    ``data_samples`` is a ``TrackDataSample`` with a ``DetDataSample`` per frame. A frame with a mask has
    ``gt_sem_seg.sem_seg``, uint8 ``[1, H, W]``. In training the ``TrackDataSample`` has ``num_objects``.
    mmdet's ``PackTrackInputs`` has no place for index masks.

    Args:
        meta_keys: what the ``DetDataSample`` of each frame tells.
    """

    META_KEYS = (
        'video_id',
        'video_name',
        'frame_id',
        'video_length',
        'frame_name',
        'img_path',
        'gt_mask_path',
        'palette_path',
        'ori_shape',
        'img_shape',
        'annotated',
        'given_labels',
        'save',
    )

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack lists of the values of the frames."""
        # ``video_length`` of the pipeline counts the frames of this item, the model needs those of the stream.
        results['video_length'] = results['ori_video_length']
        frames = []
        for number, mask in enumerate(results['gt_seg_map']):
            frame = DetDataSample(metainfo={key: results[key][number] for key in self.meta_keys})
            if mask is not None:
                frame.gt_sem_seg = PixelData(sem_seg=to_tensor(np.ascontiguousarray(mask[None])))
            frames.append(frame)
        clip = TrackDataSample(video_data_samples=frames)
        if 'num_objects' in results:
            clip.set_metainfo(dict(num_objects=results['num_objects']))
        images = np.ascontiguousarray(np.stack(results['img']).transpose(0, 3, 1, 2))
        return dict(inputs=dict(img=to_tensor(images)), data_samples=clip)

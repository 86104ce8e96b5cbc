"""Videos of index masks: folders of frames and masks become streams for testing and clips for training."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseVideoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from .frames import Frame, VideoFrames
from .index_masks import VOID, object_labels, read_index_mask
from .layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    check_folders,
    list_files,
    list_videos,
    read_meta,
    read_video_list,
    shortened,
)
from .loading import check_mask_size, open_frame

ANNOTATIONS = ('first', 'all', 'first_appearance')


@DATASETS.register_module()
class VOSDataset(BaseVideoDataset):
    """Videos for video object segmentation, in folders as DAVIS introduced them.

    Expected on disk: ``<img>/<video>/<frame>.jpg`` and ``<mask>/<video>/<frame>.png``, an index mask (see
    ``read_index_mask``) with the stem of its frame. Frames are in the order of their names.

    Training (``test_mode=False``): an item is a clip of a video, whose frames are those with a mask; the pipeline
    starts with ``VOSClipSample``. Videos of fewer than ``min_frames`` such frames are left out. A clip that the
    pipeline turns down (it returns None, see ``SelectVOSObjects``) is drawn again from the same video, ``max_tries``
    times in all; the last one is taken as it is.

    Testing: an item is a frame, asked for by ``TrackImgSampler``; a video starts at its first mask that holds an
    object, frames before it are no part of the stream. Per frame the pipeline gets ``img_path``, ``mask_path`` (what
    the model is given, or None), ``given_labels`` (the objects in it that count, or None), ``gt_mask_path``,
    ``palette_path``, ``annotated``, ``save``, ``frame_id`` (position in the stream), ``frame_name``, ``video_name``.

    Args:
        ann_file: list of videos (text, one name per line) or meta.json; empty: all folders below ``img``.
        data_root: of all paths.
        data_prefix: ``dict(img=..., mask=..., gt=...)``; ``gt`` has masks that only the metric reads. Without it the
            metric reads those of ``mask``, unless ``annotations='all'``, where they hold given objects only.
        annotations: which masks the model is given in testing. ``'first'``: the first one; ``'all'``: each one, as it
            is (YouTube-VOS: files hold the objects that appear there); ``'first_appearance'``: each object in the
            first mask that shows it.
        min_frames: least number of frames with masks of a training video, the ``num_frames`` of ``VOSClipSample``.
        max_tries: how many clips of a video are tried.
        test_mode: streams instead of clips.
        lazy_init: scan the folders only when they are needed.
        **kwargs: other arguments of mmengine's ``BaseDataset`` (``pipeline``, ``indices``, ...).

    Raises:
        FileNotFoundError: a list, a folder or all masks of a video are missing.
        ValueError: an argument, a list or the name of a mask is wrong, or a given mask is not as large as its frame, or
            has objects that meta.json does not state.
    """

    METAINFO = dict(classes=('object',))

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        data_prefix: dict | None = None,
        annotations: str = 'first',
        min_frames: int = 1,
        max_tries: int = 10,
        test_mode: bool = False,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        data_prefix = data_prefix or dict(img='JPEGImages', mask='Annotations')
        if not {'img', 'mask'} <= set(data_prefix) <= {'img', 'mask', 'gt'}:
            raise ValueError(f'{name}: data_prefix must be dict(img=..., mask=...[, gt=...]), found {data_prefix}')
        if annotations not in ANNOTATIONS:
            raise ValueError(f'{name}: annotations must be one of {ANNOTATIONS}, found {annotations!r}')
        if min_frames < 1 or max_tries < 1:
            raise ValueError(f'{name}: min_frames and max_tries must be at least 1, found {min_frames}, {max_tries}')
        self.annotations = annotations
        self.min_frames = min_frames
        self.max_tries = max_tries
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            test_mode=test_mode,
            lazy_init=lazy_init,
            **kwargs,
        )

    # ------------------------------------------------------------------ scanning the folders

    def load_data_list(self) -> list[dict]:
        """Scan the folders; one entry per video."""
        objects = self._read_videos()
        check_folders(self.data_prefix['img'], objects, self.ann_file or self.data_prefix['img'])
        read = self._test_frames if self.test_mode else self._training_frames
        return [
            dict(video_id=number, video_name=video, frames=read(video, objects[video]))
            for number, video in enumerate(objects)
        ]

    def filter_data(self) -> list[dict]:
        """Leave out training videos that are too short for a clip; the log says how many.

        Raises:
            ValueError: all of them are.
        """
        if self.test_mode:
            return self.data_list
        kept = [video for video in self.data_list if len(video['frames']) >= self.min_frames]
        short = [video['video_name'] for video in self.data_list if len(video['frames']) < self.min_frames]
        if not kept:
            raise ValueError(
                f'{self.data_prefix["mask"]}: none of the {len(short)} videos has {self.min_frames} frames with masks '
                f'(min_frames): {shortened(short)}. Masks need the names of their frames in {self.data_prefix["img"]}.'
            )
        if short:
            print_log(
                f'{self.data_prefix["mask"]}: {len(short)} of {len(self.data_list)} videos have fewer than '
                f'{self.min_frames} frames with masks and are left out: {shortened(short)}',
                'current',
            )
        return kept

    def frames_to_save(self, stems: list[str], masks: dict[str, str], objects: dict[int, dict]) -> set[str]:
        """Which frames of a test video belong to the submission; here all.

        Args:
            stems: frames of the stream.
            masks: stem to file name of the video's masks.
            objects: what meta.json says of the video, by label; empty without such a file.
        """
        return set(stems)

    def given_masks(
        self, video: str, frames: dict[str, str], masks: dict[str, str], stated: set[int]
    ) -> dict[str, tuple[int, ...]]:
        """Which masks of a test video the model is given, and the objects that count in each.

        Args:
            video: name of the video.
            frames: stem to file name of its frames.
            masks: stem to file name of its masks.
            stated: its objects by meta.json; empty without such a file.

        Raises:
            FileNotFoundError: no mask holds an object.
            ValueError: a mask cannot be read, is not as large as its frame, or has objects that are not stated.
        """
        given: dict[str, tuple[int, ...]] = {}
        known: set[int] = set()
        for stem, name in masks.items():
            path = os.path.join(self._folder('mask', video), name)
            mask = read_index_mask(path)
            # 255 alone is an object in the first mask only; later it is what other objects' masks leave out.
            labels = [label for label in object_labels(mask) if not known or label != VOID or VOID in known]
            new = [label for label in labels if label not in known]
            # YouTube-VOS: a mask that repeats known objects, or has none, is handed to the model, too.
            if not new and not (given and self.annotations == 'all'):
                continue
            if stated and not stated.issuperset(new):
                raise ValueError(
                    f'{path}: found the objects {labels}, but {self.ann_file} states {sorted(stated)} for this video; '
                    'take both from the same release, or correct one of them'
                )
            frame = os.path.join(self._folder('img', video), frames[stem])
            with open_frame(frame) as picture:
                check_mask_size(path, mask.shape, frame, picture.size[::-1])
            known.update(new)
            given[stem] = tuple(new if self.annotations == 'first_appearance' else labels)
            # Most objects are there from the start: with the labels of a meta.json one file per video is read.
            if self.annotations == 'first' or (self.annotations == 'first_appearance' and known == stated):
                break
        if not given:
            raise FileNotFoundError(
                f'{self._folder("mask", video)}: no mask that holds an object ({len(masks)} masks there); the objects '
                'to be segmented have to be given in one at least'
            )
        return given

    def _read_videos(self) -> dict[str, dict[int, dict]]:
        """Names of the videos, and the objects of each if a meta.json tells them."""
        if not self.ann_file:
            return {video: {} for video in list_videos(self.data_prefix['img'])}
        if Path(self.ann_file).suffix == '.json':
            return read_meta(self.ann_file)
        return {video: {} for video in read_video_list(self.ann_file)}

    def _training_frames(self, video: str, objects: dict[int, dict]) -> list[Frame]:
        frames = list_files(self._folder('img', video), IMAGE_SUFFIXES)
        masks = list_files(self._folder('mask', video), MASK_SUFFIXES)
        return [Frame(name, masks[stem]) for stem, name in frames.items() if stem in masks]

    def _test_frames(self, video: str, objects: dict[int, dict]) -> list[Frame]:
        frames = list_files(self._folder('img', video), IMAGE_SUFFIXES)
        masks = list_files(self._folder('mask', video), MASK_SUFFIXES)
        stray = [name for stem, name in masks.items() if stem not in frames]
        if stray:
            raise ValueError(
                f'{self._folder("mask", video)}: {len(stray)} of {len(masks)} masks have no frame of the same name in '
                f'{self._folder("img", video)}: {shortened(stray)}. Masks are named like their frames.'
            )
        given = self.given_masks(video, frames, masks, set(objects))
        stems = list(frames)
        stems = stems[stems.index(next(iter(given))) :]
        saved = self.frames_to_save(stems, masks, objects)
        if saved.isdisjoint(stems):
            raise ValueError(
                f'{self._folder("img", video)}: none of its {len(stems)} frames ({shortened(stems, 3)}) is among those '
                f'to be handed in ({shortened(sorted(saved), 3)}); do the frames and {self.ann_file} belong together?'
            )
        missing = sorted(saved.difference(frames))
        if missing:
            print_log(
                f'{self._folder("img", video)}: {len(missing)} of {len(saved)} frames that {self.ann_file} wants to be '
                f'handed in are not there: {shortened(missing)}. The results will lack them; is the download complete?',
                'current',
                logging.WARNING,
            )
        truth = self._ground_truth(video, masks)
        return [
            Frame(frames[stem], masks[stem] if stem in given else None, given.get(stem), truth.get(stem), stem in saved)
            for stem in stems
        ]

    @property
    def _truth(self) -> str:
        return 'gt' if 'gt' in self.data_prefix else 'mask'

    def _ground_truth(self, video: str, masks: dict[str, str]) -> dict[str, str]:
        if self._truth == 'gt':
            return list_files(self._folder('gt', video), MASK_SUFFIXES)
        return {} if self.annotations == 'all' else masks

    def _folder(self, kind: str, video: str) -> str:
        return os.path.join(self.data_prefix[kind], video)

    # ------------------------------------------------------------------ handing out items

    def get_data_info(self, idx: int) -> dict:
        """A video: ``video_id``, ``video_name``, ``video_length`` and ``images``, a sequence of one dict per frame."""
        video = super().get_data_info(idx)
        frames: list[Frame] = video.pop('frames')
        folders = [self._folder(kind, video['video_name']) for kind in ('img', 'mask', self._truth)]
        return video | dict(video_length=len(frames), images=VideoFrames(video['video_name'], frames, *folders))

    def prepare_data(self, idx: int | tuple[int, int]) -> dict | None:
        """The frame ``(video, frame)`` in testing; a clip of a video in training, tried up to ``max_tries`` times."""
        if self.test_mode:
            return super().prepare_data(idx)
        video, frame = idx if isinstance(idx, tuple) else (idx, None)
        for left in reversed(range(self.max_tries)):
            info = self.get_data_info(video)
            info['last_try'] = left == 0
            if frame is not None:
                info['key_frame_id'] = frame
            sample = self.pipeline(info)
            if sample is not None:
                return sample
        return None

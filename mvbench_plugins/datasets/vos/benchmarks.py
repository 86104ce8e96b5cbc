"""The released benchmarks: which folders, which videos, which masks are given, which frames are handed in."""

from __future__ import annotations

import os
from typing import Any

from mmdet.registry import DATASETS

from .video_dataset import VOSDataset

_MOST_FRAMES = 10**6  # of a video: nine hours


@DATASETS.register_module()
class DAVISDataset(VOSDataset):
    """DAVIS 2016 and 2017: the objects of the first frame, every frame is handed in.

    Expected: ``JPEGImages/480p/<video>``, ``Annotations/480p/<video>``, ``ImageSets/<year>/<split>.txt``. For 2016 the
    list may be ``ImageSets/480p/<split>.txt`` of the 2016 release, whose masks are binary (0 and 255). Those of 2017
    have several objects in a video, which is another task: they are refused.

    Args:
        data_root: folder of the above; test-dev of 2017 is a folder of its own.
        split: ``'train'``, ``'val'``, ``'test-dev'``.
        year: 2016 or 2017.
        resolution: sub-folder of the frames and masks.
        **kwargs: see :class:`VOSDataset`.

    Raises:
        ValueError: a mask of 2016 that is given has several objects, or what :class:`VOSDataset` raises.
    """

    def __init__(
        self, data_root: str, split: str = 'val', year: int = 2017, resolution: str = '480p', **kwargs: Any
    ) -> None:
        lists = [f'ImageSets/{year}/{split}.txt', f'ImageSets/480p/{split}.txt']
        found = [name for name in lists if os.path.isfile(os.path.join(data_root, name))]
        kwargs.setdefault('ann_file', found[0] if found and year == 2016 else lists[0])
        kwargs.setdefault('data_prefix', dict(img=f'JPEGImages/{resolution}', mask=f'Annotations/{resolution}'))
        self.year = year
        super().__init__(data_root=data_root, **kwargs)

    def given_masks(
        self, video: str, frames: dict[str, str], masks: dict[str, str], stated: set[int]
    ) -> dict[str, tuple[int, ...]]:
        """See :class:`VOSDataset`; of 2016 one object."""
        given = super().given_masks(video, frames, masks, stated)
        for stem, labels in given.items():
            if self.year == 2016 and len(labels) > 1:
                raise ValueError(
                    f'{os.path.join(self.data_prefix["mask"], video, masks[stem])}: found the objects {list(labels)}, '
                    'expected the binary masks of the 2016 release: set data_root to it, or year=2017'
                )
        return given


@DATASETS.register_module()
class YouTubeVOSDataset(VOSDataset):
    """YouTube-VOS 2018 and 2019: objects enter at any time; the frames that meta.json lists are handed in.

    Expected: ``<split>/JPEGImages/<video>``, ``<split>/Annotations/<video>``, ``<split>/meta.json``, and
    ``<split>_all_frames/JPEGImages/<video>`` (30 frames per second) for testing on all frames. The masks of valid and
    test hold an object in the first frame that shows it, and only there: the metric has no ground truth, unless
    ``data_prefix`` has a ``gt``. In testing ``ann_file`` is the meta.json, in training a list of videos (default: all
    folders).

    Args:
        data_root: folder of the above.
        split: ``'train'``, ``'train_480p'`` (resized in advance), ``'valid'``, ``'test'``.
        all_frames: test on all frames, as the published results; else on every fifth.
        test_mode: streams instead of clips.
        **kwargs: see :class:`VOSDataset`.

    Raises:
        FileNotFoundError: the frames are missing, or what :class:`VOSDataset` raises.
    """

    def __init__(
        self, data_root: str, split: str = 'valid', all_frames: bool = True, test_mode: bool = False, **kwargs: Any
    ) -> None:
        images = f'{split}_all_frames' if all_frames and test_mode else split
        kwargs.setdefault('ann_file', f'{split}/meta.json' if test_mode else '')
        kwargs.setdefault('data_prefix', dict(img=f'{images}/JPEGImages', mask=f'{split}/Annotations'))
        kwargs.setdefault('annotations', 'all')
        super().__init__(data_root=data_root, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> list[dict]:
        """See :class:`VOSDataset`."""
        images = self.data_prefix['img']
        if self.test_mode and not os.path.isdir(images):
            raise FileNotFoundError(
                f'{images}: no such folder; the frames of all times are a download of their own (<split>_all_frames), '
                'without it set all_frames=False, and expect other figures than published'
            )
        return super().load_data_list()

    def frames_to_save(self, stems: list[str], masks: dict[str, str], objects: dict[int, dict]) -> set[str]:
        """The frames that meta.json lists for any object.

        Raises:
            ValueError: it lists none.
        """
        lists = [entry.get('frames', ()) for entry in objects.values()]
        listed = {str(stem) for frames in lists if isinstance(frames, (list, tuple)) for stem in frames}
        if not listed:
            raise ValueError(
                f'{self.ann_file}: no "frames" of the objects of a video; testing needs the meta.json of the release '
                'as ann_file, which says which frames are handed in'
            )
        return listed


@DATASETS.register_module()
class MOSEDataset(VOSDataset):
    """MOSE: crowded scenes; the objects of the first frame, every frame is handed in.

    Expected: ``<split>/JPEGImages/<video>``, ``<split>/Annotations/<video>``; the masks of valid are those of the first
    frames only.

    Args:
        data_root: folder of the above.
        split: ``'train'``, ``'train_480p'`` (resized in advance), ``'valid'``, ``'test'``.
        **kwargs: see :class:`VOSDataset`.
    """

    def __init__(self, data_root: str, split: str = 'valid', **kwargs: Any) -> None:
        kwargs.setdefault('data_prefix', dict(img=f'{split}/JPEGImages', mask=f'{split}/Annotations'))
        super().__init__(data_root=data_root, **kwargs)


@DATASETS.register_module()
class LVOSDataset(VOSDataset):
    """LVOS: long videos; each object is given where it first appears, every fifth frame is handed in.

    Expected: ``<split>/JPEGImages/<video>/00000001.jpg`` (8 digits), ``<split>/Annotations/<video>``,
    ``<split>/<split>_meta.json`` with ``"frame_range": {"start": ..., "end": ...}`` per object. The masks may show all
    objects in all frames (val): the first appearances are taken from them, nothing has to be converted before.

    Args:
        data_root: folder of the above.
        split: ``'train'``, ``'train_480p'`` (resized in advance), ``'val'``, ``'test'``.
        test_mode: streams instead of clips.
        **kwargs: see :class:`VOSDataset`.
    """

    SAVE_INTERVAL = 5

    def __init__(self, data_root: str, split: str = 'val', test_mode: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault('ann_file', f'{split}/{split}_meta.json' if test_mode else '')
        kwargs.setdefault('data_prefix', dict(img=f'{split}/JPEGImages', mask=f'{split}/Annotations'))
        kwargs.setdefault('annotations', 'first_appearance')
        super().__init__(data_root=data_root, test_mode=test_mode, **kwargs)

    def frames_to_save(self, stems: list[str], masks: dict[str, str], objects: dict[int, dict]) -> set[str]:
        """Every fifth frame from the first to the last that meta.json gives an object.

        Raises:
            ValueError: meta.json gives no range.
        """
        try:
            ranges = [entry['frame_range'] for entry in objects.values()]
            first = min(int(frames['start']) for frames in ranges)
            last = max(int(frames['end']) for frames in ranges)
            if not 0 <= first <= last < _MOST_FRAMES:
                raise ValueError(f'found frames from {first} to {last}')
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f'{self.ann_file}: {type(error).__name__}: {error}; expected "frame_range": {{"start": ..., "end": '
                '...}} for each object of a video: give the meta.json of the release as ann_file'
            ) from error
        return {f'{number:08d}' for number in range(first, last + 1, self.SAVE_INTERVAL)}


@DATASETS.register_module()
class VOSTDataset(VOSDataset):
    """VOST: objects that are transformed; the objects of the first frame, every frame is handed in.

    Expected: ``JPEGImages/<video>``, ``Annotations/<video>`` (5 frames per second; 255 is not annotated),
    ``ImageSets/<split>.txt``.

    Args:
        data_root: folder of the above.
        split: ``'train'``, ``'val'``, ``'test'``.
        max_tries: see :class:`VOSDataset`.
        **kwargs: see :class:`VOSDataset`.
    """

    def __init__(self, data_root: str, split: str = 'val', max_tries: int = 20, **kwargs: Any) -> None:
        kwargs.setdefault('ann_file', f'ImageSets/{split}.txt')
        super().__init__(data_root=data_root, max_tries=max_tries, **kwargs)


@DATASETS.register_module()
class VISORDataset(VOSDataset):
    """VISOR: hands and things in kitchens; the objects of the first frame, every frame is handed in.

    Expected, as EPIC-KITCHENS' VISOR-VOS converts it: ``JPEGImages/480p/<sequence>``, ``Annotations/480p/<sequence>``,
    ``ImageSets/2022/<split>.txt``.

    Args:
        data_root: folder of the above.
        split: ``'train'``, ``'val'``.
        **kwargs: see :class:`VOSDataset`.
    """

    def __init__(self, data_root: str, split: str = 'val', **kwargs: Any) -> None:
        kwargs.setdefault('ann_file', f'ImageSets/2022/{split}.txt')
        kwargs.setdefault('data_prefix', dict(img='JPEGImages/480p', mask='Annotations/480p'))
        super().__init__(data_root=data_root, **kwargs)


@DATASETS.register_module()
class BURSTDataset(VOSDataset):
    """BURST: each object is given where it first appears, annotated frames are handed in.

    Expected, converted to folders: ``<split>/JPEGImages/<dataset>_-_<sequence>``,
    ``<split>/Annotations/<dataset>_-_<sequence>`` (index masks of the annotated frames).

    Args:
        data_root: folder of the above.
        split: ``'val'``, ``'test'``.
        **kwargs: see :class:`VOSDataset`.
    """

    def __init__(self, data_root: str, split: str = 'val', **kwargs: Any) -> None:
        kwargs.setdefault('data_prefix', dict(img=f'{split}/JPEGImages', mask=f'{split}/Annotations'))
        kwargs.setdefault('annotations', 'first_appearance')
        super().__init__(data_root=data_root, **kwargs)

    def frames_to_save(self, stems: list[str], masks: dict[str, str], objects: dict[int, dict]) -> set[str]:
        """The annotated frames."""
        return set(masks)

"""Images with masks of one salient object, from which training makes clips (stage 0)."""

from __future__ import annotations

import os
from typing import Any

from mmdet.registry import DATASETS

from .frames import Frame
from .layout import IMAGE_SUFFIXES, MASK_SUFFIXES, list_files, shortened
from .video_dataset import VOSDataset


@DATASETS.register_module()
class StaticVOSDataset(VOSDataset):
    """Images with greyscale masks of one object: FSS-1000, DUTS, ECSSD, BIG, HRSOD. Training only.

    Each image is a video of one frame, which ``RepeatStaticImage`` repeats. Expected: images anywhere below ``img``;
    the mask of ``<img>/a/b.jpg`` is ``<mask>/a/b.png``. ``mask`` may be the same folder (FSS-1000: ``<class>/1.jpg``
    beside ``<class>/1.png``) or another one (DUTS: ``DUTS-TR-Image`` and ``DUTS-TR-Mask``). Where it is the same folder
    images have to be ``.jpg``.

    Args:
        data_root: of all paths.
        data_prefix: ``dict(img=..., mask=...)``.
        test_mode: has to be False.
        **kwargs: see :class:`VOSDataset`.

    Raises:
        FileNotFoundError: there is no image, or images lack masks.
        ValueError: ``test_mode`` is set.
    """

    def __init__(self, data_root: str, data_prefix: dict, test_mode: bool = False, **kwargs: Any) -> None:
        if test_mode:
            raise ValueError('StaticVOSDataset: images are no videos to test on; remove test_mode')
        kwargs.setdefault('max_tries', 1)
        super().__init__(data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Find the images and their masks."""
        images, masks = self.data_prefix['img'], self.data_prefix['mask']
        together = os.path.realpath(images) == os.path.realpath(masks)
        suffixes = tuple(suffix for suffix in IMAGE_SUFFIXES if not (together and suffix in MASK_SUFFIXES))
        entries: list[dict] = []
        without: list[str] = []
        for folder, subfolders, _ in os.walk(images):
            subfolders.sort()
            relative = os.path.relpath(folder, images)
            of_folder = list_files(os.path.join(masks, relative), MASK_SUFFIXES)
            for stem, name in list_files(folder, suffixes).items():
                if stem in of_folder:
                    frames = [Frame(name, of_folder[stem])]
                    entries.append(dict(video_id=len(entries), video_name=relative, frames=frames))
                else:
                    without.append(os.path.join(relative, name))
        if without or not entries:
            raise FileNotFoundError(
                f'{images}: {len(entries)} images with masks, {len(without)} without: {shortened(without) or "none"}. '
                f'Each <name>.jpg needs a mask <name>.png below {masks}; check data_root and data_prefix.'
            )
        return entries

"""Small trees of videos in the layouts of the releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvbench_plugins.datasets.vos  # noqa: F401 (registers what the tests build by name)

HEIGHT, WIDTH = 24, 40
LOAD = dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')])


def index_mask(labels: Sequence[int]) -> np.ndarray:
    """Stripes of 8 x 8 pixels, one per label."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, label in enumerate(sorted(labels)):
        mask[8:16, 8 * number : 8 * number + 8] = label
    return mask


def save_mask(path: Path, mask: np.ndarray) -> None:
    """A palette PNG."""
    picture = Image.fromarray(mask)
    # All 256 colours: with fewer Pillow stores fewer bits per pixel and cuts high labels.
    picture.putpalette([(37 * value) % 256 for value in range(3 * 256)])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., None]:
    """``write_video(name, masks, ...)``: a video with the labels of each frame's mask; None: the frame has no mask.

    The red of a frame's image is 5 times its position, blue is 200.
    """

    def write(
        name: str,
        masks: Sequence[Sequence[int] | None],
        img: str = 'JPEGImages',
        mask: str = 'Annotations',
        stems: Sequence[str] | None = None,
    ) -> None:
        folder = tmp_path / img / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, labels in enumerate(masks):
            stem = stems[number] if stems else f'{number:05d}'
            image = np.full((HEIGHT, WIDTH, 3), (5 * number, 100, 200), np.uint8)
            Image.fromarray(image).save(folder / f'{stem}.jpg', quality=98)
            if labels is not None:
                save_mask(tmp_path / mask / name / f'{stem}.png', index_mask(labels))

    return write


@pytest.fixture
def build_test_set(tmp_path: Path) -> Callable[..., object]:
    """``build_test_set(type, **options)``: a data set of streams in ``tmp_path`` with the pipeline of the configs."""
    from mmdet.registry import DATASETS

    def build(kind: str, **options):
        settings = dict(type=kind, data_root=str(tmp_path), test_mode=True, pipeline=[LOAD, dict(type='PackVOSInputs')])
        return DATASETS.build(settings | options)

    return build

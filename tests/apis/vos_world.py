"""A segmenter that can be checked with a ruler: it follows colours; and a video with coloured squares for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.models import BaseMOTModel
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from PIL import Image

WIDTH, HEIGHT, SIDE = 96, 64, 16
GREY = 90
COLORS = {1: (220, 40, 40), 2: (40, 40, 220)}  # RGB
SECOND = 6  # frame at which the second square appears


@MODELS.register_module()
class SizedPreprocessor(BaseDataPreprocessor):
    """Casts to the device, and remembers the size that it was told."""

    def __init__(self, test_size: int = 480) -> None:
        super().__init__()
        self.test_size = test_size


@MODELS.register_module()
class ColorFollower(BaseMOTModel):
    """Learns the mean colour of each mask that it is given, and later finds all pixels near to it.

    Attributes:
        seen: of each frame ``frame_id``, ``video_length`` and the labels given.
        colors: RGB, by label.
        act: called with the number of frames before this one.
    """

    def __init__(self, data_preprocessor: dict | None = None, test_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.weight = torch.nn.Parameter(torch.ones(2, 2))
        self.test_cfg = test_cfg
        self.seen: list[tuple] = []
        self.dtypes: set[torch.dtype] = set()
        self.colors: dict[int, torch.Tensor] = {}
        self.act: Callable[[int], None] = lambda _: None

    def loss(self, inputs: dict, data_samples: list) -> dict:
        raise AssertionError('inference must not train')

    def predict(self, inputs: dict, data_samples: list) -> list:
        (clip,), (track,) = inputs['img'], data_samples
        (sample,) = track.video_data_samples
        self.act(len(self.seen))
        assert clip.dtype == torch.uint8 and clip.shape == (1, 3, *sample.ori_shape)
        if sample.frame_id == 0:
            self.colors.clear()
        image = clip[0].float()
        given = sample.gt_sem_seg.sem_seg[0] if sample.annotated else torch.zeros(1)
        labels = [label for label in given.unique().tolist() if label]
        for label in labels:
            self.colors[label] = image[:, given == label].mean(1)
        self.seen.append((sample.frame_id, sample.video_length, labels))
        self.dtypes.add((self.weight @ self.weight).dtype)
        found = torch.zeros(sample.ori_shape, dtype=torch.uint8)
        for label, color in self.colors.items():
            found[(image - color[:, None, None]).abs().amax(0) < 60] = label
        sample.pred_sem_seg = PixelData(sem_seg=found[None])
        return [track]


def follower_config() -> Config:
    preprocessor = dict(type='SizedPreprocessor')
    test_cfg = dict(mem_every=5, topk=None)
    model = dict(type='ColorFollower', data_preprocessor=preprocessor, test_cfg=test_cfg)
    return Config(dict(default_scope='mmdet', model=model))


def index_map(number: int) -> np.ndarray:
    """Square 1 goes right by one pixel per frame, square 2 appears at frame ``SECOND`` and goes left."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    x = 8 + number % 40
    labels[10 : 10 + SIDE, x : x + SIDE] = 1
    if number >= SECOND:
        x = 70 - number % 40
        labels[36 : 36 + SIDE, x : x + SIDE] = 2
    return labels


def frame(number: int) -> np.ndarray:
    """The picture of :func:`index_map`, BGR."""
    picture = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    labels = index_map(number)
    for label, color in COLORS.items():
        picture[labels == label] = color[::-1]
    return picture


def write_frames(folder: Path, count: int) -> Path:
    """A folder with frames 05, 10, 15 ...: names are no indices."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f'{5 * number + 5:02d}.png'), frame(number))
    return folder


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


def write_mask(path: Path, labels: np.ndarray, palette: list[int] | None = None) -> Path:
    """A palette png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(palette or [0, 0, 0, 200, 100, 50, 10, 20, 30])
    image.save(path)
    return path


def read_mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == 'P'
        return np.array(image)

"""An action detector that can be checked with a ruler: it boxes what is brightest, and tells which frames it saw."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from mvbench_plugins.apis import ActionDetInferencer
from mvbench_plugins.datasets.action import transforms  # noqa: F401  (registers the steps of the pipeline)

CLIP_LEN, FRAME_INTERVAL, SHORT_SIDE = 8, 4, 32
BACKGROUND, BRIGHT = 40, 255


@MODELS.register_module()
class BrightestBoxDetector(BaseModel):
    """Boxes the brightest area of the key frame; the score of action ``1 + t`` is the mean of frame ``t`` / 255."""

    def __init__(self, person_score: float | None = 0.9) -> None:
        super().__init__()
        self.person_score = person_score
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.batches: list[int] = []

    def forward(self, inputs: list, data_samples: list, mode: str = 'predict') -> list:
        self.batches.append(len(inputs))
        for clip, sample in zip(inputs, data_samples, strict=True):
            assert clip.dtype == torch.uint8 and clip.shape[:2] == (3, CLIP_LEN)
            assert sample.img_shape == clip.shape[2:]
            key = clip[:, CLIP_LEN // 2].float().mean(0)
            y, x = torch.where(key >= 0.6 * key.max())
            height, width = key.shape
            box = torch.stack([x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height])
            seen = clip.float().mean((0, 2, 3)) / 255
            scores = torch.cat([torch.zeros(1), seen * self.gain])[None]
            sample.pred_instances = InstanceData(bboxes=box[None], scores=scores)
            if self.person_score is not None:
                sample.pred_instances.person_scores = torch.tensor([self.person_score])
        return data_samples


@DATASETS.register_module()
class ThirtyFpsDataset:
    """Stands for a dataset that counts its frames at 30 per second, like AVA."""

    def __init__(self, pipeline: list, fps: float | None = 30) -> None:
        raise AssertionError('inference must not need the data')


def detector_config(**dataset: object) -> Config:
    pipeline = [
        dict(type='OpenVideo'),
        dict(type='SampleKeyFrameClip', clip_len=CLIP_LEN, frame_interval=FRAME_INTERVAL),
        dict(type='DecodeVideoClip'),
        dict(type='ResizeShortSide', scale=SHORT_SIDE),
        dict(type='ClipBoxes'),
        dict(type='FormatShape', input_format='NCTHW', collapse=True),
        dict(type='PackActionInputs', meta_keys=('video_id', 'timestamp', 'img_key', 'img_shape')),
    ]
    names = [f'look {number}' for number in range(1, CLIP_LEN + 1)]
    settings = dict(type='ThirtyFpsDataset', pipeline=pipeline, metainfo=dict(classes=names)) | dataset
    return Config(
        dict(
            default_scope='mmaction',
            model=dict(type='BrightestBoxDetector'),
            test_dataloader=dict(dataset=settings),
        )
    )


def make_inferencer(**dataset: object) -> ActionDetInferencer:
    return ActionDetInferencer(detector_config(**dataset), device='cpu', show_progress=False)


def numbered_frames(count: int, height: int = 36, width: int = 48) -> np.ndarray:
    """Frame ``i`` is grey of intensity ``i``: what a clip held can be read off exactly."""
    assert count <= 256
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3))


def moving_box(number: int, width: int = 160, height: int = 96) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A frame with a white box on grey, and where it is; it moves by one pixel per frame and comes back."""
    frame = np.full((height, width, 3), BACKGROUND, np.uint8)
    x = 8 + number % 100
    frame[30:70, x : x + 40] = BRIGHT
    return frame, (x, 30, x + 40, 70)


def write_video(path: Path, count: int, fps: float = 30.0) -> Path:
    frames = [moving_box(number)[0] for number in range(count)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def drawn_pixels(before: np.ndarray, after: np.ndarray, threshold: int = 50) -> np.ndarray:
    """Bool ``[h, w]``: pixels of a small frame on which something is drawn in its enlarged, annotated copy."""
    height, width = before.shape[:2]
    factor = after.shape[0] // height
    assert factor > 1 and after.shape == (height * factor, width * factor, 3)
    change = np.abs(after.astype(int) - before.repeat(factor, 0).repeat(factor, 1)).max(-1) > threshold
    return change.reshape(height, factor, width, factor).any((1, 3))

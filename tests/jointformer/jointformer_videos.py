"""A JointFormer small enough for a test, and videos as the data loader hands them over, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unittest import mock

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from torch import Tensor, nn

import mvbench_plugins.jointformer  # noqa: F401  registers

DIMS = (16, 48, 48)
MODEL = dict(
    type='JointFormer',
    data_preprocessor=dict(
        type='VOSDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], test_size=None
    ),
    backbone=dict(type='JointConvMAE', embed_dims=DIMS, depths=(1, 1, 3), num_heads=3, pos_grid=4),
    mask_head=dict(type='JointFormerMaskHead', embed_dims=DIMS),
    loss_ce=dict(type='BootstrappedCrossEntropy', start=20, end=70),
    loss_dice=dict(type='SlotDiceLoss'),
    test_cfg=dict(topk=dict(k=4)),
)


def build(seed: int = 0, lively: bool = True, **options) -> nn.Module:
    """The small model, in evaluation mode; ``build(backbone=dict(...), test_cfg=dict(...))`` changes settings.

    Args:
        seed: of the weights.
        lively: weights far from those of the start, where attention and masks say next to nothing.
    """
    torch.manual_seed(seed)
    cfg = ConfigDict(MODEL)
    for name, value in options.items():
        cfg[name] = {**cfg[name], **value} if isinstance(value, Mapping) and name in cfg else value
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    with mock.patch.object(BaseModule, '_dump_init_info'):  # which tells of each weight what became of it
        model.init_weights()
    if lively:
        for name, param in model.named_parameters():
            if param.dim() > 1 and 'norm' not in name:
                nn.init.normal_(param, std=param[0].numel() ** -0.5)
        nn.init.normal_(model.backbone.pos_embed, std=0.5)
    return model.eval()


def rectangles(size: tuple[int, int], boxes: Mapping[int, Sequence[int]]) -> np.ndarray:
    """Index map with a rectangle (x1, y1, x2, y2) for each label."""
    labels = np.zeros(size, np.uint8)
    for label, (x1, y1, x2, y2) in boxes.items():
        labels[y1:y2, x1:x2] = label
    return labels


def images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Frames ``[T, 3, H, W]``, uint8."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, *size), dtype=np.uint8))


def frame_batch(
    image: Tensor, frame_id: int, labels: np.ndarray | None = None, video_id: int = 0, length: int | None = None
) -> dict:
    """One frame of a stream, with its annotation if it has one."""
    size = tuple(image.shape[-2:])
    meta = dict(video_id=video_id, frame_id=frame_id, video_length=length, ori_shape=size, img_shape=size)
    meta.update(img_path=f'video{video_id}/{frame_id:05d}.jpg', annotated=labels is not None)
    frame = DetDataSample(metainfo=meta)
    if labels is not None:
        frame.gt_sem_seg = PixelData(sem_seg=torch.as_tensor(labels)[None])
    return dict(inputs=dict(img=[image[None]]), data_samples=[TrackDataSample(video_data_samples=[frame])])


def run_video(
    model: nn.Module, frames: Tensor, given: Mapping[int, np.ndarray], video_id: int = 0, known_length: bool = True
) -> list[np.ndarray]:
    """Predicted index maps of all frames; ``given`` has annotations by frame."""
    length = len(frames) if known_length else None
    maps = []
    for t, image in enumerate(frames):
        batch = frame_batch(image, t, given.get(t), video_id, length)
        maps.append(model.test_step(batch)[0][0].pred_sem_seg.sem_seg[0].numpy())
    return maps


def clip_batch(labels: Sequence[Sequence[np.ndarray]], num_objects: Sequence[int], seed: int = 0) -> dict:
    """Clips for training: index maps of slots, of each clip and frame, and random images."""
    inputs, samples = [], []
    for b, (clip, count) in enumerate(zip(labels, num_objects, strict=True)):
        inputs.append(images(len(clip), clip[0].shape, seed + b))
        frames = [
            DetDataSample(
                metainfo=dict(img_path=f'clip{b}/{t}.jpg'), gt_sem_seg=PixelData(sem_seg=torch.tensor(x)[None])
            )
            for t, x in enumerate(clip)
        ]
        samples.append(TrackDataSample(video_data_samples=frames, metainfo=dict(num_objects=count)))
    return dict(inputs=dict(img=inputs), data_samples=samples)

"""A model of given people whose scores tell its memory, and a person detector that can be checked with a ruler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fake_action_detector import CLIP_LEN, detector_config
from fake_action_detector import numbered_frames as grey_frames
from mmaction.registry import MODELS
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from mvbench_plugins.cycleacr.memory_bank import MemoryBank

BEFORE, AFTER, PER_SECOND, WIDTH = 3, 2, 2, 2


class WatchedBank(MemoryBank):
    """Tells how many seconds were ever held at once."""

    largest = 0

    def update(self, *args: object, **kwargs: object) -> None:
        super().update(*args, **kwargs)
        WatchedBank.largest = max(WatchedBank.largest, len(self))


@MODELS.register_module()
class RecallingDetector(BaseModel):
    """Features of a person: grey level of the key frame, x1 of the box / width. Scores: the memory, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = WatchedBank(before=BEFORE, after=AFTER, max_per_second=PER_SECOND)
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.extracted: list[int] = []
        self.classified: list[int] = []

    def forward(self, *_: object, **__: object) -> None:
        raise AssertionError('inference takes two passes')

    def extract(self, inputs: list, data_samples: list) -> list[InstanceData]:
        self.extracted.append(len(inputs))
        features = []
        for clip, sample in zip(inputs, data_samples, strict=True):
            boxes = sample.proposals.bboxes
            grey = clip[:, CLIP_LEN // 2].float().mean()
            rows = torch.stack([grey.expand(len(boxes)), boxes[:, 0] / clip.shape[-1]], 1)
            features.append(InstanceData(actor_features=rows * self.gain, roi_features=boxes))
        return features

    def classify(self, features: list[InstanceData], memory: Tensor, data_samples: list) -> list:
        assert not torch.is_grad_enabled()
        self.classified.append(len(data_samples))
        for feature, held, sample in zip(features, memory, data_samples, strict=True):
            height, width = sample.img_shape
            scores = F.pad(held.flatten().expand(len(feature), -1), (1, 0))
            boxes = feature.roi_features / torch.tensor([width, height, width, height])
            sample.pred_instances = InstanceData(
                bboxes=boxes, scores=scores, person_scores=sample.proposals.scores.clone()
            )
        return data_samples


def recaller_config(**dataset: object) -> Config:
    slots = (BEFORE + 1 + AFTER) * PER_SECOND * WIDTH
    cfg = detector_config(metainfo=dict(classes=[f'slot {number}' for number in range(slots)]), **dataset)
    cfg.model = dict(type='RecallingDetector')
    cfg.test_dataloader.dataset.pipeline[-1].type = 'PackPersonInputs'
    return cfg


@MMDET_MODELS.register_module()
class BrightPersonDetector(BaseModel):
    """Finds the brightest area of an image as a person; beside it a person of score 0.5 and a better car."""

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.score = torch.nn.Parameter(torch.tensor(0.9))

    def forward(self, inputs: list, data_samples: list, mode: str = 'predict') -> list:
        for image, sample in zip(inputs, data_samples, strict=True):
            y, x = torch.where(image.float().mean(0) > 200)
            box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
            scale = torch.tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=torch.stack([torch.tensor([0.0, 0, 9, 9]), torch.tensor([1.0, 1, 8, 8]), box / scale]),
                scores=torch.stack([self.score + 0.05, self.score - 0.4, self.score]),
                labels=torch.tensor([2, 0, 0]),
            )
        return data_samples


def save_person_detector(folder: Path) -> tuple[Path, Path]:
    """Config and checkpoint; the names of its transforms mean others in mmaction."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(320, 320), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor')),
    ]
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='BrightPersonDetector', backbone=dict()),
            test_dataloader=dict(dataset=dict(type='CocoDataset', ann_file='missing.json', pipeline=pipeline)),
        )
    )
    cfg.dump(folder / 'person.py')
    meta = dict(dataset_meta=dict(classes=('person', 'bicycle', 'car')))
    torch.save(dict(state_dict=BrightPersonDetector(dict()).state_dict(), meta=meta), folder / 'person.pth')
    return folder / 'person.py', folder / 'person.pth'


def numbered_frames(count: int) -> np.ndarray:
    """Frames as large as the boxes of the tests want them; see ``fake_action_detector``."""
    return grey_frames(count, height=64, width=96)


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text('\n'.join(rows) + '\n')
    return path

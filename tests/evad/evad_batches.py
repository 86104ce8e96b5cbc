"""Random batches as a data loader hands them over, and how the tests run a model on them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

NUM_FRAMES, NUM_ACTIONS = 16, 8


def make_batch(people: Sequence[int], sizes: Sequence[tuple[int, int]] = ((64, 96), (56, 75), (64, 64))) -> dict:
    """Clips of the given (height, width) with so many people each, who do about a third of all actions."""
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for i, (num, (h, w)) in enumerate(zip(people, sizes)):
        inputs.append(torch.randint(0, 256, (3, NUM_FRAMES, h, w), dtype=torch.uint8, generator=generator))
        corner = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2, h / 2])
        size = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2 - 5, h / 2 - 5]) + 4
        labels = (torch.rand(num, NUM_ACTIONS + 1, generator=generator) < 0.3).float()
        labels[:, 0] = 0
        sample = ActionDataSample(metainfo=dict(video_id=f'clip{i}', timestamp=900 + i, img_shape=(h, w)))
        sample.gt_instances = InstanceData(bboxes=torch.cat([corner, corner + size], dim=1), labels=labels)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """Losses of a batch, which stays as it is."""
    return model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')


def predict(model: nn.Module, batch: dict) -> list[ActionDataSample]:
    """Predictions for a batch, which stays as it is."""
    return model.eval().test_step(copy.deepcopy(batch))

"""Random batches as a data loader hands them over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData

NUM_FRAMES, NUM_ACTIONS = 8, 8


def make_batch(
    people: Sequence[int],
    sizes: Sequence[tuple[int, int]] | None = None,
    seconds: Sequence[int] | None = None,
    seed: int = 1,
    num_frames: int = NUM_FRAMES,
    num_actions: int = NUM_ACTIONS,
) -> dict:
    """Clips of a video, with so many people each: annotated ones, and the same boxes as given ones with scores.

    Args:
        people: number in each clip.
        sizes: (height, width) of the clips; None: 64 x 96 all.
        seconds: of the clips; None: a minute apart, so that none is in the memory of another.
        seed: of everything.
        num_frames: of each clip.
        num_actions: that a person can do.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for i, num in enumerate(people):
        h, w = sizes[i] if sizes else (64, 96)
        inputs.append(torch.randint(0, 256, (3, num_frames, h, w), dtype=torch.uint8, generator=generator))
        corner = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2, h / 2])
        size = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2 - 5, h / 2 - 5]) + 4
        boxes = torch.cat([corner, corner + size], dim=1)
        labels = (torch.rand(num, num_actions + 1, generator=generator) < 0.3).float()
        labels[:, 0] = 0
        second = seconds[i] if seconds else 900 + 60 * i
        sample = ActionDataSample(metainfo=dict(video_id='film', timestamp=second, img_shape=(h, w)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        scores = torch.rand(num, generator=generator).sort(descending=True).values
        sample.proposals = InstanceData(bboxes=boxes.clone(), scores=scores)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)

"""Random batches as a data loader hands them over."""

from __future__ import annotations

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData


def make_batch(num_objects: list[int]) -> dict:
    """Images of 64 x 96, 54 x 96, ... pixels with so many objects each, with boxes, labels and masks."""
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for i, num in enumerate(num_objects):
        h, w = 64 - 10 * i, 96
        inputs.append(torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=generator))
        corner = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2, h / 2])
        size = torch.rand(num, 2, generator=generator) * torch.tensor([w / 2 - 5, h / 2 - 5]) + 4
        boxes = torch.cat([corner, corner + size], dim=1)
        masks = torch.zeros(num, h, w, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(
            metainfo=dict(img_id=i, img_shape=(h, w), ori_shape=(2 * h, 2 * w), scale_factor=(0.5, 0.5))
        )
        labels = torch.randint(0, 8, (num,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks.numpy(), h, w))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)

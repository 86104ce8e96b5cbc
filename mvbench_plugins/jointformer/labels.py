"""Labels of index maps: which objects a map gives, and masks of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from mmdet.structures import TrackDataSample
from torch import Tensor

from mvbench_plugins.datasets.vos.index_masks import VOID

_MAX_OBJECTS = 254


def unknown_labels(labels: Tensor, known: Sequence[int], source: str) -> list[int]:
    """The objects that enter with an index map, in ascending order; known ones are none.

    Args:
        labels: ``[H, W]``, 0 is background.
        known: labels of the objects so far.
        source: names the frame in errors.

    Raises:
        ValueError: values are no labels, or there would be more objects than an index map can hold.
    """
    found = [label for label in labels.unique().tolist() if label != 0]
    if found and not 0 < min(found) <= max(found) <= VOID:
        raise ValueError(
            f'{source}: its mask has labels from {min(found)} to {max(found)}, expected 1 to {_MAX_OBJECTS} for '
            f'objects, 0 for background and {VOID} for pixels to ignore; renumber the objects'
        )
    if len({*found, *known}) > 1:
        found = [label for label in found if label != VOID]
    new = [label for label in found if label not in known]
    if len(known) + len(new) > _MAX_OBJECTS:
        raise ValueError(
            f'{source}: its mask brings the objects of the video to {len(known) + len(new)}, expected at most '
            f'{_MAX_OBJECTS}, which is what an index map of 8 bits can hold'
        )
    return new


def one_hot(labels: Tensor, values: Iterable[int]) -> Tensor:
    """Masks of 0 and 1 ``[..., n, H, W]``, uint8, of the values in index maps ``[..., H, W]``."""
    wanted = torch.tensor([*values], dtype=labels.dtype, device=labels.device)
    return (labels.unsqueeze(-3) == wanted[:, None, None]).to(torch.uint8)


def clip_targets(
    data_samples: Sequence[TrackDataSample], num_slots: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Index maps and numbers of objects of a batch of clips.

    Args:
        data_samples: with ``num_objects``, and with ``gt_sem_seg`` on each frame.
        num_slots: objects that a clip may have.
        ignore_index: label that the losses leave out; None: there is none.

    Returns:
        ``[B, F, H, W]`` and ``[B]``, both int64.

    Raises:
        ValueError: ``num_objects`` is not within 1 to ``num_slots``, or a map has labels beyond it.
    """
    targets = torch.stack(
        [torch.cat([frame.gt_sem_seg.sem_seg for frame in sample.video_data_samples]) for sample in data_samples]
    ).long()
    num_objects = torch.tensor([sample.num_objects for sample in data_samples], device=targets.device)
    highest = targets.flatten(1).amax(1)
    if ignore_index is not None:
        highest = torch.where(targets == ignore_index, 0, targets).flatten(1).amax(1)
    wrong = (num_objects < 1) | (num_objects > num_slots) | (highest > num_objects)
    if wrong.any():
        index = int(wrong.nonzero()[0])
        frame = data_samples[index].video_data_samples[0]
        raise ValueError(
            f'{frame.get("img_path", "clip")}: found num_objects={int(num_objects[index])} and labels up to '
            f'{int(highest[index])}, expected labels up to num_objects and num_objects up to '
            f'train_cfg.num_slots={num_slots}, besides ignore_index={ignore_index} of the losses; check the objects '
            'that the pipeline selects'
        )
    return targets, num_objects

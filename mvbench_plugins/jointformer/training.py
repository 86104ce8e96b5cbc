"""Training on clips: masks of the first frame are carried through the rest, with gradients through time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .aggregation import memory_frames, soft_aggregate
from .attention import FrameMemory

if TYPE_CHECKING:
    from .detector import JointFormer


class ClipOutput(NamedTuple):
    """What comes out for one frame of a batch of clips.

    Attributes:
        logits: after soft aggregation, background first, ``[B, 1 + N, H, W]``.
        prob: of the object slots ``[B, N, H, W]``, empty ones included.
    """

    logits: Tensor
    prob: Tensor


class ClipDraws:
    """What is drawn at random while a clip is segmented.

    Args:
        num_ref_frames: so many memorised frames are read.
        token_update_prob: how often a memorised frame updates the compressed tokens, the first one apart.

    Raises:
        ValueError: no such number or probability.
    """

    def __init__(self, num_ref_frames: int = 2, token_update_prob: float = 0.6) -> None:
        if num_ref_frames < 1:
            raise ValueError(f'train_cfg.num_ref_frames: found {num_ref_frames}, expected at least 1')
        if not 0 <= token_update_prob <= 1:
            raise ValueError(f'train_cfg.token_update_prob: found {token_update_prob}, expected 0 to 1')
        self.num_ref_frames = num_ref_frames
        self.token_update_prob = token_update_prob

    def updates_token(self, step: int) -> bool:
        """Whether frame ``step`` updates the tokens, for the whole batch."""
        return bool(torch.rand(()) < self.token_update_prob)

    def references(self, step: int, batch_size: int) -> Tensor:
        """The frames that frame ``step`` reads, ``[batch_size, R]``: the first one, and others without repetition."""
        if step <= self.num_ref_frames:
            return torch.arange(step).expand(batch_size, -1)
        others = [1 + torch.randperm(step - 1)[: self.num_ref_frames - 1] for _ in range(batch_size)]
        return torch.cat([torch.zeros(batch_size, 1, dtype=torch.long), torch.stack(others)], dim=1)


def segment_clip(
    model: JointFormer, images: Tensor, first_masks: Tensor, selector: Tensor, draws: ClipDraws
) -> Iterator[ClipOutput]:
    """Segment the frames of clips behind their first ones.

    Args:
        model: whose networks are trained.
        images: normalised ``[B, F, 3, H, W]``.
        first_masks: 0 and 1, of the slots on the first frame, ``[B, N, H, W]``.
        selector: ``[B, N]``, 1 where a slot holds an object.
        draws: what is random.

    Yields:
        One output for each of the frames 1 to F - 1.
    """
    backbone, (batch_size, slots) = model.backbone, selector.shape
    token = backbone.cls_token.expand(batch_size * slots, -1, -1)
    masks = first_masks.to(images.dtype)
    memories: list[FrameMemory] = []
    num_frames = images.shape[1]
    for step in range(num_frames):
        if step > 0:
            stem = backbone.stem(images[:, step])
            memory = _references(memories, draws.references(step, batch_size), slots)
            f16 = backbone.read(stem, memory)
            logits, fusion = model.mask_head(f16, backbone.enhance(f16, token), stem.f8, stem.f4)
            logits, prob = soft_aggregate(logits.unflatten(0, (batch_size, slots)).squeeze(2).sigmoid(), selector)
            masks = prob[:, 1:]
            yield ClipOutput(logits, masks)
        if step < num_frames - 1:  # nobody reads what is remembered of the last frame
            if step > 0:
                token = backbone.update_token(fusion, token)
            updates = step == 0 or draws.updates_token(step)
            frames = memory_frames(images[:, step], masks, backbone.mask_channels).flatten(0, 1)
            memory, updated = backbone.memorize(frames, token if updates else None)
            memories.append(memory)
            token = updated if updates else token


def _references(memories: Sequence[FrameMemory], frames: Tensor, slots: int) -> list[FrameMemory]:
    """For each of the R references, the memory of the frame that each sample reads: ``B * N`` rows."""
    chosen = []
    for reference in frames.t().tolist():
        if len(set(reference)) == 1:
            chosen.append(memories[reference[0]])
            continue
        rows = [
            memories[frame].select(slice(sample * slots, (sample + 1) * slots))
            for sample, frame in enumerate(reference)
        ]
        chosen.append(FrameMemory.cat(rows))
    return chosen

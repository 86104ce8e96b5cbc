"""The two passes of a model with a long-term memory, along a stream of clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

_VIDEO = 'stream'

Entry = tuple[int, InstanceData, ActionDataSample]
Recalled = tuple[InstanceData, Tensor, ActionDataSample]


def detect_with_memory(
    model: BaseModel, batches: Iterable[dict[str, Any]], lookahead: int, batch_size: int
) -> Iterator[ActionDataSample]:
    """Detects in the clips of a video one after the other, in memory bounded by the window of the model.

    Each clip goes through the backbone once. It is classified when the features of the ``lookahead`` next ones are
    there, or the clips have ended; then the features that no later clip can see are forgotten. The memory counts
    clips: its "seconds" are the key frames, whatever time lies between them. Every clip sees exactly the clips from
    ``before`` ones back to ``lookahead`` ones ahead, whatever the size of the batches.

    Features stand in a bank of this stream, of the kind and size of ``model.memory``, so that streams may run side by
    side and leave nothing in the model.

    Args:
        model: has ``memory``, ``extract`` and ``classify``.
        batches: collated clips, in the order of time.
        lookahead: how many later clips a clip waits for, at most ``model.memory.after``.
        batch_size: how many of the last clips, which wait for no others, are classified at once.
    """
    own = model.memory
    bank = type(own)(before=own.before, after=own.after, max_per_second=own.max_per_second)
    waiting: deque[Entry] = deque()
    number = 0

    def recall() -> Recalled:
        clip, features, sample = waiting.popleft()
        memory = bank.assemble([(_VIDEO, clip)], [features.actor_features])
        bank.forget(_VIDEO, clip + 1 - bank.before)
        return features, memory, sample

    for batch in batches:
        ready = []
        for features, sample in _extract(model, batch):
            # One by one: a clip must not see those that only share its batch with the last one it waits for.
            bank.update(_VIDEO, number, features.actor_features)
            waiting.append((number, features, sample))
            number += 1
            if len(waiting) > lookahead:
                ready.append(recall())
        yield from _classify(model, ready)
    while waiting:
        yield from _classify(model, [recall() for _ in range(min(batch_size, len(waiting)))])


@torch.no_grad()
def _extract(model: BaseModel, batch: dict[str, Any]) -> Iterable[tuple[InstanceData, ActionDataSample]]:
    data = model.data_preprocessor(batch, False)
    return zip(model.extract(**data), data['data_samples'], strict=True)


@torch.no_grad()
def _classify(model: BaseModel, recalled: list[Recalled]) -> list[ActionDataSample]:
    if not recalled:
        return []
    features, memory, samples = zip(*recalled, strict=True)
    return model.classify(list(features), torch.cat(memory), list(samples))

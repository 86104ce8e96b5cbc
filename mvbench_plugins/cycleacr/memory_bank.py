"""The long-term memory: features of the people of neighbouring seconds, per video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor


class MemoryBank:
    """Features of people by (video, second), and the memory that a clip sees of them.

    Features are kept on the CPU, detached. A second that nobody wrote, or with fewer people than there is room for, is
    filled with zeros, which take part in the attention like everything else, as released weights require.

    Args:
        before: seconds of memory before the clip's own.
        after: seconds of memory behind it.
        max_per_second: people per second; the first ones in the order given are kept.
    """

    def __init__(self, before: int = 30, after: int = 30, max_per_second: int = 5) -> None:
        self.before = before
        self.after = after
        self.max_per_second = max_per_second
        self._entries: dict[str, dict[int, tuple[Tensor, float | None]]] = defaultdict(dict)

    def __len__(self) -> int:
        """Number of seconds that are held, over all videos."""
        return sum(map(len, self._entries.values()))

    def update(self, video: str, second: int, features: Tensor, loss: float | None = None) -> None:
        """Write or replace one second.

        Args:
            video: name of the video.
            second: its second.
            features: ``[n, D]``, of everyone there.
            loss: loss of the training step that they come from.
        """
        # A copy: a view would keep the features of the whole batch alive.
        self._entries[video][second] = (features[: self.max_per_second].detach().cpu().clone(), loss)

    def forget(self, video: str, before: int) -> None:
        """Drop the seconds of a video that are smaller than ``before``."""
        entries = self._entries.get(video, {})
        for second in [second for second in entries if second < before]:
            del entries[second]

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def assemble(
        self, keys: Sequence[tuple[str, int]], current: Sequence[Tensor], current_loss: float | None = None
    ) -> Tensor:
        """What the clips of a batch see.

        Args:
            keys: (video, second) of each clip.
            current: features ``[n_i, D]`` of each clip's own people, which fill its own second whatever the bank holds.
            current_loss: loss of the previous training step. Features of the bank are then scaled by the ratio of it
                and the loss they were written with, the smaller to the larger (the penalty of outdated features).

        Returns:
            ``[B, (before + 1 + after) * max_per_second, D]``, second by second in the order of time, on the device and
            of the type of ``current``.
        """
        like = current[0]
        shape = (len(keys), self.before + 1 + self.after, self.max_per_second, like.shape[-1])
        memory = torch.zeros(shape, dtype=like.dtype)  # filled on the CPU, moved once
        for row, (video, second) in enumerate(keys):
            entries = self._entries.get(video, {})
            for slot, other in enumerate(range(second - self.before, second + self.after + 1)):
                if other == second or other not in entries:
                    continue
                features, loss = entries[other]
                if current_loss is not None and loss is not None:
                    features = features * _ratio(loss, current_loss)
                memory[row, slot, : len(features)] = features
        memory = memory.to(like.device)
        for row, features in enumerate(current):
            kept = features[: self.max_per_second].detach()
            memory[row, self.before, : len(kept)] = kept
        return memory.flatten(1, 2)

    def state_dict(self) -> dict:
        """Everything that is held, as plain containers of tensors and numbers."""
        return {video: dict(entries) for video, entries in self._entries.items()}

    def load_state_dict(self, state: dict) -> None:
        """Replace everything by what :meth:`state_dict` gave, wherever it was loaded to."""
        self.clear()
        for video, entries in state.items():
            self._entries[video] = {second: (features.cpu(), loss) for second, (features, loss) in entries.items()}


def _ratio(a: float, b: float) -> float:
    """The smaller of two losses divided by the larger; 1 if both are zero."""
    low, high = sorted((a, b))
    return low / high if high > 0 else 1.0

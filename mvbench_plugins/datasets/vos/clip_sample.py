"""Which frames of a video make a training clip."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


def draw_clip(video_length: int, num_frames: int, max_jump: int, first: int | None = None) -> list[int]:
    """Draw the frames of a clip.

    A random frame, then again and again a random one from the union of the windows of ``max_jump`` frames before and
    after those that were drawn already.

    Args:
        video_length: number of frames to draw from.
        num_frames: number of different frames to draw, at most ``video_length``.
        max_jump: half width of the windows, at least 1.
        first: the frame to start with; None: any.

    Returns:
        Ascending positions.
    """
    chosen = [np.random.randint(video_length) if first is None else first]
    allowed: set[int] = set()
    while len(chosen) < num_frames:
        allowed.update(range(max(0, chosen[-1] - max_jump), min(video_length, chosen[-1] + max_jump + 1)))
        chosen.append(int(np.random.choice(sorted(allowed.difference(chosen)))))
    return sorted(chosen)


@TRANSFORMS.register_module()
class VOSClipSample(BaseFrameSample):
    """Draw a clip from a video (see ``draw_clip``); every second one runs backwards.

    ``max_jump`` may be changed during training (``VOSCurriculumHook``); it lies in shared memory, so that the change
    reaches the workers of the data loader, too.

    Args:
        num_frames: frames of a clip.
        max_jump: how many frames of the video apart frames of a clip may lie.
        jump_divisor: ``max_jump`` is divided by this, for sets in which every n-th frame is annotated (5: YouTube-VOS,
            VOST, LVOS); the result is at least 1.
    """

    def __init__(self, num_frames: int = 4, max_jump: int = 5, jump_divisor: int = 1) -> None:
        super().__init__(collect_video_keys=['video_id', 'video_length', 'last_try'])
        if num_frames < 1 or max_jump < 1 or jump_divisor < 1:
            raise ValueError(
                'VOSClipSample: num_frames, max_jump and jump_divisor must be at least 1, found '
                f'{num_frames}, {max_jump}, {jump_divisor}'
            )
        self.num_frames = num_frames
        self.jump_divisor = jump_divisor
        self._max_jump = torch.tensor(max_jump).share_memory_()

    @property
    def max_jump(self) -> int:
        """Largest distance, before the division."""
        return int(self._max_jump)

    @max_jump.setter
    def max_jump(self, value: int) -> None:
        self._max_jump.fill_(value)

    def transform(self, video_infos: dict) -> dict[str, list]:
        """Turn a video of ``VOSDataset`` into lists of the values of its frames.

        Raises:
            ValueError: the video is shorter than a clip.
        """
        length = video_infos['video_length']
        if length < self.num_frames:
            raise ValueError(
                f'{video_infos["video_name"]}: {length} frames with masks, a clip has num_frames={self.num_frames}. '
                f'Set min_frames={self.num_frames} in the data set: it leaves shorter videos out.'
            )
        jump = max(1, self.max_jump // self.jump_divisor)
        frames = draw_clip(length, self.num_frames, jump, video_infos.get('key_frame_id'))
        if np.random.rand() < 0.5:
            frames.reverse()
        return self.prepare_data({'last_try': True} | video_infos, frames)


@TRANSFORMS.register_module()
class RepeatStaticImage(BaseFrameSample):
    """Repeat the image of ``StaticVOSDataset``: the augmentation of each frame makes a clip of it.

    Args:
        num_frames: frames of a clip.
    """

    def __init__(self, num_frames: int = 3) -> None:
        super().__init__(collect_video_keys=['video_id', 'video_length', 'last_try'])
        self.num_frames = num_frames

    def transform(self, video_infos: dict) -> dict[str, list]:
        """Turn an image into lists of ``num_frames`` equal values."""
        return self.prepare_data({'last_try': True} | video_infos, [0] * self.num_frames)

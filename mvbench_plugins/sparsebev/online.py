"""Online mode: features of past frames are remembered instead of computed again for every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.dist import get_world_size
from torch import Tensor

from mvbench_plugins.ops.msmv_sampling import FlatViews

from .frames import CAMERAS


class FeatureMemory:
    """Features by frame, under the file name of the frame's first camera; the oldest are forgotten first.

    A frame is seldom needed for longer than a sample's own history, so that a few suffice. Everything is forgotten when
    another scene begins, when time goes backwards (a new loop), when images have another size, and by :meth:`clear`.

    Args:
        max_frames: how many frames are kept.

    Raises:
        ValueError: there are several processes, each of which would see parts of the scenes only.
    """

    def __init__(self, max_frames: int) -> None:
        if get_world_size() > 1:  # now, and not in the first test behind an epoch of training
            raise ValueError(
                f'test_cfg.online: found {get_world_size()} processes, expected one, which sees all samples in the '
                'order of time; start one process, or set test_cfg.online=False (and key_frame_only=False in '
                'LoadMultiFrameImages)'
            )
        self.max_frames = max_frames
        self._frames: dict[str, FlatViews] = {}
        self._stream: tuple | None = None
        self._time = float('-inf')

    def __len__(self) -> int:
        """Number of frames that are kept."""
        return len(self._frames)

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._stream, self._time = None, float('-inf')

    def views(
        self, imgs: Tensor, data_samples: Sequence[Det3DDataSample], extract: Callable[[Tensor], FlatViews]
    ) -> FlatViews:
        """Features of all frames of a sample: the key frame's are computed, the others' are remembered where possible.

        Args:
            imgs: ``[1, K * N, 3, H, W]``, images of the key frame alone (K = 1), or of all frames.
            data_samples: of one sample, with ``img_path`` and ``img_timestamp`` of all images of all frames, and
                perhaps ``scene_token``.
            extract: computes the features of images ``[1, N, 3, H, W]``.

        Raises:
            ValueError: there are several samples, ``img_path`` is missing, or a frame is neither remembered nor among
                the images.
        """
        if len(data_samples) != 1:
            raise ValueError(
                f'test_cfg.online: found a batch of {len(data_samples)}, expected one sample at a time, in the order '
                'of time; set batch_size=1, or test_cfg.online=False'
            )
        sample, given = data_samples[0], imgs.split(len(CAMERAS), dim=1)
        names = self._names(sample)
        self._forget_other_streams(sample, tuple(imgs.shape[-2:]))
        # Always looked at anew: its images are here.
        frames = {names[0]: extract(given[0])}
        for place, name in enumerate(names):
            if name in frames:
                continue
            if name in self._frames:
                frames[name] = self._frames[name]
            elif place < len(given):
                frames[name] = extract(given[place])
            else:
                raise ValueError(
                    f'test_cfg.online: sample {sample.get("token")} needs frame {place}, {name}, which is not among '
                    f'the {len(self)} frames in memory: expected the samples of a scene from its first one on, in the '
                    'order of time (no shuffling). To start elsewhere, load all images: key_frame_only=False in '
                    'LoadMultiFrameImages'
                )
        self._remember(frames)
        first = frames[names[0]]
        return first._replace(value=torch.cat([frames[name].value for name in names], dim=1))

    @staticmethod
    def _names(sample: Det3DDataSample) -> list[str]:
        """File name of the first camera of each frame."""
        paths, times = sample.get('img_path', []), sample.get('img_timestamp', [])
        if not len(paths) or len(paths) != len(times):
            raise ValueError(
                f'test_cfg.online: sample {sample.get("token")} has {len(paths)} entries in img_path and {len(times)} '
                'in img_timestamp, expected one of each for every image of every frame; name both in meta_keys of '
                'Pack3DDetInputs'
            )
        return list(paths[:: len(CAMERAS)])

    def _forget_other_streams(self, sample: Det3DDataSample, size: tuple[int, int]) -> None:
        stream, time = (sample.get('scene_token'), size), float(sample.img_timestamp[0])
        if stream != self._stream or time < self._time:
            self.clear()
        self._stream, self._time = stream, time

    def _remember(self, frames: dict[str, FlatViews]) -> None:
        for name, views in frames.items():
            self._frames[name] = views._replace(value=views.value.detach())
        for name in list(self._frames)[: -self.max_frames]:
            del self._frames[name]

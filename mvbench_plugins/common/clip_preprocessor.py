"""Clips of unequal size to one batch: normalise first, pad with zeros afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor


@MODELS.register_module()
class ClipDataPreprocessor(ActionDataPreprocessor):
    """mmaction's preprocessor with the padding of the published action detectors.

    The stock class pads before it normalises, which makes the padding ``-mean / std`` instead of 0, and has no divisor
    that spares the time axis.

    Args:
        mean: per channel, on 0 to 255.
        std: per channel, on 0 to 255.
        pad_size_divisor: height and width of the batch are multiples of it; padding is added right and below.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], pad_size_divisor: int = 1) -> None:
        super().__init__(mean=mean, std=std, format_shape='NCTHW')
        self.pad_size_divisor = pad_size_divisor

    def preprocess(
        self, inputs: list[Tensor], data_samples: list[ActionDataSample] | None, training: bool = False
    ) -> tuple[Tensor, list[ActionDataSample] | None]:
        """Normalise, pad and stack.

        Args:
            inputs: RGB clips ``[3, T, H_i, W_i]`` of any dtype, 0 to 255.
            data_samples: handed through.
            training: without effect.

        Returns:
            The batch, float32 ``[B, 3, T, H, W]``, and the data samples.

        Raises:
            ValueError: the clips have different numbers of frames.
        """
        lengths = {clip.shape[1] for clip in inputs}
        if len(lengths) > 1:
            raise ValueError(f'the clips of a batch have {sorted(lengths)} frames, expected one length: check clip_len')
        height, width = (
            -(-max(clip.shape[axis] for clip in inputs) // self.pad_size_divisor) * self.pad_size_divisor
            for axis in (2, 3)
        )
        batch = inputs[0].new_zeros((len(inputs), 3, lengths.pop(), height, width), dtype=self.mean.dtype)
        for target, clip in zip(batch, inputs, strict=True):
            target[..., : clip.shape[2], : clip.shape[3]] = (clip - self.mean) / self.std
        return batch, data_samples

"""Clips are normalised first and padded with zeros afterwards."""

from __future__ import annotations

import pytest
import torch
from mmaction.structures import ActionDataSample

from mvbench_plugins.common.clip_preprocessor import ClipDataPreprocessor

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)


def _clip(height: int, width: int, frames: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, frames, height, width), dtype=torch.uint8, generator=generator)


def _run(clips: list[torch.Tensor], **options) -> dict:
    samples = [ActionDataSample(metainfo=dict(img_shape=tuple(clip.shape[2:]))) for clip in clips]
    return ClipDataPreprocessor(MEAN, STD, **options)(dict(inputs=clips, data_samples=samples))


@pytest.mark.parametrize('divisor, size', [(32, (96, 128)), (16, (80, 112)), (1, (70, 100))])
def test_clips_of_unequal_size(divisor, size):
    clips = [_clip(70, 64), _clip(33, 100)]
    data = _run(clips, pad_size_divisor=divisor)
    batch = data['inputs']
    assert batch.shape == (2, 3, 4, *size) and batch.dtype == torch.float32
    for got, clip in zip(batch, clips, strict=True):
        height, width = clip.shape[2:]
        want = (clip.double() - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
        torch.testing.assert_close(got[..., :height, :width].double(), want, rtol=1e-6, atol=1e-6)
        # The stock class would leave -mean / std here.
        assert not got[..., height:, :].any() and not got[..., width:].any()
    # Post-processing needs the size before padding.
    assert [sample.img_shape for sample in data['data_samples']] == [(70, 64), (33, 100)]


def test_a_fitting_clip_is_not_padded():
    assert _run([_clip(64, 96)], pad_size_divisor=32)['inputs'].shape == (1, 3, 4, 64, 96)


def test_time_is_never_padded():
    assert _run([_clip(64, 96, frames=5)], pad_size_divisor=32)['inputs'].shape[2] == 5


def test_clips_of_unequal_length():
    with pytest.raises(ValueError, match=r'have \[4, 8\] frames.*clip_len'):
        _run([_clip(64, 96), _clip(64, 96, frames=8)])


def test_float_clips():
    """Frames that were computed, not decoded, on the same scale."""
    clip = _clip(32, 32)
    assert torch.equal(_run([clip.float()])['inputs'], _run([clip])['inputs'])

"""The list of bad input of EVAD: keep rates out of range, clips and images that do not divide into tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from evad_batches import predict
from torch import nn

KEEP_RATES = (0, -1, 1.5, math.nan, math.inf)
#: Settings of the backbone, shape of a clip, and the message.
CLIPS: dict[str, tuple[dict, tuple[int, ...], str]] = {
    'odd number of frames': (
        {},
        (3, 15, 64, 96),
        '15 frames of 64x96.*do not divide into patches of 2 frames.*clip_len',
    ),
    'frames without positions': (
        {},
        (3, 8, 64, 96),
        '4 tokens in time, the position table has 8: set num_frames.*clip_len',
    ),
    'a single frame': ({}, (3, 1, 64, 96), '1 frames of 64x96.*do not divide into patches of 2 frames'),
    # The backbone was changed, the head was forgotten.
    'head of another clip length': (dict(num_frames=8), (3, 8, 64, 96), '4 tokens in time, the position table has 8'),
}
Build = Callable[..., nn.Module]


@pytest.mark.parametrize('keep_rate', KEEP_RATES)
def test_keep_rates_out_of_range_are_refused(build: Build, keep_rate):
    model = build()
    with pytest.raises(ValueError, match=rf'keep_rate={keep_rate} .*expected 0 < keep_rate <= 1'):
        model.backbone.keep_rate = keep_rate
    assert model.backbone.keep_rate == 0.7
    with pytest.raises(ValueError, match=r'expected 0 < keep_rate <= 1'):
        build(backbone=dict(keep_rate=keep_rate))


@pytest.mark.parametrize('backbone, shape, message', CLIPS.values(), ids=CLIPS)
def test_clips_that_do_not_fit_are_refused(build: Build, batch: dict, backbone, shape, message):
    batch['inputs'] = [clip[:, : shape[1]] for clip in batch['inputs']]
    with pytest.raises(ValueError, match=message):
        predict(build(backbone=backbone), batch)


@pytest.mark.parametrize(('height', 'width'), [(56, 75), (64, 75), (8, 96)])
def test_images_that_do_not_divide_are_refused(build: Build, height, width):
    """Without the preprocessor, which pads them."""
    with pytest.raises(ValueError, match=f'{height}x{width} pixels do not divide.*of 16x16.*pad_size_divisor'):
        build()(torch.zeros(1, 3, 16, height, width))

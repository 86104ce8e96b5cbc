"""Every kind of backbone runs, at any size, in training and test; what AlphAction's SlowFast does with frames."""

from __future__ import annotations

import copy

import pytest
import torch
from cycleacr_batches import make_batch
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn

FRAMES = {'slowfast-r50': 32, 'swin-b': 16, 'vit-b': 16}
SIZES = [(80, 116), (64, 90), (64, 64)]  # padded to 80 x 128


def _build(config) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for name, param in model.head.named_parameters():
        nn.init.normal_(param, std=0.1 if 'query' in name or 'key' in name or 'bias' in name else 0.3)
    return model


@pytest.mark.parametrize('name', FRAMES)
def test_a_step_and_a_prediction(narrow, name):
    """Every learnt parameter has a gradient: distributed training waits for all of them."""
    model = _build(narrow(name))
    batch = make_batch([2, 0, 1], sizes=SIZES, num_frames=FRAMES[name], num_actions=80)
    losses = model.train()(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total) and model.last_loss == pytest.approx(float(total.detach()))
    learnt = {key: param for key, param in model.named_parameters() if param.requires_grad}
    assert not [key for key, param in learnt.items() if param.grad is None]
    samples = model.eval().test_step(copy.deepcopy(batch))
    assert [tuple(sample.pred_instances.scores.shape) for sample in samples] == [(2, 81), (0, 81), (1, 81)]
    # Another clip of the same size, alone: neither the batch nor the order of clips changes anything.
    (alone,) = model.test_step({key: copy.deepcopy(value[:1]) for key, value in batch.items()})
    torch.testing.assert_close(alone.pred_instances.scores, samples[0].pred_instances.scores, rtol=1e-3, atol=1e-4)


def test_slowfast_maps(narrow):
    """Stride 16 without padding in the pools, as many fast moments as alpha says."""
    backbone = _build(narrow('slowfast-r50')).backbone.eval()
    with torch.no_grad():
        slow, fast = backbone(torch.randn(1, 3, 32, 256, 464))
    assert (tuple(slow.shape), tuple(fast.shape)) == ((1, 256, 4, 16, 29), (1, 32, 32, 16, 29))


def test_slow_frames_start_at_random_in_training_only(narrow):
    backbone = _build(narrow('slowfast-r50')).backbone
    seen = []
    backbone.slow_path.conv1.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0, 0, :, 0, 0].tolist())
    )
    clip = torch.arange(32.0).view(1, 1, -1, 1, 1).expand(1, 3, -1, 32, 32)
    with torch.no_grad():
        backbone.eval()(clip)
        backbone.train()
        for _ in range(20):
            backbone(clip)
    assert seen[0] == [3, 11, 19, 27]
    starts = {int(frames[0]) for frames in seen[1:]}
    assert len(starts) >= 4 and starts <= set(range(8))
    assert all(frames == [frames[0] + 8 * i for i in range(4)] for frames in seen)


def test_frames_that_do_not_divide(narrow):
    backbone = _build(narrow('slowfast-r50')).backbone
    with pytest.raises(ValueError, match='30 frames do not divide by tau=8: change clip_len'):
        backbone(torch.randn(1, 3, 30, 32, 32))

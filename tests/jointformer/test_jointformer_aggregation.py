"""Soft aggregation: probabilities of objects beside each other."""

from __future__ import annotations

import math

import pytest
import torch

from mvbench_plugins.jointformer.aggregation import memory_frames, soft_aggregate


def test_probabilities_follow_the_definition():
    alone = torch.tensor([0.9, 0.4, 0.2]).view(3, 1, 1)
    logits, prob = soft_aggregate(alone)
    odds = [0.1 * 0.6 * 0.8, 0.9, 0.4, 0.2]
    odds = torch.tensor([p / (1 - p) for p in odds])
    torch.testing.assert_close(logits.flatten(), odds.log())
    torch.testing.assert_close(prob.flatten(), odds / odds.sum())


@pytest.mark.parametrize('lead', [(), (2,), (2, 3)])
def test_objects_are_the_third_last_dimension(lead):
    alone = torch.rand(*lead, 4, 5, 6)
    logits, prob = soft_aggregate(alone)
    assert logits.shape == prob.shape == (*lead, 5, 5, 6)
    torch.testing.assert_close(prob.sum(-3), torch.ones(*lead, 5, 6))
    if lead:  # rows of a batch do not know each other
        torch.testing.assert_close(prob[-1], soft_aggregate(alone[-1])[1])


def test_certain_masks_stay_finite_and_learn_nothing():
    alone = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[..., None].requires_grad_()  # two objects, two pixels
    logits, prob = soft_aggregate(alone)
    # Single precision has no number nearer to 1 than 1 - 1.2e-7 at this distance.
    top, bottom = math.log(0.99999988 / 1.1920929e-07), math.log(1e-7)
    expected = torch.tensor([[bottom, bottom], [top, bottom], [bottom, top]])[..., None]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert prob[1, 0] > 0.999999 and prob[2, 1] > 0.999999
    logits.sum().backward()
    assert alone.grad.abs().max() == 0


def test_empty_slots_win_nowhere():
    alone = torch.full((2, 3, 1, 1), 0.7)
    _, prob = soft_aggregate(alone, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    assert prob[0, 3] < 1e-6 < prob[1, 3]
    torch.testing.assert_close(prob[0, :3], soft_aggregate(alone[0, :2])[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_precision_is_left_before_anything_is_lost(half):
    alone = torch.rand(3, 8, 8).to(half)
    expected = soft_aggregate(alone.float())
    with torch.autocast('cpu', half):
        got = soft_aggregate(alone)
    for ours, wanted in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


@pytest.mark.parametrize('mask_channels', [1, 2])
def test_each_object_sees_its_own_mask_and_those_of_the_others(mask_channels):
    image, masks = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    frames = memory_frames(image, masks, mask_channels)
    assert frames.shape == (2, 3, 3 + mask_channels, 4, 5)
    for i in range(3):
        torch.testing.assert_close(frames[:, i, :3], image)
        torch.testing.assert_close(frames[:, i, 3], masks[:, i])
        if mask_channels == 2:
            torch.testing.assert_close(frames[:, i, 4], masks[:, [j for j in range(3) if j != i]].sum(1))


def test_a_single_object_sees_no_others():
    assert memory_frames(torch.randn(3, 4, 5), torch.rand(1, 4, 5))[:, 4].abs().max() == 0

"""Losses: the share of pixels that counts, slots of empty objects, pixels to ignore."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub

from mvbench_plugins.jointformer.losses import BootstrappedCrossEntropy, SlotDiceLoss

IGNORED = 255


@pytest.fixture
def iteration() -> Iterator:
    """Says which iteration the runner is at."""
    hub = MessageHub.get_current_instance()
    yield lambda number: hub.update_info('iter', number)
    hub.update_info('iter', 0)


def draw(num_objects: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[2, 1 + 3, 10, 10]`` and labels of that many objects."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 10, 10, generator=generator)
    return logits, torch.randint(0, 1 + num_objects, (2, 10, 10), generator=generator)


def test_share_falls_between_the_two_iterations(iteration):
    loss = BootstrappedCrossEntropy(start=100, end=300)
    shares = {0: 1.0, 99: 1.0, 100: 1.0, 200: 0.575, 300: 0.15, 10**6: 0.15}
    for number, share in shares.items():
        iteration(number)
        assert loss.current_share == pytest.approx(share)


@pytest.mark.parametrize(('number', 'count'), [(0, 100), (20, 57), (50, 15)])
def test_the_hardest_pixels_of_each_sample_count(iteration, number, count):
    logits, target = draw()
    iteration(number)
    loss = BootstrappedCrossEntropy(start=10, end=30)
    pixels = F.cross_entropy(logits, target, reduction='none').flatten(1)
    hardest = pixels.sort(descending=True).values[:, :count]
    torch.testing.assert_close(loss(logits, target, [3, 3]), hardest.mean())


@pytest.mark.parametrize('number', [0, 50])
def test_channels_of_empty_slots_are_left_out(iteration, number):
    logits, target = draw(num_objects=1)
    iteration(number)
    loss = BootstrappedCrossEntropy(start=10, end=30)
    got = loss(logits, target, [1, 1])
    logits[:, 2:] += 5
    torch.testing.assert_close(loss(logits, target, [1, 1]), got)
    assert loss(logits, target, [2, 3]) > got


def test_ignored_pixels_count_only_as_pixels(iteration):
    logits, target = draw()
    target[:, :5] = IGNORED
    loss = BootstrappedCrossEntropy(start=10, end=30, ratio=0.8, ignore_index=IGNORED)
    valid = F.cross_entropy(logits[:, :, 5:], target[:, 5:], reduction='none').flatten(1)  # half of the pixels
    torch.testing.assert_close(loss(logits, target, [3, 3]), valid.mean())
    iteration(50)
    torch.testing.assert_close(loss(logits, target, [3, 3]), valid.mean() * 50 / 80)


def test_nothing_to_learn_from_costs_nothing():
    logits, target = draw()
    loss = BootstrappedCrossEntropy(start=10, end=30, ignore_index=IGNORED)
    assert loss(logits, torch.full_like(target, IGNORED), [3, 3]) == 0


@pytest.mark.parametrize('wrong', [dict(start=30, end=10), dict(start=0, end=10, ratio=0.0)])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match='expected'):
        BootstrappedCrossEntropy(**wrong)


def dice(prob: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return 1 - (2 * (prob * truth).sum() + 1) / (prob.sum() + truth.sum() + 1)


def test_dice_is_the_mean_over_all_slots_and_samples():
    _, target = draw()
    prob = torch.rand(2, 3, 10, 10)
    expected = [dice(prob[b, i], target[b] == i + 1) for b in range(2) for i in range(3)]
    torch.testing.assert_close(SlotDiceLoss()(prob, target), torch.stack(expected).mean())


def test_dice_of_perfect_masks_and_empty_slots_is_zero():
    _, target = draw(num_objects=2)
    perfect = torch.stack([target == i for i in (1, 2, 3)], dim=1).float()
    assert SlotDiceLoss()(perfect, target) == 0


def test_dice_with_ignored_pixels_sums_over_the_batch():
    _, target = draw()
    target[0, :7] = IGNORED
    prob = torch.rand(2, 3, 10, 10)
    valid = target != IGNORED
    expected = torch.stack([dice(prob[:, i][valid], target[valid] == i + 1) for i in range(3)]).mean()
    loss = SlotDiceLoss(ignore_index=IGNORED)
    got = loss(prob, target)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(loss(torch.where(valid[:, None], prob, 0.5), target), got)


def test_losses_are_weighted():
    logits, target = draw()
    prob = logits.softmax(1)[:, 1:]
    torch.testing.assert_close(SlotDiceLoss(loss_weight=3.0)(prob, target), 3 * SlotDiceLoss()(prob, target))
    single, double = (BootstrappedCrossEntropy(10, 30, loss_weight=weight) for weight in (1.0, 2.0))
    torch.testing.assert_close(double(logits, target, [3, 3]), 2 * single(logits, target, [3, 3]))

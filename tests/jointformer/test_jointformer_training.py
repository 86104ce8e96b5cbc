"""JointFormer's training: losses, gradients, draws, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jointformer_videos import build, clip_batch, rectangles
from torch import Tensor, nn
from torch.nn import functional as F

from mvbench_plugins.jointformer.training import ClipDraws


def moving_clip(length: int = 4, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    return [rectangles(size, {1: (2 + 3 * t, 4, 14 + 3 * t, 20), 2: (20, 22, 40, 31)}) for t in range(length)]


def losses_of(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    model.train()
    return model(**model.data_preprocessor(batch, True), mode='loss')


@pytest.mark.parametrize('mask_channels', [1, 2])
def test_all_weights_are_trained(mask_channels):
    """Distributed training would stop at a weight without gradient; and nothing is detached between frames."""
    slots = 2 if mask_channels == 2 else 1
    model = build(backbone=dict(mask_channels=mask_channels), train_cfg=dict(num_slots=slots, token_update_prob=0.0))
    clips = [[np.minimum(labels, slots) for labels in moving_clip(3)]] * 2
    losses = losses_of(model, clip_batch(clips, [slots, 1]) if slots == 1 else clip_batch(clips, [2, 2]))
    assert set(losses) == {'bootstrap_share', 'loss_ce_1', 'loss_dice_1', 'loss_ce_2', 'loss_dice_2'}
    losses['loss_ce_2'].backward()
    without = [name for name, param in model.named_parameters() if param.grad is None or not param.grad.any()]
    assert not without


def test_empty_slots_do_not_disturb():
    """A third slot that nobody uses leaves the cross entropy as it is, and dilutes dice by a third."""
    two, three = (
        losses_of(build(train_cfg=dict(num_slots=slots, token_update_prob=1.0)), clip_batch([moving_clip(3)], [2]))
        for slots in (2, 3)
    )
    assert torch.allclose(two['loss_ce_2'], three['loss_ce_2'], rtol=1e-4)
    assert torch.allclose(two['loss_dice_2'] * 2 / 3, three['loss_dice_2'], atol=2e-4)


def test_each_sample_reads_its_own_frames():
    """References differ among the samples of a batch: together as one by one."""
    clips = [moving_clip(4), [labels[:, ::-1].copy() for labels in moving_clip(4)]]
    chosen = torch.tensor([[0, 2], [0, 1]])
    together, *alone = (build(train_cfg=dict(num_slots=2, token_update_prob=1.0)) for _ in range(3))
    for model, rows in ((together, chosen), (alone[0], chosen[:1]), (alone[1], chosen[1:])):
        original = model.draws.references
        model.draws.references = lambda step, n, rows=rows, given=original: rows if step == 3 else given(step, n)
    whole = losses_of(together, clip_batch(clips, [2, 2]))
    parts = [
        losses_of(model, clip_batch([clip], [2], seed=b))
        for b, (model, clip) in enumerate(zip(alone, clips, strict=True))
    ]
    for name in ('loss_ce_3', 'loss_dice_3'):
        assert torch.allclose(whole[name], sum(part[name] for part in parts) / 2, rtol=1e-3), name
    alone[1].draws.references = lambda step, n: chosen[:1] if step == 3 else torch.arange(step).expand(n, -1)
    other = losses_of(alone[1], clip_batch([clips[1]], [2], seed=1))
    assert not torch.allclose(other['loss_ce_3'], parts[1]['loss_ce_3'], rtol=1e-4)


def test_draws():
    torch.manual_seed(0)
    draws = ClipDraws(num_ref_frames=3, token_update_prob=0.25)
    assert draws.references(2, 2).tolist() == [[0, 1]] * 2 and draws.references(3, 1).tolist() == [[0, 1, 2]]
    rows = draws.references(6, 500)
    assert rows.shape == (500, 3) and (rows[:, 0] == 0).all() and (rows[:, 1] != rows[:, 2]).all()
    counts = torch.bincount(rows[:, 1:].flatten(), minlength=6)
    assert counts[0] == 0 and counts[1:].min() > 150
    assert 0.2 < np.mean([draws.updates_token(1) for _ in range(1000)]) < 0.3
    for wrong in (dict(num_ref_frames=0), dict(token_update_prob=1.5)):
        with pytest.raises(ValueError, match=f'train_cfg.{next(iter(wrong))}: found'):
            ClipDraws(**wrong)


@pytest.mark.parametrize(('label', 'count'), [(3, 2), (1, 0), (1, 4), (255, 2)])
def test_labels_beyond_the_slots(label, count):
    clip = [np.where(labels == 1, label, labels).astype(np.uint8) for labels in moving_clip(3)]
    with pytest.raises(ValueError, match=rf'clip0/0.jpg: found num_objects={count} and labels up to .*num_slots=3'):
        losses_of(build(), clip_batch([clip], [count]))


def test_ignored_pixels():
    """255 teaches nothing: what a mask says there does not matter for the losses of that frame."""
    ignoring = dict(loss_ce=dict(ignore_index=255), loss_dice=dict(ignore_index=255))
    losses = []
    for value in (0, 2):
        clip = moving_clip(3)
        clip[2][:, 40:] = 255
        model = build(**ignoring, train_cfg=dict(num_slots=2, token_update_prob=1.0))
        batch = clip_batch([clip], [2])
        model.mask_head.register_forward_hook(
            lambda module, args, out, value=value: (F.pad(out[0][..., :40], (0, 8), value=value), out[1])
        )
        losses.append(losses_of(model, batch))
    assert torch.allclose(losses[0]['loss_ce_2'], losses[1]['loss_ce_2'], rtol=1e-3)


def test_one_clip_is_learnt():
    model = build(lively=False, train_cfg=dict(num_slots=2))
    batch = clip_batch([moving_clip(3, (48, 48))], [2])
    for image, labels in zip(batch['inputs']['img'][0], moving_clip(3, (48, 48)), strict=True):  # objects have colours
        image[:, labels == 1] //= 4
        image[0, labels == 2] = 250
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(25):
        losses = losses_of(model, batch)
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < 0.5 * totals[0], totals

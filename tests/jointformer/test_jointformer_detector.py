"""The model on streams and clips: against a plain reading of the paper, in bad conditions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jointformer_videos import build, clip_batch, frame_batch, images, rectangles, run_video
from torch import Tensor, nn
from torch.nn import functional as F

from mvbench_plugins.jointformer.aggregation import soft_aggregate
from mvbench_plugins.jointformer.attention import TopK
from mvbench_plugins.jointformer.data_preprocessor import VOSDataPreprocessor

SIZE = (40, 70)  # no multiples of 16
MAPS = {0: rectangles(SIZE, {3: (5, 5, 30, 25), 1: (40, 10, 60, 30)}), 2: rectangles(SIZE, {9: (2, 26, 30, 39)})}


@torch.no_grad()
def plain_stream(
    model: nn.Module, frames: Tensor, masks: dict[int, Tensor], mem_every: int, most: int, topk: TopK | None
) -> list[Tensor]:
    """Section 4 of the specification word by word: each object by itself, nothing shared, banks as lists.

    Args:
        model: gives the networks only.
        frames: normalised, of whole patches.
        masks: of new objects, by frame.
    """
    net = model.backbone
    banks: list[dict] = []
    tokens: list[Tensor] = []
    last_memory, out = 0, []
    for t, image in enumerate(frames):
        is_last, known, prob = t == len(frames) - 1, len(banks), None
        memory_frame = (t - last_memory >= mem_every or t in masks) and not is_last
        if known:
            logits = []
            for k in range(known):
                stem = net.stem(image[None])
                bank = banks[k]['permanent'] + ([banks[k]['last']] if banks[k]['last'] is not None else [])
                f16 = net.read(stem, bank, topk)
                logit, fusion = model.mask_head(f16, net.enhance(f16, tokens[k]), stem.f8, stem.f4)
                tokens[k] = net.update_token(fusion, tokens[k], topk)
                logits.append(logit[0, 0])
            prob = soft_aggregate(torch.stack(logits).sigmoid())[1]
        if t in masks:
            new = masks[t].float()
            if prob is not None:
                new = torch.cat([torch.where(new.any(0), 0.0, prob[1:]), new])
            prob = soft_aggregate(new)[1]
            tokens += [net.cls_token] * len(masks[t])
        out.append(prob)
        if is_last:
            continue
        for k in range(len(tokens)):
            others = sum(prob[1 + j] for j in range(len(tokens)) if j != k) + torch.zeros_like(prob[0])
            frame = torch.cat([image, prob[1 + k][None], others[None]])[None, : 3 + net.mask_channels]
            stored, tokens[k] = net.memorize(frame, tokens[k], topk)
            if k >= known:
                banks.append(dict(permanent=[stored], last=None))
            elif memory_frame and most > 1:
                if len(banks[k]['permanent']) == most:
                    del banks[k]['permanent'][1]
                banks[k]['permanent'].append(stored)
            else:
                banks[k]['last'] = stored
        if memory_frame:
            last_memory = t
    return out


@pytest.mark.parametrize(
    ('most', 'topk', 'mask_channels'),
    [
        (1, dict(k=3), 2),
        (2, None, 2),
        (2, dict(k=5, scope='every_frame'), 2),
        (3, dict(k=2, blocks='half', token=True), 2),
        (2, dict(k=3, blocks='last_block'), 1),  # as in stage 0: objects do not see the others
    ],
)
def test_stream_follows_the_paper(most, topk, mask_channels):
    """Objects that enter together are read together, and stems are shared: same numbers as one by one."""
    test_cfg = dict(mem_every=2, max_memory_frames=most, topk=topk)
    model = build(backbone=dict(mask_channels=mask_channels), test_cfg=test_cfg)
    frames = torch.randn(7, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    masks = {t: torch.zeros(n, 48, 64, dtype=torch.uint8) for t, n in ((0, 2), (3, 1))}
    masks[0][0, 5:30, 5:25] = masks[0][1, 10:40, 30:60] = masks[3][0, 20:44, 4:30] = 1
    want = plain_stream(model, frames, masks, 2, most, None if topk is None else TopK(**topk))
    for t, image in enumerate(frames):
        got = model.step(image, masks.get(t), is_last=t == len(frames) - 1)
        assert torch.allclose(got, want[t], atol=2e-4), t
        assert got.argmax(0).unique().numel() > 1 or t == 0, 'a video of background proves nothing'


def test_labels_are_those_of_the_annotation():
    model = build()
    maps = run_video(model, images(5, SIZE), MAPS)
    assert all(found.shape == SIZE and found.dtype == np.uint8 for found in maps)
    assert np.array_equal(maps[0], MAPS[0]) and (maps[2][MAPS[2] == 9] == 9).all()
    assert set(np.unique(maps[1])) <= {0, 1, 3} and {1, 3} & set(np.unique(maps[1]))
    assert set(np.unique(maps[4])) <= {0, 1, 3, 9}


def test_padding_is_centred():
    """An odd row goes below, an odd column right: 40 x 71 to 48 x 80."""
    model, seen = build(), []
    model.backbone.patch_embed1_query.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    run_video(model, images(2, (40, 71)), {0: rectangles((40, 71), {1: (3, 3, 40, 30)})})
    (frame,) = seen
    assert frame.shape == (1, 3, 48, 80)
    assert frame[..., :4, :].eq(0).all() and frame[..., 44:, :].eq(0).all() and frame[..., 4, 4:75].ne(0).any()
    assert frame[..., :4].eq(0).all() and frame[..., 75:].eq(0).all() and frame[..., 74].ne(0).any()


def test_every_video_starts_anew():
    """The second of two videos gives what it gives by itself, and that though the first one was left early."""
    frames, given = images(4, SIZE, seed=3), {0: MAPS[2], 1: MAPS[0]}
    alone = run_video(build(), frames, given)
    model = build()
    run_video(model, images(3, (33, 50)), {0: rectangles((33, 50), {1: (3, 3, 20, 20)})}, known_length=False)
    assert all(np.array_equal(x, y) for x, y in zip(run_video(model, frames, given, video_id=1), alone, strict=True))


def test_unknown_length_changes_nothing_but_work():
    """Somebody who streams does not know which frame is the last: it is remembered in vain."""
    frames = images(4, SIZE)
    want, got = (run_video(build(), frames, MAPS, known_length=known) for known in (True, False))
    assert all(np.array_equal(x, y) for x, y in zip(want, got, strict=True))


def stored_bytes(model: nn.Module) -> int:
    blocks = [pair for group in model.memory.groups for frame in group.frames for pair in frame.memory.blocks]
    return sum({part.data_ptr(): part.untyped_storage().nbytes() for pair in blocks for part in pair}.values())


def test_memory_is_constant():
    model = build(test_cfg=dict(mem_every=3, max_memory_frames=2, topk=dict(k=4)))
    frames, sizes = images(1, (16, 32)).expand(60, -1, -1, -1), []
    for t, image in enumerate(frames):
        labels = rectangles((16, 32), {1 + t: (2, 2, 20, 12)}) if t in (0, 4) else None
        model.test_step(frame_batch(image, t, labels))
        sizes.append(stored_bytes(model))
    assert len(set(sizes[12:])) == 1 and sizes[12] > sizes[0]


def test_memory_does_not_stay_for_training():
    model = build()
    run_video(model, images(2, SIZE), MAPS)
    assert stored_bytes(model)
    model.train()
    assert not model.memory.groups and model.memory.tokens is None


def test_empty_first_masks_are_waited_for():
    empty = np.zeros(SIZE, np.uint8)
    frames = images(5, SIZE)
    maps = run_video(build(), frames, {0: empty, 2: MAPS[0]})
    assert not maps[0].any() and not maps[1].any()
    later = run_video(build(), frames[2:], {0: MAPS[0]})
    assert all(np.array_equal(x, y) for x, y in zip(maps[2:], later, strict=True))


def test_object_that_is_given_again():
    """Known labels of a later annotation, and labels that are not there, change nothing but the memory frames."""
    frames = images(5, SIZE)
    without, again = (run_video(build(), frames, {0: MAPS[0], 3: given}) for given in (np.zeros_like(MAPS[0]), MAPS[0]))
    assert all(np.array_equal(x, y) for x, y in zip(without, again, strict=True))


def test_object_may_disappear_and_return():
    """Its label and its memory stay, whatever the masks between are."""
    model = build()
    nn.init.constant_(model.mask_head.pred.bias, -100.0)
    frames = images(6, SIZE)
    bias = build().mask_head.pred.bias.item()
    for t, image in enumerate(frames):
        if t == 4:
            nn.init.constant_(model.mask_head.pred.bias, bias)
        (sample,) = model.test_step(frame_batch(image, t, MAPS[0] if t == 0 else None))
        found = set(np.unique(sample[0].pred_sem_seg.sem_seg.numpy()))
        if 0 < t < 4:
            assert found == {0}
    assert found & {1, 3} and model.memory.labels == [1, 3] and model.memory.frames_of(0)[0] == 0


def test_void_labels():
    """255 is an object if the first annotation has nothing else, and nothing at all beside or after others."""
    alone = rectangles(SIZE, {255: (5, 5, 40, 30)})
    maps = run_video(build(), images(3, SIZE), {0: alone, 1: rectangles(SIZE, {7: (50, 5, 60, 30), 255: (0, 0, 3, 3)})})
    assert np.array_equal(maps[0], alone) and (maps[1][5:30, 50:60] == 7).all()
    beside = np.where(alone > 0, alone, MAPS[0])
    maps = run_video(build(), images(3, SIZE), {0: beside, 1: alone})
    assert all(255 not in found for found in maps)


def test_instances_for_the_stock_visualizer():
    model = build(test_cfg=dict(with_instances=True))
    (sample,) = model.test_step(frame_batch(images(1, SIZE)[0], 0, MAPS[0]))
    found = sample[0].pred_track_instances
    assert found.instances_id.tolist() == [1, 3] and found.labels.tolist() == [0, 0] and found.scores.tolist() == [1, 1]
    assert found.bboxes.tolist() == [[40, 10, 60, 30], [5, 5, 30, 25]]
    assert np.array_equal(found.masks[1].numpy(), MAPS[0] == 3)


def test_half_precision():
    """Networks in half precision, probabilities in single; the masks are about the same."""
    frames, seen = images(4, SIZE), []
    want = run_video(build(), frames, MAPS)
    model = build()
    step = model.step
    model.step = lambda *args, **kwargs: seen.append(step(*args, **kwargs)) or seen[-1]
    with torch.autocast('cpu', torch.bfloat16):
        got = run_video(model, frames, MAPS)
    assert {prob.dtype for prob in seen} == {torch.float32}
    assert model.memory.groups[0].frames[0].memory.blocks[1].key.dtype == torch.bfloat16
    assert np.mean(np.stack(got) == np.stack(want)) > 0.9


# ------------------------------------------------------------------ what goes wrong


def test_frames_out_of_order_are_refused():
    model, frames = build(), images(3, SIZE)
    model.test_step(frame_batch(frames[0], 0, MAPS[0]))
    with pytest.raises(ValueError, match=r'video0/00002.jpg: found .* = \(0, 2\) after \(0, 0\).*TrackImgSampler'):
        model.test_step(frame_batch(frames[2], 2))
    with pytest.raises(ValueError, match=r'found .* = \(1, 1\) after \(0, 0\)'):
        model.test_step(frame_batch(frames[1], 1, video_id=1))


def test_batches_of_videos_are_refused():
    batch = frame_batch(images(1, SIZE)[0], 0, MAPS[0])
    batch = dict(inputs=dict(img=batch['inputs']['img'] * 2), data_samples=batch['data_samples'] * 2)
    with pytest.raises(ValueError, match='batch of 2 videos, expected one.*batch_size=1'):
        build().test_step(batch)


def test_mask_of_another_size():
    with pytest.raises(ValueError, match=r'video0/00000.jpg: its mask is 20 x 30 .* expected 40 x 70'):
        build().test_step(frame_batch(images(1, SIZE)[0], 0, rectangles((20, 30), {1: (2, 2, 9, 9)})))


def test_frame_of_another_size():
    model = build()
    model.test_step(frame_batch(images(1, SIZE)[0], 0, MAPS[0]))
    with pytest.raises(ValueError, match=r'video0/00001.jpg: found a frame of 30 x 70 .*expected 40 x 70.*resize'):
        model.test_step(frame_batch(images(1, (30, 70))[0], 1))


@pytest.mark.parametrize(('value', 'words'), [(256, 'labels from 256 to 256'), (-1, 'labels from -1 to -1')])
def test_values_that_are_no_labels(value, words):
    labels = np.zeros(SIZE, np.int64)
    labels[3:20, 3:20] = value
    with pytest.raises(ValueError, match=f'video0/00000.jpg: its mask has {words}, expected 1 to 254'):
        build().test_step(frame_batch(images(1, SIZE)[0], 0, labels))


def test_too_many_objects():
    """255 alone, and then all the labels there are."""
    labels = np.arange(256, dtype=np.uint8).repeat(2).reshape(16, 32)
    model, frames = build(), images(2, (16, 32))
    model.test_step(frame_batch(frames[0], 0, np.full((16, 32), 255, np.uint8)))
    with pytest.raises(ValueError, match='brings the objects of the video to 255, expected at most 254'):
        model.test_step(frame_batch(frames[1], 1, labels))


@pytest.mark.parametrize('name', ['train_cfg', 'test_cfg'])
def test_misspelt_settings(name):
    with pytest.raises(ValueError, match=rf"model.{name}: found \['mem_evry'\], expected some of"):
        build(**{name: dict(mem_evry=5)})


# ------------------------------------------------------------------ preprocessing


def preprocess(test_size: int | None, size: tuple[int, int], training: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    image, labels = images(1, size)[0], rectangles(size, {2: (10, 10, 30, 40)})
    batch = VOSDataPreprocessor(mean, std, test_size)(frame_batch(image, 0, labels), training)
    return image, batch['inputs']['img'], batch['data_samples'][0][0].gt_sem_seg.sem_seg


def test_resized_after_normalisation():
    """Shorter side to 48, the longer one cut off: 60 x 73 to 48 x 58; bilinear without antialias."""
    image, resized, labels = preprocess(48, (60, 73))
    channels = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    mean, std = (values[:, None, None] for values in channels)
    want = F.interpolate(((image / 255 - mean) / std)[None], (48, 58), mode='bilinear', align_corners=False)
    assert resized.shape == (1, 1, 3, 48, 58) and torch.allclose(resized[0], want, atol=1e-4)
    assert labels.shape == (1, 48, 58) and labels.dtype == torch.uint8 and labels.unique().tolist() == [0, 2]


@pytest.mark.parametrize(('test_size', 'training'), [(None, False), (48, True), (60, False)])
def test_sizes_that_stay(test_size, training):
    image, got, labels = preprocess(test_size, (60, 73), training)
    assert got.shape == (1, 1, 3, 60, 73) and labels.shape == (1, 60, 73)


def test_odd_sizes_give_masks_of_the_size_of_the_image():
    """480 x 490 stays; int(490 / 480 * 480) is 489 in double precision."""
    _, resized, labels = preprocess(480, (960, 980))
    assert resized.shape[-2:] == labels.shape[-2:] == (480, 490)


def test_clips_of_different_sizes():
    batch = clip_batch([[np.zeros((32, 32), np.uint8)], [np.zeros((32, 48), np.uint8)]], [1, 1])
    with pytest.raises(ValueError, match=r'found clips of the sizes \[\(1, 3, 32, 32\), \(1, 3, 32, 48\)\]'):
        build().data_preprocessor(batch, training=True)


def test_size_below_a_patch():
    with pytest.raises(ValueError, match='test_size: found 8, expected at least 16'):
        VOSDataPreprocessor([0.0] * 3, [1.0] * 3, 8)

"""What is remembered of a video: which frames of which object, in which order, and never more."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS

from mvbench_plugins.jointformer.attention import FrameMemory, KeyValue
from mvbench_plugins.jointformer.memory import VideoMemory


def frame_memory(step: int, count: int) -> FrameMemory:
    """Values tell the frame and the object that they are of."""
    value = step + torch.arange(count).div(100).view(-1, 1, 1, 1).expand(-1, 2, 5, 4)
    return FrameMemory((KeyValue(value, value.clone()),))


def stream(memory: VideoMemory, entering: dict[int, int], length: int) -> list[list[list[int]]]:
    """What each object reads on each frame; ``entering`` says how many objects enter where."""
    read = []
    for step in range(length):
        read.append([memory.frames_of(index) for index in range(memory.num_objects)])
        if step in entering:
            memory.enter(torch.zeros(1, 1, 4), entering[step])
        memory.store(frame_memory(step, memory.num_objects), annotated=step in entering)
        memory.step += 1
    return read


def test_published_example():
    """Every second frame, three in memory; object 1 from frame 0, object 2 from frame 3."""
    read = stream(VideoMemory(mem_every=2, max_frames=3), {0: 1, 3: 1}, 8)
    first = [[0], [0, 1], [0, 2, 1], [0, 2, 3, 1], [0, 2, 3, 4], [0, 3, 5, 4], [0, 3, 5, 6]]
    second = [[3], [3, 4], [3, 5, 4], [3, 5, 6]]
    assert [frame[0] for frame in read[1:]] == first
    assert [frame[1] for frame in read[4:]] == second


def test_one_frame_is_the_first_beside_the_last():
    read = stream(VideoMemory(mem_every=2, max_frames=1), {0: 2, 4: 1}, 8)
    assert [frame[0] for frame in read[1:]] == [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6]]
    assert all(frame[0] == frame[1] for frame in read[1:])
    assert [frame[2] for frame in read[5:]] == [[4], [4, 5], [4, 6]]


def test_annotations_count_as_memory_frames():
    """Also those that bring no new object: the next regular one is counted from them."""
    memory = VideoMemory(mem_every=3, max_frames=9)
    read = stream(memory, {0: 1, 2: 0}, 7)
    assert read[6][0] == [0, 2, 5, 4]


def test_rows_belong_to_their_objects():
    """Groups of objects get their own rows of a frame, and do not keep those of the others alive."""
    memory = VideoMemory(mem_every=2, max_frames=3)
    stream(memory, {0: 2, 1: 1, 3: 2}, 6)
    start = 0
    for group, count in zip(memory.groups, (2, 1, 2), strict=True):
        assert group.count == count
        for frame in group.frames:
            key, value = frame.memory.blocks[0]
            assert key.shape == (count, 2, 5, 4) and torch.equal(key, value)
            # The rows of frame 0 were counted when there were two objects only.
            assert torch.allclose(key[:, 0, 0, 0], frame.step + torch.arange(start, start + count) / 100)
            assert key.untyped_storage().nbytes() == key.nbytes
        start += count


@pytest.mark.parametrize('max_frames', [1, 2, 5])
def test_size_does_not_grow(max_frames):
    memory = VideoMemory(mem_every=3, max_frames=max_frames)
    stream(memory, {0: 2, 7: 1}, 50)
    kept = [len(group.frames) for group in memory.groups]
    for _ in range(450):
        memory.store(frame_memory(memory.step, 3), annotated=False)
        memory.step += 1
    assert [len(group.frames) for group in memory.groups] == kept == [max_frames + 1] * 2
    assert memory.frames_of(0)[0] == 0 and memory.frames_of(2)[0] == 7


@pytest.mark.parametrize(('name', 'value'), [('max_memory_frames', 0), ('mem_every', 0), ('mem_every', 2.5)])
def test_settings_are_checked(name, value):
    model = dict(
        type='JointFormer',
        backbone=dict(type='JointConvMAE', embed_dims=(4, 8, 12), depths=(1, 1, 1), num_heads=1),
        mask_head=dict(type='JointFormerMaskHead', embed_dims=(4, 16, 12)),
        test_cfg={name: value},
    )
    with pytest.raises(ValueError, match=f'test_cfg.{name}: found {value}, expected a whole number of at least 1'):
        MODELS.build(model)

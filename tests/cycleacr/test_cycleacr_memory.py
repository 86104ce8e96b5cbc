"""The memory bank, against the definition written down a second time."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from mvbench_plugins.cycleacr import MemoryBank

DIM = 6


def _entries(generator: torch.Generator, losses: bool) -> dict[tuple[str, int], tuple[Tensor, float | None]]:
    """About two thirds of the seconds of three videos, with 0 to 5 people; some losses are 0."""
    entries = {}
    for video in 'abc':
        for second in range(900, 920):
            if torch.rand((), generator=generator) < 0.35:
                continue
            num = int(torch.randint(0, 6, (), generator=generator))
            loss = float(torch.randint(0, 4, (), generator=generator)) / 2 if losses else None
            entries[video, second] = torch.randn(num, DIM, generator=generator), loss
    return entries


def _expected(entries, keys, current, before, after, room, current_loss) -> Tensor:
    """Row by row: slot of second s, person j is ``room * slot + j``."""
    memory = torch.zeros(len(keys), (before + 1 + after) * room, DIM)
    for clip, (video, own) in enumerate(keys):
        for slot in range(before + 1 + after):
            second = own - before + slot
            features, factor = None, 1.0
            if second == own:
                features = current[clip]
            elif (video, second) in entries:
                features, loss = entries[video, second]
                if current_loss is not None and loss is not None and loss != current_loss:
                    factor = loss / current_loss if loss < current_loss else current_loss / loss
            for person in range(min(room, 0 if features is None else len(features))):
                memory[clip, slot * room + person] = features[person] * factor
    return memory


@pytest.mark.parametrize('current_loss', [None, 0.0, 0.75, 2.0])
@pytest.mark.parametrize('losses', [True, False], ids=['with losses', 'without losses'])
@pytest.mark.parametrize(('before', 'after', 'room'), [(3, 2, 3), (0, 4, 1), (30, 30, 5)])
def test_assemble_is_the_definition(before, after, room, losses, current_loss):
    """Order of seconds, missing ones, more people than there is room for, other videos, and the penalty."""
    generator = torch.Generator().manual_seed(before)
    entries = _entries(generator, losses)
    bank = MemoryBank(before, after, room)
    for (video, second), (features, loss) in entries.items():
        bank.update(video, second, features, loss)
    assert len(bank) == len(entries)
    keys = [('a', 903), ('b', 919), ('a', 910), ('c', 900), ('unknown', 905), ('a', 904)]
    current = [torch.randn(num, DIM, generator=generator) for num in (2, 0, 7, 1, 4, 5)]
    memory = bank.assemble(keys, current, current_loss)
    want = _expected(entries, keys, current, before, after, room, current_loss)
    assert memory.shape == (6, (before + 1 + after) * room, DIM)
    torch.testing.assert_close(memory, want)
    seen = memory.unflatten(1, (-1, room))
    assert not seen[1, before].any(), 'a clip without people has none in its own second'
    others = seen.clone()
    others[:, before] = 0
    assert others.any() or current_loss == 0.0, 'a loss of 0 leaves nothing of features with another'


def test_own_second_is_the_live_one():
    """Even if the bank holds an older feature of it, and never with a penalty."""
    bank = MemoryBank(1, 1, 2)
    bank.update('a', 5, torch.full((2, DIM), 9.0), loss=4.0)
    live = torch.full((1, DIM), 3.0)
    memory = bank.assemble([('a', 5)], [live], current_loss=1.0)[0]
    assert torch.equal(memory[2:4], torch.cat([live, torch.zeros(1, DIM)])) and not memory[[0, 1, 4, 5]].any()
    neighbour = bank.assemble([('a', 6)], [live], current_loss=1.0)[0]
    assert torch.equal(neighbour[:2], torch.full((2, DIM), 9.0 / 4))


def test_update_replaces():
    bank = MemoryBank(1, 0, 3)
    bank.update('a', 5, torch.ones(3, DIM), loss=1.0)
    bank.update('a', 5, torch.full((1, DIM), 2.0), loss=0.5)
    memory = bank.assemble([('a', 6)], [torch.zeros(0, DIM)], current_loss=0.5)[0]
    assert torch.equal(memory[0], torch.full((DIM,), 2.0)) and not memory[1:].any() and len(bank) == 1


def test_no_gradient_through_the_memory():
    bank = MemoryBank(1, 1, 2)
    features = torch.randn(2, DIM, requires_grad=True)
    bank.update('a', 1, features)
    assert not bank.assemble([('a', 2), ('a', 1)], [features, features]).requires_grad


@pytest.mark.parametrize('kind', [torch.float64, torch.bfloat16, torch.float16])
def test_type_of_the_current_features(kind):
    """Whatever the bank was written with: a run with mixed precision reads what one without has written."""
    bank = MemoryBank(1, 1, 2)
    bank.update('a', 1, torch.full((1, DIM), 0.5), loss=1.0)
    for first_second in (True, False):  # official code takes the type of the first slot
        key = ('a', 2 if first_second else 0)
        memory = bank.assemble([key], [torch.ones(1, DIM, dtype=kind)], current_loss=2.0)
        assert memory.dtype == kind and memory[0, 0 if first_second else 4, 0] == 0.25


def test_forget_drops_what_lies_before():
    bank = MemoryBank()
    for video in 'ab':
        for second in range(900, 910):
            bank.update(video, second, torch.ones(1, DIM))
    bank.forget('a', 907)
    bank.forget('unknown', 907)
    assert len(bank) == 3 + 10
    memory = bank.assemble([('a', 915), ('b', 915)], [torch.zeros(0, DIM)] * 2).unflatten(1, (61, 5))
    assert memory[:, :, 0].any(-1).sum(1).tolist() == [3, 10]
    bank.clear()
    assert len(bank) == 0
    assert not bank.assemble([('b', 915)], [torch.zeros(0, DIM)]).any()


def test_a_long_video_stays_within_its_window():
    """Streaming: what is behind is forgotten, and nothing of it is missed."""
    bank, everything = MemoryBank(3, 2, 2), MemoryBank(3, 2, 2)
    for second in range(1000):
        for each in (bank, everything):
            each.update('a', second, torch.full((4, DIM), float(second)))
        clip = second - bank.after
        bank.forget('a', clip - bank.before)
        assert len(bank) <= bank.before + 1 + bank.after
        own = [torch.zeros(1, DIM)]
        assert torch.equal(bank.assemble([('a', clip)], own), everything.assemble([('a', clip)], own))


def test_state_is_saved_and_restored():
    """Through a file that holds nothing but tensors and plain containers."""
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(3, 3, 2)
    for (video, second), (features, loss) in _entries(generator, losses=True).items():
        bank.update(video, second, features, loss)
    file = io.BytesIO()
    torch.save(bank.state_dict(), file)
    file.seek(0)
    other = MemoryBank(3, 3, 2)
    other.update('left over', 1, torch.ones(1, DIM))
    other.load_state_dict(torch.load(file, weights_only=True))
    keys, current = [('a', 905), ('b', 910), ('left over', 2)], [torch.zeros(1, DIM)] * 3
    assert len(other) == len(bank) > 20
    assert torch.equal(other.assemble(keys, current, 0.5), bank.assemble(keys, current, 0.5))


def test_a_restored_state_goes_its_own_way():
    bank = MemoryBank(1, 1, 1)
    bank.update('a', 1, torch.ones(1, DIM))
    state = bank.state_dict()
    before = copy.deepcopy(state)
    other = MemoryBank(1, 1, 1)
    other.load_state_dict(state)
    other.update('a', 2, torch.ones(1, DIM))
    other.update('b', 1, torch.ones(1, DIM))
    other.forget('a', 2)
    assert len(bank) == 1 and list(state) == list(before) and list(state['a']) == list(before['a'])


def test_entries_hold_no_more_than_they_need():
    """A clip with a crowd, out of a large batch: neither its others nor the batch stay alive, nor do later changes."""
    batch = torch.ones(1000, DIM)
    bank = MemoryBank(1, 1, 5)
    bank.update('a', 1, batch[:300])
    (features, _) = bank.state_dict()['a'][1]
    assert features.shape == (5, DIM) and features.untyped_storage().nbytes() == 5 * DIM * 4
    batch.zero_()
    assert bank.assemble([('a', 2)], [torch.zeros(0, DIM)])[0, :5].all()

"""Attention over the memory: all of it or the best k, against a loop; rows that objects share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mvbench_plugins.jointformer import attention
from mvbench_plugins.jointformer.attention import FrameMemory, JointAttention, KeyValue, TopK, attend, expand_rows

HEADS, DIM, TOKENS = 2, 4, 6


def draw(rows: int, tokens: int = TOKENS, seed: int = 0) -> KeyValue:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, HEADS, tokens, DIM)
    return KeyValue(*(2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)))


def queries(rows: int, tokens: int = TOKENS) -> Tensor:
    return draw(rows, tokens, seed=99).key


def brute_force(query: Tensor, own: KeyValue, others: list[KeyValue], topk: TopK | None) -> Tensor:
    """One query at a time: the scores that count, then their softmax."""
    out = torch.zeros_like(query)
    k = None if topk is None else topk.k
    groups = [[frame] for frame in others] if topk is not None and topk.scope == 'every_frame' else [others]
    for b, h, n in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        kept = []  # score and value of each key that counts
        for frames, most in (([own], None), *((group, k) for group in groups)):
            pairs = [
                (key @ query[b, h, n] / DIM**0.5, value)
                for frame in frames
                for key, value in zip(frame.key[b, h], frame.value[b, h], strict=True)
            ]
            kept += sorted(pairs, key=lambda pair: -pair[0])[:most]
        scores, values = map(torch.stack, zip(*kept, strict=True))
        out[b, h, n] = scores.softmax(0) @ values
    return out


@pytest.mark.parametrize('topk', [None, TopK(1), TopK(5), TopK(2, scope='every_frame')], ids=str)
def test_attention_over_memory_equals_a_loop_over_queries(topk):
    own, others = draw(2), [draw(2, seed=seed) for seed in (1, 2, 3)]
    query = queries(2)
    torch.testing.assert_close(attend(query, own, others, topk), brute_force(query, own, others, topk))


@pytest.mark.parametrize('scope', ['all_frames', 'every_frame'])
def test_more_than_there_is_means_all(scope):
    own, others, query = draw(2), [draw(2, seed=1), draw(2, seed=2)], queries(2)
    torch.testing.assert_close(attend(query, own, others, TopK(10**6, scope=scope)), attend(query, own, others))


@pytest.mark.parametrize('scope', ['all_frames', 'every_frame'])
def test_chunks_of_queries_do_not_matter_and_bound_the_scores(monkeypatch, scope):
    own, others, query = draw(2), [draw(2, seed=1), draw(2, seed=2)], queries(2, tokens=7)
    whole = attend(query, own, others, TopK(3, scope=scope))
    num_queries = []
    largest = attention._largest
    monkeypatch.setattr(attention, '_largest', lambda x, k: num_queries.append(x.shape[2]) or largest(x, k))
    monkeypatch.setattr(attention, 'MAX_SCORES', 3 * 2 * HEADS * 3 * TOKENS)
    torch.testing.assert_close(attend(query, own, others, TopK(3, scope=scope)), whole)
    assert num_queries == [3, 3, 1]


@pytest.mark.parametrize('topk', [TopK(3), TopK(2, scope='every_frame')], ids=str)
def test_few_of_many_tokens_equal_a_loop_over_queries(topk):
    """Many more tokens than are kept, and not divisible: most are passed over without a look at each."""
    own, query = draw(2, tokens=2), queries(2, tokens=5)
    others = [draw(2, tokens=41, seed=seed) for seed in (1, 2)]
    torch.testing.assert_close(attend(query, own, others, topk), brute_force(query, own, others, topk))


@pytest.mark.parametrize('num_scores', [8, 27, 100, 487])
@pytest.mark.parametrize('levels', [3, 10**6])
def test_largest_scores_are_those_of_a_sort(num_scores, levels):
    """Also where many are equal, as in half precision: just k are kept, each once."""
    scores = torch.randint(levels, (7, 5, num_scores), generator=torch.Generator().manual_seed(0)).float()
    for k in (1, 2, 3, 8):
        best, index = attention._largest(scores, k)
        assert torch.equal(best.sort(-1).values, scores.sort(-1).values[..., -k:])
        assert torch.equal(best, scores.gather(-1, index))
        assert (index.sort(-1).values.diff(dim=-1) > 0).all()


@pytest.mark.parametrize('tokens', [TOKENS, 90])
def test_gradients_reach_only_the_tokens_that_were_kept(tokens):
    own, other, query = draw(1), draw(1, tokens=tokens, seed=1), queries(1, tokens=1)
    other.key.requires_grad_()
    other.value.requires_grad_()
    attend(query, own, [other], TopK(2)).sum().backward()
    for part in other:
        assert (part.grad.abs().sum(-1) > 0).sum(-1).tolist() == [[2] * HEADS]


@pytest.mark.parametrize('topk', [None, TopK(2)], ids=str)
def test_objects_of_an_image_share_its_row(topk):
    own, query, memory = draw(2), queries(2), draw(6, seed=1)
    shared = attend(query, own, [memory], topk)
    repeated = KeyValue(*(x.repeat_interleave(3, dim=0) for x in own))
    torch.testing.assert_close(shared, attend(query.repeat_interleave(3, dim=0), repeated, [memory], topk))


def test_expanded_rows_of_one_image_cost_nothing():
    x = torch.randn(1, 3, 4)
    expanded = expand_rows(x, 5)
    assert expanded.shape == (5, 3, 4) and expanded.data_ptr() == x.data_ptr() and expanded.stride(0) == 0


def test_queries_and_keys_are_parts_of_one_projection():
    layer = JointAttention(8, 2)
    torch.nn.init.normal_(layer.qkv.bias)
    x = torch.randn(3, 5, 8)
    parts = layer.qkv(x).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    for ours, official in zip((layer.queries(x), *layer.keys_values(x)), parts, strict=True):
        torch.testing.assert_close(ours, official)


def test_memory_keeps_keys_and_values_only():
    seen = JointAttention(8, 2).keys_values(torch.randn(3, 5, 8))
    assert seen.key.untyped_storage().nbytes() == 2 * seen.key.numel() * seen.key.element_size()
    assert seen.key.untyped_storage().data_ptr() == seen.value.untyped_storage().data_ptr()


def test_rows_of_memory_are_chosen_and_joined():
    memory = FrameMemory((draw(4), draw(4, seed=1)))
    part = memory.select(slice(1, 3))
    assert len(part) == 2
    torch.testing.assert_close(part.blocks[1].value, memory.blocks[1].value[1:3])
    joined = FrameMemory.cat([memory.select(slice(3, 4)), memory.select(slice(0, 2))])
    torch.testing.assert_close(joined.blocks[0].key, memory.blocks[0].key[[3, 0, 1]])
    torch.testing.assert_close(joined.blocks[1].value, memory.blocks[1].value[[3, 0, 1]])


@pytest.mark.parametrize(
    ('blocks', 'selecting'), [('all_blocks', range(11)), ('half', range(5, 11)), ('last_block', [10])]
)
def test_blocks_that_select(blocks, selecting):
    topk = TopK(3, blocks=blocks)
    assert [i for i in range(11) if topk.in_block(i, 11) is topk] == list(selecting)
    assert all(topk.in_block(i, 11) is None for i in set(range(11)) - set(selecting))


@pytest.mark.parametrize('wrong', [dict(k=0), dict(k=None), dict(scope='frames'), dict(blocks='first')])
def test_unknown_choices_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf'topk: {name}={value!r}, expected'):
        TopK(**wrong)

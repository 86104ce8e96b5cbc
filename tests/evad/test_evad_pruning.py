"""Which tokens go on: scores, counts, order and places; gradients; the keep rate as an option of a built model."""

from __future__ import annotations

import math

import pytest
import torch
from evad_batches import losses_of, make_batch, predict
from torch import Tensor, nn

from mvbench_plugins.common.video_vit import FusedAttention
from mvbench_plugins.evad import pruning
from mvbench_plugins.evad.pruning import TokenSelection, attend_and_score, take_tokens

NUM_KEY = 12


def _attention(num_tokens: int = 60, bias: bool = True) -> tuple[FusedAttention, Tensor]:
    torch.manual_seed(0)
    attention = FusedAttention(16, num_heads=2, qkv_bias=bias).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.4)
    return attention, torch.randn(2, num_tokens, 16, dtype=torch.float64)


def _by_definition(attention: FusedAttention, x: Tensor, num_key: int, weight: float) -> tuple[Tensor, Tensor]:
    """The whole matrix of attention weights."""
    bias = torch.cat([attention.q_bias, torch.zeros(16, dtype=x.dtype), attention.v_bias])
    query, key, value = (x @ attention.qkv.weight.T + bias).view(2, -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
    matrix = (query * 8**-0.5 @ key.transpose(-2, -1)).softmax(-1)  # [B, heads, query, key]
    mixed = (matrix @ value).transpose(1, 2).flatten(2)
    weights = torch.ones(x.shape[1], dtype=x.dtype)
    weights[:num_key] = weight
    scores = (matrix * weights[:, None]).mean(2).mean(1)
    return mixed @ attention.proj.weight.T + attention.proj.bias, scores[:, num_key:]


@pytest.mark.parametrize('chunk', [1, 700, 1 << 22], ids=['row by row', 'in parts', 'at once'])
@pytest.mark.parametrize('weight', [1.0, 4.0])
def test_scores_and_outputs_by_definition(monkeypatch, weight, chunk):
    """Sections 2.4.1 and 2.4.2: with gradients and without, however the work is cut up."""
    monkeypatch.setattr(pruning, '_CHUNK_CPU', chunk)
    attention, x = _attention()
    with torch.no_grad():
        want, want_scores = _by_definition(attention, x, NUM_KEY, weight)
        bare, bare_scores = attend_and_score(attention, x, NUM_KEY, weight)
    learnt, scores = attend_and_score(attention, x, NUM_KEY, weight)
    assert learnt.requires_grad and not scores.requires_grad and scores.shape == (2, 60 - NUM_KEY)
    for got in (bare, learnt):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    for got in (bare_scores, scores):
        torch.testing.assert_close(got, want_scores, rtol=1e-10, atol=1e-12)


def test_gradients_by_definition():
    attention, x = _attention()
    grads = []
    for function in (_by_definition, attend_and_score):
        attention.zero_grad()
        function(attention, x, NUM_KEY, 4.0)[0].pow(2).sum().backward()
        grads.append([parameter.grad.clone() for parameter in attention.parameters()])
    for want, got in zip(*grads, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize('keep_rate', [1.0, 0.9999, 0.7, 0.6, 0.35, 0.2001, 1e-6])
@pytest.mark.parametrize('num_tokens', [60, 2592, 1815, 192])
def test_how_many_are_kept(num_tokens, keep_rate):
    """``ceil(rho * n) - S``, never less than the key frame; by falling score where any is left out."""
    num_key = num_tokens // 8
    scores = torch.rand(2, num_tokens - num_key)
    kept = TokenSelection()(scores, num_key, keep_rate)
    assert kept.shape == (2, max(math.ceil(keep_rate * num_tokens) - num_key, 0))
    if kept.shape == scores.shape:
        assert torch.equal(kept, torch.arange(kept.shape[1]).expand(2, -1))
        return
    for row, score in zip(kept, scores, strict=True):
        assert len(set(row.tolist())) == len(row)
        left_out = score.clone().index_fill_(0, row, -1.0).max()
        assert (score[row].diff() <= 0).all() and (score[row] >= left_out).all()


def test_counts_of_the_published_models():
    """Section 1: 288 x 288 pixels."""
    for keep_rate, counts in ((0.7, [1815, 1271, 890]), (0.6, [1556, 934, 561])):
        total, found = 2592, []
        for _ in range(3):
            total = 324 + TokenSelection()(torch.rand(1, total - 324), 324, keep_rate).shape[1]
            found.append(total)
        assert found == counts


def test_count_is_of_a_float_product():
    """0.07 * 100 is a little more than 7."""
    assert TokenSelection()(torch.rand(1, 99), 1, 0.07).shape[1] == 7


def test_take_tokens():
    tokens = torch.randn(2, 5, 3)
    got = take_tokens(tokens, torch.tensor([[4, 0, 2], [1, 1, 3]]))
    assert torch.equal(got[0], tokens[0, [4, 0, 2]]) and torch.equal(got[1], tokens[1, [1, 1, 3]])


def _encode(backbone: nn.Module, tokens: Tensor, num_key: int, middle: int) -> tuple[Tensor, Tensor, list[int]]:
    """Section 2.4 for the tokens ``[N, C]`` of one clip, each of which carries its position along."""
    places = list(range(middle, middle + num_key)) + [i for i in range(len(tokens)) if not 0 <= i - middle < num_key]
    x = tokens[places]
    for number, block in enumerate(backbone.blocks):
        normed = block.norm1(x)[None]
        query, key, _ = (part[0] for part in block.attn.project(normed))
        matrix = (query * block.attn.scale @ key.transpose(-2, -1)).softmax(-1)
        x = x + block.attn(normed)[0]
        if number in backbone.prune_blocks:
            weights = x.new_tensor([backbone.enhanced_weight] * num_key + [1.0] * (len(x) - num_key))
            scores = (matrix * weights[:, None]).mean((0, 1)).tolist()
            kept = math.ceil(backbone.keep_rate * len(x)) - num_key
            order = sorted(range(num_key, len(x)), key=lambda i: scores[i], reverse=True)[:kept]
            order = [*range(num_key), *order]
            x, places = x[order], [places[i] for i in order]
        x = x + block.mlp(block.norm2(x))
    x = backbone.norm(x)
    numbers = [place if place < middle else place - num_key for place in places[num_key:]]
    return x[:num_key], x[num_key:], numbers


@pytest.mark.parametrize('weight', [1.0, 4.0])
def test_three_prunings_token_by_token(build, weight):
    """A batch of two, each clip with a selection of its own, and the places over all prunings.

    In float64: scores lie so near to each other that rounding would change their order.
    """
    backbone = build(backbone=dict(enhanced_weight=weight)).backbone.eval().double()
    clips = torch.randn(2, 3, 16, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        got = backbone(clips)
        tokens, grid = backbone.embed(clips)
        assert got.grid == grid == (8, 4, 6)
        for i in range(2):
            key, others, places = _encode(backbone, tokens[i], 24, 4 * 24)
            assert len(places) == 43  # 192 tokens, 135, 95, 67, less the key frame
            assert got.positions[i].tolist() == places
            torch.testing.assert_close(got.key[i], key)
            torch.testing.assert_close(got.others[i], others)
    assert set(got.positions[0].tolist()) != set(got.positions[1].tolist())


def test_key_frame_maps(build):
    """After each chosen block, not normalised, the key frame alone, at its place on the map."""
    backbone = build(backbone=dict(out_indices=(3,))).backbone.eval()
    with torch.no_grad():
        got = backbone(torch.randn(2, 3, 16, 64, 96))
        (last,) = got.key_maps
        assert last.shape == (2, 64, 4, 6)
        torch.testing.assert_close(backbone.norm(last.flatten(2).transpose(1, 2)), got.key)


def test_key_frame_is_the_middle_slice(build):
    """With blocks that do nothing, the key tokens are those of frames 8 and 9, the others the rest in order."""
    backbone = build(backbone=dict(keep_rate=1.0)).backbone.eval()
    for block in backbone.blocks:
        for part in (block.attn.proj, block.mlp.layers[1]):
            nn.init.zeros_(part.weight), nn.init.zeros_(part.bias)
    with torch.no_grad():
        got = backbone(clips := torch.randn(1, 3, 16, 32, 64))
        slices = backbone.norm(backbone.embed(clips)[0]).unflatten(1, (8, 8))
    assert torch.equal(got.key, slices[:, 4]) and torch.equal(got.positions, torch.arange(56)[None])
    assert torch.equal(got.others, slices[:, [0, 1, 2, 3, 5, 6, 7]].flatten(1, 2))


def test_key_frame_always_stays(build, batch):
    """Even at a rate that leaves nothing else; the model still finds people, and learns."""
    model = build(backbone=dict(keep_rate=0.01))
    tokens = model.backbone(torch.randn(2, 3, 16, 64, 96))
    assert tokens.key.shape == (2, 24, 64) and tokens.others.shape == (2, 0, 64) and tokens.positions.shape == (2, 0)
    assert all(torch.isfinite(sample.pred_instances.scores).all() for sample in predict(model, batch))
    losses = losses_of(model.train(), batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_gradients_of_kept_and_of_removed_tokens(build):
    """What was removed counts only as far as others looked at it before; what was kept goes on as it is."""
    backbone = build(backbone=dict(prune_blocks=(0,))).backbone
    for block in backbone.blocks:  # no token looks at another one
        nn.init.zeros_(block.attn.proj.weight)
    tokens = torch.randn(1, 192, 64, requires_grad=True)
    backbone.embed = lambda x: (tokens, (8, 4, 6))
    got = backbone(torch.zeros(1, 3, 16, 64, 96))
    got.others.pow(2).sum().backward()
    places = got.positions[0]
    rows = torch.zeros(192, dtype=torch.bool)
    rows[torch.where(places < 96, places, places + 24)] = True
    assert torch.equal(tokens.grad[0].abs().sum(1) > 0, rows) and 0 < rows.sum() < 168


def test_keep_rate_is_an_option_of_a_built_model(build, batch):
    """Set anew it is that of a model built with it, and the weights know nothing of it."""
    model = build(backbone=dict(keep_rate=0.7))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.backbone.keep_rate = 0.5
    changed = predict(model, batch)
    other = build(backbone=dict(keep_rate=0.5))
    for got, want, before in zip(changed, predict(other, batch), predict(build(), batch), strict=True):
        assert torch.equal(got.pred_instances.scores, want.pred_instances.scores)
        assert not torch.equal(got.pred_instances.scores, before.pred_instances.scores)
    assert state.keys() == model.state_dict().keys() == build(backbone=dict(keep_rate=1.0)).state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(prune_blocks=(1, 4)), r'blocks \[4\], the backbone has depth=4: blocks count from 0'),
        (dict(out_indices=(-1, 0, 1, 2)), r'blocks \[-1\]'),
        (dict(init_values=0.1), r'init_values.*leave it at 0'),
    ],
)
def test_options_that_do_not_fit(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(backbone=options)


@pytest.mark.parametrize('drop_path', [0.0, 0.3])
def test_recomputing_changes_nothing(build, batch, drop_path):
    """``with_cp`` in both transformers: the same losses, selections and gradients."""
    results = []
    for with_cp in (False, True):
        part = dict(with_cp=with_cp, drop_path_rate=drop_path)
        model = build(backbone=part, head=dict(refinement=part)).train()
        selected = []
        model.backbone.selection.register_forward_hook(lambda module, args, out, found=selected: found.append(out))
        torch.manual_seed(3)
        losses = losses_of(model, batch)
        sum(losses.values()).backward()
        results.append((losses, {name: p.grad for name, p in model.named_parameters()}, selected))
    (losses, grads, selected), (cp_losses, cp_grads, cp_selected) = results
    assert len(selected) == len(cp_selected) == 3, 'a selection is made once'
    assert all(torch.equal(a, b) for a, b in zip(selected, cp_selected, strict=True))
    torch.testing.assert_close(cp_losses, losses)
    torch.testing.assert_close(cp_grads, grads, rtol=1e-4, atol=1e-6)


def test_drop_path_is_random(build, batch):
    """The seed above matters."""
    model = build(backbone=dict(drop_path_rate=0.3)).train()
    totals = set()
    for seed in range(3):
        torch.manual_seed(seed)
        totals.add(float(sum(losses_of(model, batch).values())))
    assert len(totals) > 1


def test_batch_equals_clips_one_by_one(build):
    model = build().double()  # near ties among the scores must not depend on the batch
    model.head.test_cfg = dict(person_score_thr=0.0)
    batch = make_batch([1, 1], sizes=[(64, 96)] * 2)
    together = predict(model, batch)
    for i, sample in enumerate(together):
        (alone,) = predict(model, {key: value[i : i + 1] for key, value in batch.items()})
        for name in ('bboxes', 'scores', 'person_scores'):
            torch.testing.assert_close(alone.pred_instances[name], sample.pred_instances[name], rtol=1e-3, atol=1e-4)
    assert (together[0].pred_instances.bboxes - together[1].pred_instances.bboxes).abs().max() > 1e-3


def test_a_rate_of_almost_one_keeps_everything_in_place(build):
    """Where nothing is removed there is nothing to reorder: the places are those of keep rate 1."""
    clips = torch.randn(1, 3, 16, 64, 96)
    with torch.no_grad():
        for keep_rate in (1.0, 0.9999):
            found = build(backbone=dict(keep_rate=keep_rate)).backbone.eval()(clips)
            assert torch.equal(found.positions, torch.arange(168)[None]), keep_rate

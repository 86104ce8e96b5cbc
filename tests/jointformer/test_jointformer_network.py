"""The networks: who sees whom, what is kept of a frame, names of released weights, small variants, half precision."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvbench_plugins.jointformer.attention import FrameMemory, TopK
from mvbench_plugins.jointformer.backbone import JointConvMAE
from mvbench_plugins.jointformer.mask_head import JointFormerMaskHead
from mvbench_plugins.jointformer.position import grid_positions, sincos_table

DIMS = (12, 18, 24)
HEIGHT, WIDTH = 48, 64
TOKENS = 12
CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'jointformer'


def build(**settings) -> JointConvMAE:
    torch.manual_seed(0)
    settings = dict(embed_dims=DIMS, depths=(1, 1, 4), num_heads=3, pos_grid=4) | settings
    backbone = JointConvMAE(**settings)
    for param in backbone.parameters():  # selective attention, and no part that starts at 0
        nn.init.normal_(param, std=0.3)
    return backbone.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image(rows: int = 1, seed: int = 1) -> Tensor:
    return draw(rows, 3, HEIGHT, WIDTH, seed=seed)


def frames(rows: int = 2, seed: int = 2, mask_channels: int = 2) -> Tensor:
    return draw(rows, 3 + mask_channels, HEIGHT, WIDTH, seed=seed)


def token(rows: int = 2, seed: int = 3) -> Tensor:
    return draw(rows, 1, DIMS[2], seed=seed)


def masked_block(block: nn.Module, x: Tensor, sees: Tensor) -> Tensor:
    """A block over one sequence in which ``sees[row, column]`` says what attention may look at."""
    rows, length, dims = x.shape
    query, key, value = block.attn.qkv(block.norm1(x)).view(rows, length, 3, 3, dims // 3).permute(2, 0, 3, 1, 4)
    scores = (query @ key.mT / math.sqrt(dims // 3)).masked_fill(~sees, float('-inf'))
    x = x + block.attn.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape))
    return x + block.mlp(block.norm2(x))


@torch.no_grad()
def test_information_flows_as_in_the_paper():
    """One sequence of the compressed token, two memory frames and the current one, and the table of who sees whom."""
    backbone = build()
    whose = torch.tensor([0] + [1] * TOKENS + [2] * TOKENS + [3] * TOKENS)  # token, memory, memory, current
    row, column = whose[:, None], whose[None]
    sees = (row == column) | ((row == 0) & (column == 2)) | ((row == 3) & (column > 0))
    parts = [frames(seed=2), frames(seed=4)]
    embedded = [backbone._embed(backbone.patch_embed1_memory, part).tokens for part in parts]
    current = backbone.stem(image(2))
    x = torch.cat([token() + backbone.pos_embed[:, :1], *embedded, current.tokens], dim=1)
    for block in backbone.blocks3:
        x = masked_block(block, x, sees)
    x = backbone.norm(x)

    first, _ = backbone.memorize(parts[0])
    second, updated = backbone.memorize(parts[1], token())
    f16 = backbone.read(current, [first, second])
    torch.testing.assert_close(updated, x[:, :1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(f16.flatten(2).mT, x[:, -TOKENS:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_token_is_updated_by_a_feature_that_does_not_see_it():
    backbone = build(token_depth=2)
    fusion = draw(2, DIMS[2], 3, 4)
    x = backbone.patch_embed4_block4(torch.cat([token(), fusion.flatten(2).mT], dim=1))
    x = x + torch.cat([backbone.pos_embed[:, :1], grid_positions(backbone.pos_embed, 3, 4)], dim=1)
    sees = torch.ones(1 + TOKENS, 1 + TOKENS, dtype=torch.bool)
    sees[1:, 0] = False
    for block in backbone.blocks4:
        x = masked_block(block, x, sees)
    torch.testing.assert_close(backbone.update_token(fusion, token()), backbone.norm(x)[:, :1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_token_never_changes_what_is_kept_of_a_frame():
    backbone = build()
    without, none = backbone.memorize(frames())
    for other, topk in ((token(seed=3), None), (token(seed=4), None), (token(), TopK(2, token=True))):
        memory, updated = backbone.memorize(frames(), other, topk)
        assert not torch.equal(updated, other)
        assert all(torch.equal(*pair) for a, b in zip(memory.blocks, without.blocks, strict=True) for pair in zip(a, b))
    assert none is None


@torch.no_grad()
def test_top_k_of_the_token_concerns_the_token_only_where_it_is_asked_for():
    backbone = build()
    fusion = draw(2, DIMS[2], 3, 4)
    updates = (
        lambda topk: backbone.memorize(frames(), token(), topk)[1],
        lambda topk: backbone.update_token(fusion, token(), topk),
    )
    for update in updates:
        everything = update(None)
        assert torch.equal(update(TopK(2)), everything)
        assert not torch.allclose(update(TopK(2, token=True)), everything)
        torch.testing.assert_close(update(TopK(99, token=True)), everything)
    # The update by the decoder's feature selects whatever blocks are named; that by a frame only in those.
    half = backbone.memorize(frames(), token(), TopK(2, blocks='half', token=True))[1]
    assert not torch.allclose(half, backbone.memorize(frames(), token(), TopK(2, token=True))[1])
    last = backbone.update_token(fusion, token(), TopK(2, blocks='last_block', token=True))
    assert torch.equal(last, backbone.update_token(fusion, token(), TopK(2, token=True)))


@torch.no_grad()
def test_reading_sees_every_frame_and_leaves_the_memory_as_it_is():
    backbone = build()
    memories = [backbone.memorize(frames(seed=seed))[0] for seed in (5, 6)]
    kept = [block.key.clone() for memory in memories for block in memory.blocks]
    stem = backbone.stem(image())
    both = backbone.read(stem, memories)
    assert both.shape == (2, DIMS[2], 3, 4)
    for memory in memories:
        assert not torch.allclose(backbone.read(stem, [memory]), both, atol=1e-3)
    torch.testing.assert_close(backbone.read(stem, memories[::-1]), both, rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, kept, [block.key for memory in memories for block in memory.blocks]))


@torch.no_grad()
@pytest.mark.parametrize('blocks', ['all_blocks', 'half', 'last_block'])
def test_top_k_in_chosen_blocks(blocks):
    backbone = build()
    memory = [backbone.memorize(frames(seed=seed))[0] for seed in (5, 6)]
    stem = backbone.stem(image(2))
    topk = TopK(3, blocks=blocks)
    tokens = stem.tokens
    for i, block in enumerate(backbone.blocks3):
        chosen = i >= dict(all_blocks=0, half=2, last_block=3)[blocks]
        tokens = block.read(tokens, [frame.blocks[i] for frame in memory], TopK(3) if chosen else None)
    expected = backbone.norm(tokens).mT.unflatten(2, stem.grid)
    torch.testing.assert_close(backbone.read(stem, memory, topk), expected)
    assert not torch.allclose(expected, backbone.read(stem, memory), atol=1e-3)


@torch.no_grad()
def test_objects_of_an_image_share_its_stem():
    backbone, head = build(), JointFormerMaskHead(embed_dims=DIMS)
    images = image(2)
    memory = [backbone.memorize(frames(6))[0]]
    outputs = []
    for stem in (backbone.stem(images), backbone.stem(images.repeat_interleave(3, dim=0))):
        f16 = backbone.read(stem, memory)
        outputs.append((f16, *head(f16, f16, stem.f8, stem.f4)))
    for shared, repeated in zip(*outputs, strict=True):
        assert len(shared) == 6
        torch.testing.assert_close(shared, repeated, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_objects_do_not_know_each_other():
    """Rows of a batch are independent: a group of objects gives the same as each of them by itself."""
    backbone = build()
    stem = backbone.stem(image())
    memory, updated = backbone.memorize(frames(3), token(3))
    together = backbone.enhance(backbone.read(stem, [memory], TopK(4)), updated)
    for i in range(3):
        alone, own_token = backbone.memorize(frames(3)[i : i + 1], token(3)[i : i + 1])
        got = backbone.enhance(backbone.read(stem, [alone], TopK(4)), own_token)
        torch.testing.assert_close(got, together[i : i + 1], rtol=1e-4, atol=1e-5)
        picked = backbone.read(stem, [memory.select(slice(i, i + 1))], TopK(4))
        torch.testing.assert_close(picked, backbone.read(stem, [alone], TopK(4)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_enhancement_is_place_by_place():
    backbone = build()
    feature = draw(2, DIMS[2], 3, 4)
    enhanced = backbone.enhance(feature, token())
    feature[:, :, 1, 2] += 1
    changed = (backbone.enhance(feature, token()) - enhanced).abs().amax((0, 1)) > 1e-4
    assert changed.nonzero().tolist() == [[1, 2]]
    assert ((backbone.enhance(feature, token(seed=8)) - enhanced).abs().amax((0, 1)) > 1e-4).all()


@torch.no_grad()
def test_only_keys_and_values_are_kept_of_a_frame():
    backbone = build()
    memory, _ = backbone.memorize(frames(), token())
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for block in memory.blocks for part in block}
    assert sum(storage.nbytes() for storage in storages.values()) == 4 * 2 * len(memory.blocks) * 2 * TOKENS * DIMS[2]


def test_gradients_reach_every_weight_through_the_memory():
    backbone, head = build(), JointFormerMaskHead(embed_dims=DIMS)
    memory, updated = backbone.memorize(frames(), backbone.cls_token.expand(2, -1, -1))
    for _ in range(2):  # the second frame reads what the first one updated
        stem = backbone.stem(image())
        f16 = backbone.read(stem, [memory])
        logits, fusion = head(f16, backbone.enhance(f16, updated), stem.f8, stem.f4)
        updated = backbone.update_token(fusion, updated)
    assert logits.shape == (2, 1, HEIGHT, WIDTH)
    logits.square().mean().backward()
    without = [name for part in (backbone, head) for name, param in part.named_parameters() if param.grad is None]
    assert without == []
    assert (backbone.patch_embed1_memory.proj.weight.grad.abs().amax((0, 2, 3)) > 0).all()
    assert backbone.cls_token.grad.abs().max() > 0


@torch.no_grad()
def test_nothing_is_left_to_python_when_it_is_compiled():
    backbone, head = build(depths=(1, 1, 1), token_depth=1), JointFormerMaskHead(embed_dims=DIMS)

    def segment(current: Tensor, parts: Tensor, updated: Tensor) -> tuple[Tensor, Tensor]:
        memory, updated = backbone.memorize(parts, updated)
        stem = backbone.stem(current)
        f16 = backbone.read(stem, [memory, memory], TopK(2))
        logits, fusion = head(f16, backbone.enhance(f16, updated), stem.f8, stem.f4)
        return logits, backbone.update_token(fusion, updated)

    args = (image(), frames(), token())
    compiled = torch.compile(segment, backend='aot_eager', fullgraph=True)
    for got, expected in zip(compiled(*args), segment(*args), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(half):
    torch.manual_seed(0)
    backbone = JointConvMAE(embed_dims=DIMS, depths=(1, 1, 2), num_heads=3, pos_grid=4)
    head = JointFormerMaskHead(embed_dims=DIMS)

    def segment() -> tuple[Tensor, FrameMemory]:
        memory, updated = backbone.memorize(frames(), token())
        stem = backbone.stem(image())
        f16 = backbone.read(stem, [memory, memory], TopK(8))
        logits, fusion = head(f16, backbone.enhance(f16, updated), stem.f8, stem.f4)
        backbone.update_token(fusion, updated)
        return logits, memory

    expected, _ = segment()
    with torch.autocast('cpu', half):
        logits, memory = segment()
    assert logits.dtype == torch.float32
    assert {part.dtype for block in memory.blocks for part in block} == {half}
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    'settings',
    [
        dict(mask_channels=1),
        dict(token_depth=1, enhance_depth=2),
        dict(embed_dims=(32, 48, 96), depths=(1, 2, 3), mlp_ratio=2, pos_grid=24),
    ],
    ids=str,
)
@torch.no_grad()
def test_variants(settings):
    backbone = build(**settings)
    dims = backbone.embed_dims
    head = JointFormerMaskHead(embed_dims=dims)
    memory, updated = backbone.memorize(
        frames(mask_channels=backbone.mask_channels), backbone.cls_token.expand(2, -1, -1)
    )
    stem = backbone.stem(image())
    assert (stem.f4.shape, stem.f8.shape) == ((1, dims[0], 12, 16), (1, dims[1], 6, 8))
    f16 = backbone.read(stem, [memory])
    logits, fusion = head(f16, backbone.enhance(f16, updated), stem.f8, stem.f4)
    assert (logits.shape, fusion.shape) == ((2, 1, HEIGHT, WIDTH), (2, dims[2], 3, 4))
    assert backbone.update_token(fusion, updated).shape == (2, 1, dims[2])


def test_released_weights_fit_by_name_and_shape():
    recorded = json.loads((CASES / 'modules.json').read_text())
    official = {name: tuple(recipe['shape']) for name, recipe in recorded['state_dict'].items()}
    with torch.device('meta'):
        parts = {'convmae.': JointConvMAE(), 'decoder.': JointFormerMaskHead()}
    ours = {
        prefix + name: tuple(value.shape) for prefix, part in parts.items() for name, value in part.state_dict().items()
    }
    assert ours == official
    assert len(ours) == 288 and sum(map(math.prod, ours.values())) == pytest.approx(127.67e6, rel=1e-4)


def test_positions_start_as_sines_of_the_column_then_of_the_row():
    table = sincos_table(16, 5)
    assert table.shape == (1, 26, 16) and table[0, 0].abs().max() == 0
    row, column = 3, 2
    place = table[0, 1 + row * 5 + column]
    for half, position in zip(place.chunk(2), (column, row), strict=True):
        angles = position * 10000.0 ** -(torch.arange(4) / 4)
        torch.testing.assert_close(half, torch.cat([angles.sin(), angles.cos()]))


def test_positions_of_another_grid():
    table = sincos_table(16, 6)
    assert torch.equal(grid_positions(table, 6, 6), table[:, 1:])
    places = grid_positions(table, 3, 8).unflatten(1, (3, 8))[0]
    torch.testing.assert_close(places[:1, :, :8].expand(3, -1, -1), places[..., :8])  # columns, whatever the row
    torch.testing.assert_close(places[:, :1, 8:].expand(-1, 8, -1), places[..., 8:])
    marked = torch.cat([table[:, :1] + 100, table[:, 1:]], dim=1)  # the compressed token's row belongs to no place
    assert torch.equal(grid_positions(marked, 3, 8), grid_positions(table, 3, 8))
    # Halving is a cubic convolution about the middle of each pair (a = -0.75), without antialiasing.
    halved = grid_positions(table, 3, 6).unflatten(1, (3, 6))[0, 1, 0]
    rows = table[0, 1:].unflatten(0, (6, 6))[1:5, 0]
    torch.testing.assert_close(halved, torch.tensor([-0.09375, 0.59375, 0.59375, -0.09375]) @ rows)


def test_images_that_do_not_divide_into_tokens_are_refused():
    with pytest.raises(ValueError, match='40x64 pixels .* pad them to multiples of 16'):
        build().stem(torch.zeros(1, 3, 40, 64))


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'96 channels of the tokens must be a multiple of num_heads=5'):
        JointConvMAE(embed_dims=(32, 48, 96), num_heads=5)
    with pytest.raises(ValueError, match='multiple of 3'):
        JointFormerMaskHead(embed_dims=(32, 48, 100))


def test_tokens_attend_to_their_like_if_keys_start_as_queries():
    backbone = JointConvMAE(embed_dims=(32, 48, 96), depths=(1, 1, 2), num_heads=3, keys_as_queries=True)
    backbone.init_weights()
    for block in backbone.blocks3:
        queries, keys, values = block.attn.qkv.weight.chunk(3)
        assert torch.equal(keys, queries) and not torch.equal(values, queries)
    queries, keys, _ = backbone.blocks4[0].attn.qkv.weight.chunk(3)
    assert not torch.equal(keys, queries)


def test_weights_start_as_published():
    torch.manual_seed(0)
    backbone = JointConvMAE(embed_dims=(32, 48, 96), depths=(1, 1, 2), num_heads=3)
    position, conv = backbone.pos_embed.clone(), backbone.blocks1[0].conv1.weight.clone()
    backbone.init_weights()
    linear = backbone.blocks3[0].mlp.fc1
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05) and linear.bias.abs().max() == 0
    assert backbone.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert torch.equal(backbone.pos_embed, position) and torch.equal(backbone.blocks1[0].conv1.weight, conv)
    assert backbone.norm.weight.min() == 1 and backbone.norm.bias.abs().max() == 0

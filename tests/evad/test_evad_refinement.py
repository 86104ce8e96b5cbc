"""The rebuilt map, features of people, the decoder's shortcut, and maps in any memory format."""

from __future__ import annotations

import copy

import pytest
import torch
from evad_batches import predict
from mmcv.ops import RoIAlign
from torch import Tensor, nn

from mvbench_plugins.common.video_vit import fit_positions
from mvbench_plugins.evad.action_rois import ActionRoIPooling, extend_boxes
from mvbench_plugins.evad.backbone import ClipTokens
from mvbench_plugins.evad.refinement import ContextRefinement

GRID = (8, 4, 6)
NUM_KEY, NUM_OTHERS = 24, 168


def _refinement(**options) -> ContextRefinement:
    torch.manual_seed(0)
    sizes = dict(in_channels=16, num_classes=8, embed_dims=12, depth=3, num_heads=2, hidden_dim=16, drop_path_rate=0.0)
    refinement = ContextRefinement(**{**sizes, **options})
    for parameter in refinement.parameters():
        nn.init.normal_(parameter, std=0.4)
    return refinement


def _tokens(kept: int = 40, batch: int = 2) -> ClipTokens:
    """As the encoder hands them over; the places of each clip in an order of its own."""
    generator = torch.Generator().manual_seed(1)
    key = torch.randn(batch, NUM_KEY, 16, generator=generator)
    others = torch.randn(batch, kept, 16, generator=generator)
    places = torch.stack([torch.randperm(NUM_OTHERS, generator=generator)[:kept] for _ in range(batch)])
    return ClipTokens((), key, others, places, GRID)


BOXES = torch.tensor([[[4.0, 6.0, 40.0, 50.0], [30.0, -9.0, 120.0, 44.0], [50.0, 20.0, 60.0, 27.0]]] * 2)
SHAPES = [(64, 96), (50, 90)]


def _restored(refinement: ContextRefinement, tokens: ClipTokens, i: int, scrambled: bool) -> tuple[Tensor, Tensor]:
    """Section 2.7 for one clip, token by token."""
    positions = fit_positions(refinement.pos_embed, (14, 14), GRID)[0]
    slots = [slot for slot in range(NUM_KEY + NUM_OTHERS) if not 4 * NUM_KEY <= slot < 5 * NUM_KEY]
    full = [refinement.mask_token[0, 0] + position for position in positions]
    visible = []
    for j, token in enumerate(tokens.key[i]):
        slot = 4 * NUM_KEY + j
        full[slot] = refinement.encoder_to_decoder(token) + positions[slot]
        visible.append(full[slot])
    places = tokens.positions[i].tolist()
    for token, place in zip(tokens.others[i], sorted(places) if scrambled else places, strict=True):
        slot = slots[place]
        full[slot] = refinement.encoder_to_decoder(token) + positions[slot]
        visible.append(full[slot])
    return torch.stack(visible), torch.stack(full).view(*GRID, -1)


@pytest.mark.parametrize('keep_places', [False, True], ids=['as released', 'to their own places'])
@pytest.mark.parametrize('kept', [0, 40, NUM_OTHERS])
def test_map_of_the_clip_token_by_token(keep_places, kept):
    refinement, tokens = _refinement(keep_places=keep_places), _tokens(kept)
    visible, maps = refinement.restore(tokens)
    assert visible.shape == (2, NUM_KEY + kept, 12) and maps.shape == (2, *GRID, 12)
    for i in range(2):
        want_visible, want_map = _restored(refinement, tokens, i, scrambled=not keep_places)
        torch.testing.assert_close(visible[i], want_visible)
        torch.testing.assert_close(maps[i], want_map)


def test_places_matter_only_where_tokens_left_in_another_order():
    """Released remapping and true places agree for tokens in the order of the map: at keep rate 1."""
    tokens, released = _tokens(), _refinement()
    own = _refinement(keep_places=True)
    assert not torch.allclose(released.restore(tokens)[1], own.restore(tokens)[1])
    ordered = tokens._replace(positions=tokens.positions.sort(dim=1).values)
    for one, other in zip(released.restore(ordered), own.restore(ordered), strict=True):
        assert torch.equal(one, other)


def test_mask_token_learns_from_what_was_removed_only():
    for kept, learns in ((40, True), (NUM_OTHERS, False)):
        refinement = _refinement()
        refinement.restore(_tokens(kept))[1].sum().backward()
        # Zero, not absent: distributed training waits for all gradients.
        assert refinement.mask_token.grad is not None and bool(refinement.mask_token.grad.any()) == learns


def test_positions_of_another_clip_length():
    with pytest.raises(ValueError, match=r'the clip gives 4 tokens in time, the position table has 8: set num_frames'):
        _refinement().restore(_tokens()._replace(grid=(4, 6, 8)))


def test_extended_boxes():
    """Section 2.8: the last pixel belongs to the box; clipped to the last pixel of each clip, whatever the extent."""
    boxes = torch.tensor([[10.0, 20.0, 29.0, 59.0], [0.0, 1.0, 95.0, 30.0], [-7.0, -9.0, 200.0, 100.0]]).expand(2, 3, 4)
    got = extend_boxes(boxes, (0.4, 0.2), SHAPES)
    want = [
        [[6, 16, 33, 63], [0, 0, 95, 33], [0, 0, 95, 63]],
        [[6, 16, 33, 49], [0, 0, 89, 33], [0, 0, 89, 49]],
    ]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float32))
    bare = extend_boxes(boxes, (0.0, 0.0), SHAPES)
    assert bare[0].tolist() == [[10, 20, 29, 59], [0, 1, 95, 30], [0, 0, 95, 63]]


def _bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """A value between the cells of ``[h, w, C]``; cells count from their centre, beyond the border is the border."""
    height, width = plane.shape[:2]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros_like(plane[0, 0])
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    y, x = min(y, height - 1), min(x, width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def _pooled(maps: Tensor, box: Tensor, size: int) -> Tensor:
    """Section 2.8 for one box in ``[t, h, w, C]``: four samples a bin, the best bin of a slice, mean of the slices."""
    x1, y1, x2, y2 = (box / 16 - 0.5).tolist()
    slices = []
    for plane in maps:
        bins = []
        for row in range(size):
            for column in range(size):
                ys = [y1 + (y2 - y1) * (row + share) / size for share in (0.25, 0.75)]
                xs = [x1 + (x2 - x1) * (column + share) / size for share in (0.25, 0.75)]
                bins.append(torch.stack([_bilinear(plane, y, x) for y in ys for x in xs]).mean(0))
        slices.append(torch.stack(bins).amax(0))
    return torch.stack(slices).mean(0)


def test_features_of_people_by_definition():
    maps = torch.randn(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    got = ActionRoIPooling(16, roi_size=3)(maps, BOXES)
    assert got.shape == (2, 3, 5)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(got[i, j], _pooled(maps[i], BOXES[i, j], 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layout', ['channels first', 'rows innermost', 'a part of something larger'])
def test_pooling_of_maps_in_any_memory(layout):
    """mmcv's kernel reads memory without looking at strides."""
    maps, pooling = torch.randn(2, 8, 4, 6, 5), ActionRoIPooling(16)
    want = torch.stack(
        [
            RoIAlign(7, 1 / 16, 2, 'avg', aligned=True)(
                maps[:, k].permute(0, 3, 1, 2).contiguous(),
                torch.cat([torch.arange(2.0).repeat_interleave(3)[:, None], BOXES.flatten(0, 1)], dim=1),
            ).amax((2, 3))
            for k in range(8)
        ]
    ).mean(0)
    if layout == 'channels first':
        strided = maps.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
    elif layout == 'rows innermost':  # slices and channels merge into one axis without a copy
        strided = maps.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)
    else:
        strided = torch.cat([maps, torch.full_like(maps, 9.0)], dim=3)[:, :, :, :6]
    assert torch.equal(strided, maps) and not strided.is_contiguous()
    torch.testing.assert_close(pooling(strided, BOXES).flatten(0, 1), want)


def _decoded(refinement: ContextRefinement, tokens: ClipTokens, num_people: int) -> list[Tensor]:
    """Section 2.9 in plain steps: every block for every token."""
    visible, maps = refinement.restore(tokens)
    features = torch.cat([visible, refinement.pooling(maps, extend_boxes(BOXES, refinement.extend, SHAPES))], dim=1)
    logits = []
    for block, head in zip(refinement.blocks, refinement.action_heads, strict=True):
        features = features + block.attn(block.norm1(features))
        features = features + block.mlp(block.norm2(features))
        logits.append(head(features[:, -num_people:]))
    return logits


def test_last_block_computes_the_rows_of_people_only():
    refinement, tokens = _refinement(), _tokens()
    want = _decoded(refinement, tokens, 3)
    widths = []
    for block in refinement.blocks:
        block.mlp.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
    got = refinement.train()(tokens, BOXES, SHAPES)
    assert widths == [24 + 40 + 3, 24 + 40 + 3, 3] and len(got) == 3
    torch.testing.assert_close(got, want)
    grads = []
    for logits in (want, got):
        refinement.zero_grad()
        sum(logit.pow(2).sum() for logit in logits).backward()
        grads.append([parameter.grad.clone() for parameter in refinement.parameters()])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-4)


def test_eval_mode_gives_the_last_block_only():
    refinement, tokens = _refinement(), _tokens()
    with torch.no_grad():
        every = refinement.train()(tokens, BOXES, SHAPES)
        (last,) = refinement.eval()(tokens, BOXES, SHAPES)
    assert len(every) == 3 and last.shape == (2, 3, 8)
    assert torch.equal(last, every[-1]) and not torch.allclose(last, every[-2])


@pytest.mark.parametrize('format', [torch.channels_last, 'columns innermost'])
def test_localisation_of_maps_in_any_memory(build, format):
    """What people are found must not depend on how the pyramid lies in memory."""
    model = build().eval()
    localizer = model.head.localizer
    generator = torch.Generator().manual_seed(0)
    feats = [torch.randn(2, 64, 64 // s, 96 // s, generator=generator) for s in (4, 8, 16, 32)]
    queries = torch.randn(2, 3, 64, generator=generator)

    def other(feat: Tensor) -> Tensor:
        if format == torch.channels_last:
            return feat.contiguous(memory_format=format)
        return feat.transpose(2, 3).contiguous().transpose(2, 3)

    strided = [other(feat) for feat in feats]
    assert not any(feat.is_contiguous() for feat in strided)
    with torch.no_grad():
        want, got = localizer(feats, BOXES, queries), localizer(strided, BOXES, queries)
    torch.testing.assert_close(got, want)
    assert (want[-1].boxes - BOXES).abs().max() > 0.5


def test_model_in_channels_last(build, batch):
    """The neck hands over maps whose channels lie innermost then; the predictions stay."""
    model = build()
    model.head.test_cfg = dict(person_score_thr=0.0)
    want = predict(model, batch)
    model.neck.to(memory_format=torch.channels_last)
    strided = []
    model.neck.register_forward_hook(lambda module, args, out: strided.extend(not f.is_contiguous() for f in out))
    for got, sample in zip(predict(model, batch), want, strict=True):
        for name in ('bboxes', 'scores'):
            torch.testing.assert_close(got.pred_instances[name], sample.pred_instances[name], rtol=1e-3, atol=1e-4)
    assert any(strided)


def test_stages_by_definition(build):
    """Section 2.6: queries keep their gradient from stage to stage, boxes only within theirs."""
    localizer = build().head.localizer
    feats = [torch.randn(2, 64, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    queries = torch.randn(2, 3, 64, requires_grad=True)
    boxes = BOXES.clone().requires_grad_()
    first, second = localizer(feats, boxes, queries)
    box_grad, query_grad = torch.autograd.grad(
        second.boxes.sum(), (boxes, queries), retain_graph=True, allow_unused=True
    )
    assert query_grad.any() and box_grad is None, 'the second stage starts from detached boxes'
    assert torch.autograd.grad(first.boxes.sum(), boxes)[0].any(), 'the first boxes learn'


def test_boxes_of_a_stage(build):
    """Deltas in parts of 2, 2, 1 and 1 of the box; a side grows by the factor 6250 at most, not mmdet's 62.5."""
    localizer = build().head.localizer
    stage = localizer.stages[0]
    localizer.stages = localizer.stages[:1]
    nn.init.zeros_(stage.fc_reg.weight)
    feats = [torch.randn(1, 64, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    box = torch.tensor([[[10.0, 20.0, 30.0, 60.0]]])
    for deltas, sides in (
        ([1.0, -0.5, 0.0, 0.7], [20, 40 * 2.0137527]),
        ([1.0, -0.5, 6.0, 50.0], [20 * 403.42879, 250000]),
    ):
        with torch.no_grad():
            stage.fc_reg.bias.copy_(torch.tensor(deltas))
        (found,) = localizer(feats, box, torch.randn(1, 1, 64))
        centre, half = torch.tensor([20 + 0.5 * 20, 40 - 0.25 * 40]), torch.tensor(sides) / 2
        torch.testing.assert_close(found.boxes[0, 0], torch.cat([centre - half, centre + half]), rtol=1e-4, atol=1e-2)


def test_pyramid(build):
    """Section 2.5: nearest neighbours of each tap, then an FPN without norm and activation."""
    neck = build().neck
    taps = [torch.randn(2, 64, 4, 6) for _ in range(4)]
    want, above = [], None
    sized = [
        taps[0].repeat_interleave(4, 2).repeat_interleave(4, 3),
        taps[1].repeat_interleave(2, 2).repeat_interleave(2, 3),
        taps[2],
        taps[3][..., ::2, ::2],
    ]
    for level in (3, 2, 1, 0):
        lateral = neck.lateral_convs[level].conv(sized[level])
        if above is not None:
            lateral = lateral + above.repeat_interleave(2, 2).repeat_interleave(2, 3)
        above = lateral
        want.insert(0, neck.fpn_convs[level].conv(lateral))
    got = neck(copy.copy(taps))
    assert [tuple(level.shape[2:]) for level in got] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    torch.testing.assert_close(list(got), want)

"""The decoder's parts: attention, where points land, which camera and weights they get, how boxes are refined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sparsebev_batches import rig
from torch import Tensor, nn

from mvbench_plugins.ops.msmv_sampling import flatten_views
from mvbench_plugins.sparsebev.attention import ScaleAdaptiveSelfAttention
from mvbench_plugins.sparsebev.boxes import encode_query_boxes
from mvbench_plugins.sparsebev.decoder import SparseBEVDecoder
from mvbench_plugins.sparsebev.frame_geometry import FrameGeometry
from mvbench_plugins.sparsebev.sampling import AdaptiveSampling, look_up_views, move_points, place_points

RANGE = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
PC_RANGE = torch.tensor(RANGE)


def _frames(num_frames: int, size: tuple[int, int] = (48, 96), batch: int = 1) -> FrameGeometry:
    lidar2img = torch.from_numpy(np.stack([rig(size)] * num_frames)).float()
    age = 0.5 * torch.arange(num_frames)
    return FrameGeometry(lidar2img.expand(batch, -1, -1, -1, -1), age.expand(batch, -1), size)


def _queries(*boxes: list[float]) -> Tensor:
    """Query boxes ``[1, Q, 10]`` of LiDAR boxes."""
    return encode_query_boxes(torch.tensor([boxes]), PC_RANGE)


def _decoder(num_frames: int = 2, **options) -> SparseBEVDecoder:
    torch.manual_seed(0)
    layer = dict(
        num_classes=3,
        embed_dims=32,
        num_frames=num_frames,
        num_levels=2,
        num_points=2,
        num_groups=2,
        num_heads=2,
        feedforward_channels=32,
        dropout=0.0,
        pc_range=RANGE,
        with_cp=False,
        level_weight_order='released',
    )
    decoder = SparseBEVDecoder(3, **{**layer, **options})
    decoder.init_weights()
    return decoder


def _decoder_inputs(num_frames: int = 2) -> tuple:
    torch.manual_seed(1)
    boxes = torch.rand(1, 5, 10)
    feats = torch.randn(1, 5, 32)
    maps = [torch.randn(1, num_frames * 6, 32, 6, 12), torch.randn(1, num_frames * 6, 32, 3, 6)]
    return boxes, feats, flatten_views(maps, 6, 2), _frames(num_frames)


def test_points_turn_and_grow_with_their_box():
    boxes = _queries([10, 20, -1, 4, 2, 1.5, math.pi / 2, 0, 0], [10, 20, -1, 4, 2, 1.5, math.pi / 6, 0, 0])
    offsets = torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, -1.0]]).expand(1, 2, 3, 3)
    found = place_points(boxes, offsets, PC_RANGE)
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    north = [[10, 22, -1], [9, 20, -1], [10, 20, -2.5]]  # yaw is counter-clockwise from x
    oblique = [[10 + 2 * c, 20 + 2 * s, -1], [10 - s, 20 + c, -1], [10, 20, -2.5]]
    torch.testing.assert_close(found, torch.tensor([[north, oblique]]))


def test_moving_points_are_where_they_were_and_will_be():
    points = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 1, 3)
    found = move_points(points, torch.tensor([[[4.0, -2.0]]]), torch.tensor([[0.0, 0.5, -1.0]]))
    assert found.shape == (1, 1, 1, 3, 1, 3)
    assert found.view(3, 3).tolist() == [[1, 2, 3], [-1, 3, 3], [5, 0, 3]]


def test_first_camera_that_sees_a_point_wins():
    """Views overlap by 10 degrees: 30 degrees from the front it is camera 0 before 1 and 2, at 90 it is 1 before 5."""
    at = {-30: 0, 30: 0, -90: 1, 90: 2, 0: 0, -60: 1, 150: 3, -150: 3, 180: 3, 120: 4, -120: 5}
    yaws = torch.deg2rad(torch.tensor(list(at)).float())
    points = torch.stack([-20 * yaws.sin(), 20 * yaws.cos(), torch.zeros_like(yaws)], -1).view(1, -1, 1, 1, 1, 3)
    places, view = look_up_views(points, _frames(1))
    assert dict(zip(at, view.flatten().tolist(), strict=True)) == at
    assert ((places > 0) & (places < 1)).all()
    homogeneous = torch.cat([points.view(-1, 3, 1), torch.ones(len(at), 1, 1)], 1)
    expected = torch.from_numpy(rig()).float()[view.flatten()] @ homogeneous
    expected = expected[:, :2, 0] / expected[:, 2] / torch.tensor([96.0, 48.0])
    torch.testing.assert_close(places.view(-1, 2), expected)


def test_points_that_no_camera_sees_go_out_of_the_image_of_camera_0():
    points = torch.tensor([[0.0, 10.0, 30.0], [0.0, -0.5, 20.0], [0.1, -0.4, 0.2]]).view(1, 3, 1, 1, 1, 3)
    places, view = look_up_views(points, _frames(1))
    assert view.flatten().tolist()[:2] == [0, 0]
    assert ((places < 0) | (places > 1)).any(-1).flatten()[:2].all()
    assert places.isfinite().all()


def test_views_are_looked_up_frame_by_frame():
    """A vehicle that turned around between two frames: what is in front now was behind."""
    frames = _frames(2)
    frames.lidar2img[:, 1] = frames.lidar2img[:, 1, [3, 4, 5, 0, 1, 2]]
    _, view = look_up_views(torch.tensor([0.0, 20, 0]).expand(1, 1, 1, 2, 1, 3), frames)
    assert view.flatten().tolist() == [0, 3]


@pytest.mark.parametrize(('order', 'num_frames'), [('released', 8), ('released', 3), ('own', 3), ('released', 1)])
def test_level_weight_order(order, num_frames):
    """One level is all ones, the other all zeros: a sample is the weight of the first."""
    groups = 4
    sampling = AdaptiveSampling(8, groups, 2, 2, num_frames, RANGE, order)
    nn.init.zeros_(sampling.scale_weights.weight)
    nn.init.zeros_(sampling.sampling_offset.weight)
    nn.init.zeros_(sampling.sampling_offset.bias)
    bias = torch.tensor([-2.0, -0.5, 1.0, 3.0])
    sampling.scale_weights.bias.data = torch.stack([bias, 0 * bias], -1).repeat_interleave(2, 0).flatten()
    maps = [torch.ones(1, 6 * num_frames, 8, 4, 8), torch.zeros(1, 6 * num_frames, 8, 2, 4)]
    box, views = _queries([0, 20, 0, 1, 1, 1, 0, 0, 0]), flatten_views(maps, 6, groups)
    found = sampling(box, torch.zeros(1, 1, 8), views, _frames(num_frames))
    assert found.shape == (1, 1, groups, num_frames * 2, 2)
    found = found.view(groups, num_frames, 2, 2)
    for g in range(groups):
        for t in range(num_frames):
            group = (t * groups + g) // num_frames if order == 'released' else g
            torch.testing.assert_close(found[g, t], bias[group].sigmoid().expand(2, 2))
    if num_frames == 8:
        assert found[:, :, 0, 0].logit().round(decimals=3).tolist() == [bias.repeat_interleave(2).tolist()] * 4


def test_unknown_level_weight_order():
    with pytest.raises(ValueError, match="level_weight_order: found 'right', expected one of"):
        AdaptiveSampling(8, 4, 2, 2, 8, RANGE, 'right')


def test_attention_falls_with_distance():
    """Softmax of scaled products, lowered by tau times metres, over the keys that are not blocked."""
    torch.manual_seed(0)
    attention = ScaleAdaptiveSelfAttention(8, 2, 0.0, RANGE)
    boxes = _queries(*([x, y, 0, 1, 1, 1, 0, 0, 0] for x, y in ((0, 0), (3, 4), (-6, 8), (30, 0))))
    feats = torch.randn(1, 4, 8)
    blocked = torch.zeros(4, 4, dtype=torch.bool)
    blocked[0, 3] = blocked[2, 1] = True
    distance = torch.tensor([[0, 5, 10, 30], [5, 0, 97**0.5, 745**0.5], [10, 97**0.5, 0, 1360**0.5]])
    torch.testing.assert_close(attention.distances(boxes)[0, :3], distance)
    q, k, v = nn.functional.linear(feats[0], attention.attention.in_proj_weight).view(4, 3, 2, 4).permute(1, 2, 0, 3)
    tau = attention.gen_tau(feats[0])  # [4, 2]
    logits = q @ k.transpose(1, 2) / 2 - tau.T[..., None] * attention.distances(boxes)
    logits[:, blocked] = float('-inf')
    values = (logits.softmax(-1) @ v).transpose(0, 1).reshape(1, 4, 8)
    want = feats + attention.attention.out_proj(values)
    torch.testing.assert_close(attention(boxes, feats, blocked), want, atol=1e-5, rtol=1e-5)


def test_distances_carry_no_gradient():
    attention = ScaleAdaptiveSelfAttention(8, 2, 0.0, RANGE)
    boxes = torch.rand(1, 4, 10, requires_grad=True)
    attention(boxes, torch.randn(1, 4, 8)).sum().backward()
    assert boxes.grad is None and attention.gen_tau.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(('age', 'seconds'), [([0, 0.5], 0.5), ([0, 0], 1), ([0, -0.5], 1), ([0], 1)])
def test_only_the_place_is_refined(age, seconds):
    """Sizes, angle and velocity are predicted afresh, velocity as the way since frame 1."""
    decoder = _decoder()
    box = torch.tensor([[[0.25, 0.5, 1.5, 7, 7, 7, 7, 7, 7, 7]]])
    change = torch.tensor([[[1.0, -1, 0, 1, 2, 3, 4, 5, 6, 8]]])
    found = decoder.layer._refine(box, change, torch.tensor([age], dtype=torch.float32))[0, 0].tolist()

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    # A place of more than 1 counts as the last before it.
    place = [sigmoid(math.log(1 / 3) + 1), sigmoid(-1), sigmoid(math.log(1 / 1e-5))]
    assert found == pytest.approx([*place, 1, 2, 3, 4, 5, 6 / seconds, 8 / seconds], rel=1e-5)


def test_gradients_of_the_first_boxes():
    """All of the first boxes learn, but for velocity; later stages do not see where boxes came from."""
    decoder, (boxes, feats, views, frames) = _decoder(), _decoder_inputs()
    nn.init.normal_(decoder.layer.sampling.sampling_offset.weight)
    nn.init.normal_(decoder.layer.mixing.parameter_generator.weight, std=0.1)
    boxes.requires_grad_()
    _, all_boxes = decoder(boxes, feats, views, frames)
    (grad,) = torch.autograd.grad(all_boxes[0].square().sum(), boxes, retain_graph=True)
    assert (grad[..., :8] != 0).any((0, 1)).all() and not grad[..., 8:].any()
    # Past the first stage, a box comes into the next one's place without its history.
    place = all_boxes[1, ..., :3].sum()
    through_feats = torch.autograd.grad(place, decoder.layer.cls_branch[0].weight, allow_unused=True, retain_graph=True)
    assert through_feats == (None,), 'classes have no part in boxes'
    second = torch.autograd.grad(place, decoder.layer.reg_branch[-1].weight, retain_graph=True)[0]
    last_feats = []
    decoder.layer.reg_branch[-1].register_forward_pre_hook(lambda module, args: last_feats.append(args[0]))
    all_boxes = decoder(boxes, feats, views, frames)[1]
    sigmoid_slope = (all_boxes[1, ..., :3] * (1 - all_boxes[1, ..., :3]))[0]
    by_hand = torch.einsum('qi,qc->ic', sigmoid_slope, last_feats[1][0])
    torch.testing.assert_close(second[:3], by_hand, atol=1e-5, rtol=1e-4)


def test_what_is_not_finite_is_replaced():
    decoder, (boxes, feats, views, frames) = _decoder(), _decoder_inputs()
    feats[0, 0] = float('nan')
    logits, out = decoder(boxes, feats, views, frames)
    assert logits.isfinite().all() and out.isfinite().all()


def test_recomputing_changes_nothing():
    found = []
    for with_cp in (False, True):
        decoder, (boxes, feats, views, frames) = _decoder(with_cp=with_cp).train(), _decoder_inputs()
        value = views.value.requires_grad_()
        logits, out = decoder(boxes, feats, views, frames)
        (logits.square().sum() + out.square().sum()).backward()
        found.append([logits, out, value.grad, *(p.grad for p in decoder.parameters())])
    assert len(found[0]) > 30
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_recomputing_keeps_less():
    """What the backward pass holds on to, counted in numbers."""

    def kept(with_cp: bool) -> int:
        decoder, inputs = _decoder(with_cp=with_cp).train(), _decoder_inputs()
        total = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: total.append(x.numel()) or x, lambda x: x):
            decoder(*inputs)
        return sum(total)

    assert kept(True) < 0.6 * kept(False)


def test_compiled_decoder_is_one_graph_with_the_same_numbers():
    decoder, inputs = _decoder().eval(), _decoder_inputs()
    compiled = torch.compile(decoder, backend='aot_eager', fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), decoder(*inputs))


def test_compiled_decoder_trains():
    found = []
    for compiled in (False, True):
        decoder, inputs = _decoder().train(), _decoder_inputs()
        run = torch.compile(decoder, backend='aot_eager') if compiled else decoder
        logits, boxes = run(*inputs)
        (logits.sum() + boxes.sum()).backward()
        found.append([p.grad for p in decoder.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_initialisation():
    """Section by section of the published code; everything else is PyTorch's own."""
    layer = _decoder().layer
    assert not layer.self_attn.gen_tau.weight.any()
    assert 0 <= layer.self_attn.gen_tau.bias.min() and layer.self_attn.gen_tau.bias.max() <= 2
    assert layer.self_attn.gen_tau.bias.unique().numel() == 2
    offset = layer.sampling.sampling_offset
    assert not offset.weight.any() and offset.bias.abs().max() <= 0.5 and offset.bias.unique().numel() == 12
    generator = layer.mixing.parameter_generator
    assert not generator.weight.any() and 0.8 * 32**-0.5 < generator.bias.abs().max() <= 32**-0.5
    for linear in (layer.sampling.scale_weights, layer.mixing.out_proj, layer.reg_branch[-1], layer.cls_branch[0]):
        bound = linear.in_features**-0.5
        assert 0.8 * bound < linear.weight.abs().max() <= bound and linear.bias.any()
    torch.testing.assert_close(layer.cls_branch[-1].bias.sigmoid(), torch.full((3,), 0.01))

"""Official files with the boxes of mmdet3d 0.17: equal results; versions of files are read from paths and URLs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, load_checkpoint
from official_models import assert_same, official_names, random_model
from surround_batches import make_sample
from torch import Tensor, nn

from mvbench_plugins.sparsebev import sampling
from mvbench_plugins.sparsebev.boxes import decode_target_boxes, place_in_metres
from mvbench_plugins.sparsebev.checkpoint import convert_version

LAYER = 'pts_bbox_head.decoder.layer.'
NOWHERE = 'http://localhost:9'


def _old_place_points(boxes: Tensor, offsets: Tensor, pc_range: Tensor) -> Tensor:
    """Section 7: the yaw of mmdet3d 0.17 turns the other way."""
    boxes = boxes.view(*boxes.shape[:2], *[1] * (offsets.dim() - 3), -1)
    x, y, z = (offsets * boxes[..., 3:6].exp()).unbind(-1)
    yaw = torch.atan2(boxes[..., 6], boxes[..., 7])
    turned = torch.stack([x * yaw.cos() + y * yaw.sin(), -x * yaw.sin() + y * yaw.cos(), z], dim=-1)
    return place_in_metres(boxes, pc_range) + turned


def _old_to_new(boxes: Tensor) -> Tensor:
    """Section 7: what is done to decoded boxes; also the way back."""
    x, y, z, dx, dy, dz, yaw, vx, vy = boxes.unbind(-1)
    return torch.stack([x, y, z, dy, dx, dz, -yaw - math.pi / 2, vx, vy], dim=-1)


@pytest.fixture
def old_and_new(narrow, tmp_path) -> tuple[nn.Module, nn.Module]:
    """A model with the weights of an old file as they are, and one with them converted; moderate weights."""
    torch.manual_seed(3)
    old = MODELS.build(Config.fromfile(narrow()).model)
    old.init_weights()
    head = old.pts_bbox_head
    for linear in (head.decoder.layer.sampling.sampling_offset, head.decoder.layer.mixing.parameter_generator):
        nn.init.normal_(linear.weight, std=0.1)
    head.init_query_bbox.weight.data[:, 2] = 0.6
    new = MODELS.build(Config.fromfile(narrow()).model)
    new.load_state_dict(convert_version(old.state_dict(), 'v0.17.1'))
    return old.eval(), new.eval()


def test_old_boxes_give_equal_detections(old_and_new, monkeypatch):
    old, new = old_and_new
    batch = old.data_preprocessor(make_sample(2, (64, 96)))
    with torch.no_grad():
        got = new(**batch, mode='tensor')
        plain = old(**batch, mode='tensor')
        monkeypatch.setattr(sampling, 'place_points', _old_place_points)
        want = old(**batch, mode='tensor')
    boxes, wanted = decode_target_boxes(got.boxes), _old_to_new(decode_target_boxes(want.boxes))
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-3, atol=1e-4)
    turn = (boxes[..., 6] - wanted[..., 6]) / (2 * math.pi)
    torch.testing.assert_close(turn, turn.round(), rtol=0, atol=1e-4)
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    torch.testing.assert_close(boxes[..., others], wanted[..., others], rtol=1e-3, atol=1e-3)
    # Without the conversion both would differ.
    assert (plain.logits - want.logits).abs().max() > 1e-2
    assert (wanted[..., 3] - decode_target_boxes(want.boxes)[..., 3]).abs().max() > 1e-2


def test_old_boxes_give_equal_losses(old_and_new, monkeypatch):
    """Such a model can be trained on, with today's annotations."""
    old, new = old_and_new
    losses = []
    for model in (new, old):
        batch = model.data_preprocessor(make_sample(2, (64, 96)))
        if model is old:
            monkeypatch.setattr(sampling, 'place_points', _old_place_points)
            instances = batch['data_samples'][0].gt_instances_3d
            instances.bboxes_3d = LiDARInstance3DBoxes(_old_to_new(instances.bboxes_3d.tensor), box_dim=9)
        losses.append({name: value.item() for name, value in model(**batch, mode='loss').items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and len(losses[0]) == 4


def test_old_boxes_convert_a_few_entries_only(narrow):
    own = random_model(narrow(), 1).state_dict()
    turned = convert_version(own, 'v0.17.1')
    assert {key for key, value in turned.items() if not torch.equal(value, own[key])} == {
        'pts_bbox_head.init_query_bbox.weight',
        *(
            f'{LAYER}{part}.{name}'
            for part in ('reg_branch.4', 'sampling.sampling_offset')
            for name in ('weight', 'bias')
        ),
    }
    again = own
    for _ in range(4):  # four quarter turns
        again = convert_version(again, 'v0.17.1')
    assert_same(again, own)


@pytest.mark.parametrize('version', [None, 'v1.0.0'])
def test_current_boxes_stay(narrow, version):
    own = random_model(narrow(), 1).state_dict()
    assert_same(convert_version(own, version), own)


@pytest.fixture
def downloaded(tmp_path, monkeypatch) -> Path:
    """Where what was downloaded lies, so that nobody listens at the addresses of these tests."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize('by', ['path', 'URL'])
@pytest.mark.parametrize('version', ['v0.17.1', 'v0.9'])
def test_version_of_a_file_is_read_when_it_is_loaded(narrow, downloaded, version, by):
    path, own = downloaded / 'released.pth', random_model(narrow(), 1).state_dict()
    torch.save(dict(meta={}, state_dict=official_names(own), version=version), path)
    model, name = random_model(narrow(), 2), str(path) if by == 'path' else f'{NOWHERE}/released.pth'
    if version == 'v0.9':
        with pytest.raises(ValueError, match=rf"checkpoint {name}: entry \"version\": found 'v0\.9', expected"):
            load_checkpoint(model, name)
    else:
        load_checkpoint(model, name, strict=True)
        assert_same(model.state_dict(), convert_version(own, version))


@pytest.mark.parametrize('content', [None, b'<html>rate limited</html>'], ids=['nothing', 'html page'])
def test_bad_address_is_named(narrow, downloaded, content):
    if content is not None:
        (downloaded / 'released.pth').write_bytes(content)
    with pytest.raises(ValueError, match=rf'checkpoint {NOWHERE}/released\.pth cannot be loaded: check the address'):
        load_checkpoint(random_model(narrow(), 2), f'{NOWHERE}/released.pth')


def test_weights_of_a_url_stay_where_they_are(downloaded):
    """Stock backbones, such as mmaction's Swin, read the layouts of the files that they name."""
    torch.save(dict(model=dict(weight=torch.ones(2))), downloaded / 'swin.pth')
    assert set(CheckpointLoader.load_checkpoint(f'{NOWHERE}/swin.pth')) == {'model'}

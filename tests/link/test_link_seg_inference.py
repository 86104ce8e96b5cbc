"""Segmentation beyond a training loop: the stock inferencer, the conversion tool, half precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import load_case
from link_clouds import NUM_CLASSES, make_batch, make_cloud, make_labels, small_model
from link_inferencers import seg_inferencer
from mmdet3d.apis import LidarSeg3DInferencer
from mmengine.runner import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'link'
UNET = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg'
ENCODER = 'linkencoder_cos-3x7_4xb2-25e_semantickitti-seg'


@pytest.fixture(scope='module')
def inferencer(config_dir, own_scope, tmp_path_factory) -> LidarSeg3DInferencer:
    """The stock inferencer on a narrow model and its weights."""
    return seg_inferencer(config_dir, tmp_path_factory.mktemp('inferencer'), UNET)


def test_stock_inferencer(inferencer, tmp_path):
    """A file and the same points as an array; an empty file has no answers."""
    clouds = dict(one=make_cloud(200).numpy(), empty=np.zeros((0, 4), np.float32))
    answers = {}
    for name, cloud in clouds.items():
        cloud.tofile(tmp_path / f'{name}.bin')
        (result,) = inferencer(dict(points=str(tmp_path / f'{name}.bin')), no_save_pred=True)['predictions']
        answers[name] = result['pts_semantic_mask']
    assert len(answers['one']) == 200 and set(answers['one']) <= set(range(NUM_CLASSES + 1))
    assert answers['empty'] == []
    (result,) = inferencer(dict(points=clouds['one']), no_save_pred=True)['predictions']
    assert result['pts_semantic_mask'] == answers['one']


def test_bad_files_are_named(inferencer, tmp_path):
    path = tmp_path / 'cut.bin'
    np.zeros(6, np.float32).tofile(path)
    with pytest.raises(ValueError, match=r'cut.bin: found 24 bytes, expected a multiple of 16'):
        inferencer(dict(points=str(path)))
    np.array([[0, 0, np.inf, 0], [1, 1, 1, 1]], np.float32).tofile(path)
    with pytest.raises(ValueError, match=r'cut.bin: 1 of 2 points hold values that are not finite'):
        inferencer(dict(points=str(path)))


@pytest.fixture(scope='module')
def convert() -> Callable[..., None]:
    """What ``tools/convert_checkpoint.py`` calls."""
    spec = importlib.util.spec_from_file_location('convert_checkpoint', ROOT / 'tools' / 'convert_checkpoint.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.convert


@pytest.mark.parametrize(('case', 'config', 'dropped'), [('seg_linkunet', UNET, 0), ('seg_linkencoder', ENCODER, 144)])
def test_conversion_tool(case, config, dropped, convert, config_dir, tmp_path, capsys):
    """An official file with what its trainer left in it; the encoder's decoder is named and left out."""
    source, destination = tmp_path / 'max-iou-val.pt', tmp_path / 'ours.pth'
    weights = load_case(CASES / case).state_dict()
    torch.save(dict(model={f'module.{k}': v for k, v in weights.items()}, scaler={}, epoch_num=25), source)
    path = config_dir / 'link' / f'{config}.py'
    convert('link', source, destination, path)
    out = capsys.readouterr().out
    assert f'{len(weights)} entries, {len(weights) - dropped} kept, {dropped} without use here' in out
    assert 'loads strictly' in out
    direct, converted = (small_model(config_dir, config, channels=64) for _ in range(2))
    load_checkpoint(direct, str(source))
    load_checkpoint(converted, str(destination), strict=True)
    assert all(torch.equal(value, converted.state_dict()[key]) for key, value in direct.state_dict().items())
    other = config_dir / 'link' / f'{ENCODER if config == UNET else UNET}.py'
    with pytest.raises(ValueError, match='does not fit'):
        convert('link', source, tmp_path / 'nothing.pth', other)
    assert not (tmp_path / 'nothing.pth').exists()


@pytest.mark.parametrize('config', [UNET, ENCODER])
def test_half_precision_stays_close(config, config_dir):
    """Losses and gradients under autocast, positions and sums of the linear kernel in float32."""
    clouds = [make_cloud(400), make_cloud(300, seed=1)]
    found = []
    for enabled in (False, True):
        model = small_model(config_dir, config)
        batch = model.train().data_preprocessor(make_batch(clouds, make_labels(clouds)), training=True)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            losses = model(**batch, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        found.append((total.item(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (full_loss, full), (half_loss, half) = found
    assert half_loss == pytest.approx(full_loss, rel=0.03) and half.dtype is torch.float32
    # Eight bits turn some decisions of the ReLUs of an untrained network; a wrong gradient would be unrelated.
    assert torch.cosine_similarity(full, half, dim=0) > 0.7

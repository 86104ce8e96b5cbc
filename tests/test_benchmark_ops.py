"""The benchmark of operators: its variants compute the same, and every one gets its row."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

spec = importlib.util.spec_from_file_location('benchmark_ops', Path(__file__).parents[1] / 'tools' / 'benchmark_ops.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

SMALL = ['msmv_sampling', '--device', 'cpu', '--queries', '5', '--frames', '2', '--shape', '64', '96']


def test_table(capsys):
    tool.main([*SMALL, '--iters', '1', '--warmup', '0'])
    head, device, _, *rows = capsys.readouterr().out.splitlines()
    assert head == 'msmv_sampling, 5 queries, 2 frames of 64x96, float32' and device.startswith('cpu: ')
    names = ['grid_sample of each level', 'msmv_sampling'] * 2
    assert [row[:18].strip() for row in rows] == ['forward'] * 2 + ['forward + backward'] * 2
    assert all(name in row and row.count('ms') >= 1 for name, row in zip(names, rows, strict=True))


def test_pyramid_sampling_table(capsys):
    """The variants are compared before they are timed."""
    tool.main(['pyramid_sampling', *SMALL[1:], '--processor-time', '--iters', '1', '--warmup', '0'])
    head, _, _, *rows = capsys.readouterr().out.splitlines()
    assert head == 'pyramid_sampling, 5 queries, 64x96, float32'
    assert [row.split('  ')[0] for row in rows] == ['forward'] * 2 + ['forward + backward'] * 2
    assert [('grid_sample' in row, 'sample_pyramid' in row) for row in rows] == [(True, False), (False, True)] * 2


def test_gradients_of_the_variants_agree():
    variants = tool.msmv_sampling_variants(tool.parse_args(SMALL), torch.device('cpu'))
    upstream = torch.linspace(-1, 1, 5)  # another weight for each query
    of_points = []
    for variant in variants:
        out = variant.forward()
        by_query = out.mean((0, 1, 3)) if out.shape[2] == 5 else out.mean((0, 2, 3, 4, 5))  # [Q]
        of_points.append(torch.autograd.grad((by_query * upstream).sum(), variant.inputs[-2])[0])
    torch.testing.assert_close(of_points[0], of_points[1], rtol=1e-3, atol=1e-6)


def test_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match=r'--device cuda: PyTorch finds no GPU here; use --device cpu'):
        tool.main(['msmv_sampling', '--device', 'cuda'])


LINK = ['link', '--device', 'cpu', '--voxels', '500', '--channels', '4']


def test_link_table(capsys):
    tool.main([*LINK, '--iters', '1', '--warmup', '0'])
    head, device, _, *rows = capsys.readouterr().out.splitlines()
    assert head == 'link, 500 voxels, 4 channels, float32' and device.startswith('cpu: ')
    names = ['submanifold 3x3x3', 'LinK 7x7x7', 'LinK 21x21x21']
    passes = [(measured, name) for measured in ('index', 'forward ', 'forward + backward') for name in names]
    rows = [row for row in rows if 'spconv' not in row]  # an optional dependency
    assert all(measured in row and name in row for (measured, name), row in zip(passes, rows, strict=True))


def test_voxels_of_the_link_benchmark_are_as_many_and_as_dense_as_said():
    from mvbench_plugins.ops.sparse_conv import submanifold_map

    voxels = tool.lidar_voxels(60000)
    neighbours = submanifold_map(voxels)  # which refuses voxels that come twice
    assert len(voxels) == 60000 and 2.5 < len(neighbours.rows_in) / 60000 < 6


def test_link_has_one_precision(capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['link', '--dtype', 'float16'])
    assert 'the linear kernel is computed in float32 only' in capsys.readouterr().err

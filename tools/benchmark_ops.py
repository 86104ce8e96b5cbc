"""Measures time and peak memory of one of the suite's operators beside the usual way to compute the same.

The variants take turns, so that a drift of the machine meets them alike; ratios are relative to the first one. Inputs
are random, in the shapes of a released model.

Examples:
    python tools/benchmark_ops.py pyramid_sampling --device cpu --processor-time
    python tools/benchmark_ops.py msmv_sampling
    python tools/benchmark_ops.py msmv_sampling --queries 400 --frames 8 --dtype float16 --device cuda
    python tools/benchmark_ops.py link --voxels 60000 --channels 64
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.common.benchmark import peak_bytes, time_steps  # noqa: E402
from mvbench_plugins.common.random_inputs import lidar_surfaces  # noqa: E402
from mvbench_plugins.ops import msmv_sampling as msmv  # noqa: E402

_VIEWS, _GROUPS, _CHANNELS, _POINTS = 6, 4, 256, 4  # of SparseBEV
_STRIDES = (4, 8, 16, 32)


@dataclass
class Variant:
    """One way to compute the operator.

    Attributes:
        name: what the table calls it.
        forward: computes it.
        inputs: tensors to differentiate by.
        device: where it runs.
        backward: whether a step includes the backward pass.
    """

    name: str
    forward: Callable[[], Tensor]
    inputs: Sequence[Tensor]
    device: torch.device
    backward: bool = False

    def step(self) -> None:
        """Computes it once."""
        if self.backward:
            torch.autograd.grad(self.forward().sum(), self.inputs)
        else:
            with torch.no_grad():
                self.forward()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('operator', choices=list(OPERATORS), help='operator to measure')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    parser.add_argument(
        '--dtype', choices=['float32', 'float16', 'bfloat16'], default='float32', help='of the features'
    )
    images = parser.add_argument_group('msmv_sampling, pyramid_sampling')
    images.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), default=[256, 704], help='of the images')
    images.add_argument('--frames', type=int, default=8, help='frames of msmv_sampling (default: %(default)s)')
    images.add_argument('--queries', type=int, default=900, help='queries (default: %(default)s)')
    clouds = parser.add_argument_group('link')
    clouds.add_argument('--voxels', type=int, default=60000, help='voxels (default: %(default)s)')
    clouds.add_argument('--channels', type=int, default=64, help='width (default: %(default)s)')
    parser.add_argument('--iters', type=int, default=10, help='timed steps (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=2, help='untimed steps before (default: %(default)s)')
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='on a CPU: the time that the processor works, of which other programs take nothing',
    )
    args = parser.parse_args(argv)
    if args.operator == 'link' and args.dtype != 'float32':
        parser.error('--dtype: the linear kernel is computed in float32 only')
    return args


@contextmanager
def definition_only():
    """Lets the operator run its plain PyTorch definition, on a GPU as well."""
    with mock.patch.object(msmv, '_kernels', lambda value: None):
        yield


def msmv_sampling_variants(args: argparse.Namespace, device: torch.device) -> list[Variant]:
    """The operator; its definition if that is another thing; a three-dimensional ``grid_sample`` for each level."""
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    shapes = [(args.shape[0] // stride, args.shape[1] // stride) for stride in _STRIDES]
    feats = [torch.randn(1, args.frames * _VIEWS, _CHANNELS, *shape, device=device, dtype=dtype) for shape in shapes]
    layout = (1, args.queries, _GROUPS, args.frames, _POINTS)
    points = (torch.rand(*layout, 2, device=device) * 1.1 - 0.05).requires_grad_()
    view_ids = torch.randint(_VIEWS, layout, device=device)
    weights = torch.randn(*layout, len(shapes), device=device).softmax(-1).requires_grad_()

    views = msmv.flatten_views(feats, _VIEWS, _GROUPS)
    views = views._replace(value=views.value.requires_grad_())
    own = (lambda: msmv.msmv_sampling(views, points, view_ids, weights), [views.value, points, weights])
    # As the published fallback wants them: [T * G, C / G, N, H, W] for each level.
    volumes = [
        feat.view(args.frames, _VIEWS, _GROUPS, -1, *feat.shape[-2:]).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
        for feat in feats
    ]
    volumes = [volume.contiguous().requires_grad_() for volume in volumes]

    def by_grid_sample() -> Tensor:
        depth = view_ids[..., None] * (2 / (_VIEWS - 1)) - 1
        grid = torch.cat([points * 2 - 1, depth.to(points)], -1)[0].permute(2, 1, 0, 3, 4)  # [T, G, Q, P, 3]
        grid = grid.flatten(0, 1)[:, :, :, None].to(dtype)  # [T * G, Q, P, 1, 3]
        shares = weights[0].permute(2, 1, 4, 0, 3).flatten(0, 1).to(dtype)  # [T * G, L, Q, P]
        samples = [F.grid_sample(volume, grid, align_corners=True)[..., 0] for volume in volumes]
        return sum(sample * shares[:, None, level] for level, sample in enumerate(samples))  # [T * G, C / G, Q, P]

    with torch.no_grad():
        ours = own[0]()[0].permute(2, 1, 4, 0, 3).flatten(0, 1)
        torch.testing.assert_close(
            by_grid_sample().float(), ours.float(), rtol=1e-3, atol=1e-3 if dtype == torch.float32 else 0.1
        )
    variants = [Variant('grid_sample of each level', by_grid_sample, [*volumes, points, weights], device)]
    if device.type == 'cuda':

        def by_definition() -> Tensor:
            with definition_only():
                return own[0]()

        variants.append(Variant('definition', by_definition, own[1], device))
    variants.append(Variant('msmv_sampling', *own, device))
    return variants


def msmv_sampling_tables(args: argparse.Namespace, device: torch.device) -> dict[str, list[Variant]]:
    """Variants by what is measured."""
    return _both_passes(msmv_sampling_variants(args, device))


def pyramid_sampling_tables(args: argparse.Namespace, device: torch.device) -> dict[str, list[Variant]]:
    """The sampling of DEQDet and STMixer beside its definition, a ``grid_sample`` of each level and group."""
    from mvbench_plugins.ops import pyramid_sampling as pyramids

    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    shapes = [(args.shape[0] // stride, args.shape[1] // stride) for stride in _STRIDES]
    feats = [torch.randn(1, _CHANNELS, *shape, device=device, dtype=dtype) for shape in shapes]
    pyramid = pyramids.flatten_pyramid(feats, _STRIDES, _GROUPS)
    layout = (1, args.queries, _GROUPS, 32)
    size = torch.tensor(args.shape[::-1], device=device)
    points = (torch.rand(*layout, 2, device=device, dtype=dtype) * size).requires_grad_()
    weights = torch.randn(*layout, len(shapes), device=device, dtype=dtype).softmax(-1).requires_grad_()
    pyramid = pyramid._replace(value=pyramid.value.requires_grad_())
    inputs = [pyramid.value, points, weights]
    with torch.no_grad():
        outputs = [sample(pyramid, points, weights) for sample in (pyramids._sample_grid, pyramids.sample_pyramid)]
        torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3 if dtype == torch.float32 else 0.1)
    return _both_passes(
        [
            Variant(
                'grid_sample of each level', lambda: pyramids._sample_grid(pyramid, points, weights), inputs, device
            ),
            Variant('sample_pyramid', lambda: pyramids.sample_pyramid(pyramid, points, weights), inputs, device),
        ]
    )


def lidar_voxels(count: int) -> Tensor:
    """Voxels ``[count, 4]`` (b, x, y, z) of 0.1 m on an uneven ground and on walls, the denser the nearer."""
    generator = torch.Generator().manual_seed(0)
    # within 25 m, for as many neighbours as voxels of a real sweep have
    points = lidar_surfaces(4 * count, reach=25, generator=generator)
    coors = F.pad(points * 10, (1, 0)).floor().int().unique(dim=0)
    if len(coors) < count:
        raise SystemExit(f'benchmark_ops.py: --voxels {count}: this scene has {len(coors)} only; take fewer')
    return coors[torch.randperm(len(coors), generator=generator)[:count]]


def link_tables(args: argparse.Namespace, device: torch.device) -> dict[str, list[Variant]]:
    """LinK's whole block (its own 3x3x3 convolution included) as in the released detectors, beside a convolution alone.

    Indices of voxels depend on their places only, and the layers of a level share them: they are built once, which is
    measured by itself.
    """
    from mvbench_plugins.link.linear_kernel_block import LinearKernelBlock
    from mvbench_plugins.link.sparse_layers import SparseConv
    from mvbench_plugins.link.voxel_set import VoxelSet
    from mvbench_plugins.ops.linear_kernel import build_blocks
    from mvbench_plugins.ops.sparse_conv import submanifold_map

    torch.manual_seed(0)
    coors = lidar_voxels(args.voxels).to(device)
    voxels, width = VoxelSet(coors), args.channels
    feats = torch.randn(args.voxels, width, device=device, requires_grad=True)
    conv = SparseConv(width, width, num_taps=27).to(device)
    plain = Variant('submanifold 3x3x3', lambda: conv(feats, voxels.neighbours), [feats, *conv.parameters()], device)
    layers = [plain, *_spconv_variants(feats, coors)]
    indices = [Variant(plain.name, lambda: submanifold_map(coors), [], device)]
    for num_blocks in (1, 3):
        block = LinearKernelBlock(width, 'cos', block_size=7, num_blocks=num_blocks, groups=2).to(device)
        name = 'LinK ' + 'x'.join([str(7 * num_blocks)] * 3)
        layers.append(Variant(name, partial(block, feats, voxels), [feats, *block.parameters()], device))
        indices.append(Variant(name, partial(build_blocks, coors, 7, num_blocks), [], device))
    return {'index': indices, **_both_passes(layers)}


def _spconv_variants(feats: Tensor, coors: Tensor) -> list[Variant]:
    """The submanifold convolution of spconv, where it is installed for the device."""
    from mvbench_plugins.link.spconv_cpu import has_spconv, prepare_cpu

    if not has_spconv():
        return []
    from spconv.cppconstants import CPU_ONLY_BUILD
    from spconv.pytorch import SparseConvTensor, SubMConv3d

    if CPU_ONLY_BUILD and feats.device.type != 'cpu':
        return []
    prepare_cpu()
    width = feats.shape[1]
    conv = SubMConv3d(width, width, 3, padding=1, bias=False, indice_key='neighbours').to(feats.device)
    places = coors[:, [0, 3, 2, 1]]
    places = (places - places.amin(0)).contiguous()
    voxels = SparseConvTensor(feats, places, (places.amax(0) + 1)[1:].tolist(), 1)
    voxels.indice_dict = conv(voxels).indice_dict
    return [
        Variant(
            'spconv 3x3x3',
            lambda: conv(voxels.replace_feature(feats)).features,
            [feats, *conv.parameters()],
            feats.device,
        )
    ]


def _both_passes(variants: Sequence[Variant]) -> dict[str, list[Variant]]:
    return {
        'forward': list(variants),
        'forward + backward': [replace(variant, backward=True) for variant in variants],
    }


#: Variants of each operator by what is measured.
OPERATORS = dict(pyramid_sampling=pyramid_sampling_tables, msmv_sampling=msmv_sampling_tables, link=link_tables)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy of 1 GiB reads and writes."""
    source = torch.empty(2**28, device=device)
    target = torch.empty_like(source)
    copy = Variant('copy', lambda: target.copy_(source), [], device)
    (times,) = time_steps([copy], iters=10, warmup=3)
    return 2 * source.nbytes / (min(times) / 1e3)


def main(argv: list[str] | None = None) -> None:
    """Measures and prints the table."""
    args = parse_args(argv)
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise SystemExit(f'benchmark_ops.py: --device {device}: PyTorch finds no GPU here; use --device cpu')
    if args.processor_time and device.type != 'cpu':
        raise SystemExit('benchmark_ops.py: --processor-time: a GPU works beside the processor; use --device cpu')
    clock = time.process_time if args.processor_time else time.perf_counter
    if args.operator == 'link':
        print(f'link, {args.voxels} voxels, {args.channels} channels, {args.dtype}')
    else:
        size = f'{args.shape[0]}x{args.shape[1]}'
        frames = f'{args.frames} frames of ' if args.operator == 'msmv_sampling' else ''
        print(f'{args.operator}, {args.queries} queries, {frames}{size}, {args.dtype}')
    print(f'{device}: {torch.get_num_threads()} threads, torch {torch.__version__}')
    if device.type == 'cuda':
        print(f'{torch.cuda.get_device_name(device)}, copies {copy_bandwidth(device) / 1e9:.0f} GB/s')
    rows = [['', 'variant', 'median', 'ratio', 'peak memory', 'ratio']]
    for measured, variants in OPERATORS[args.operator](args, device).items():
        times = time_steps(variants, args.iters, args.warmup, clock)
        medians = [torch.tensor(t).median().item() for t in times]
        peaks = [peak_bytes(variant.step, device) for variant in variants]
        for variant, median, peak in zip(variants, medians, peaks, strict=True):
            rows.append(
                [
                    measured,
                    variant.name,
                    f'{median:.2f} ms',
                    f'{median / medians[0]:.3f}',
                    f'{peak / 2**20:.0f} MiB',
                    f'{peak / peaks[0]:.3f}',
                ]
            )
    widths = [max(map(len, column)) for column in zip(*rows)]
    print('\n'.join('  '.join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows))


if __name__ == '__main__':
    main()

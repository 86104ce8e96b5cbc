"""Measures time per step, memory, parameters and multiply-adds of a model, or of two models side by side.

Inputs are random, weights too unless a checkpoint is given (nothing is downloaded). With --vs the steps of both models
alternate, so that a drift of the machine meets both alike, and a third column, "ratio B / A", divides the figures of
the second model (B, that of --vs) by those of the first (A): 0.5 means that B needs half as much.

Examples:
    python tools/benchmark.py CONFIG --shape 800 1333
    python tools/benchmark.py CONFIG --train --batch 2 --amp --out result.json
    python tools/benchmark.py CONFIG --vs CONFIG --vs-cfg-options model.test_cfg.rcnn.refinement_steps=10
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins import compat  # noqa: E402
from mvbench_plugins.common.benchmark import Subject, measure  # noqa: E402


def positive(text: str) -> int:
    """Reads a positive whole number."""
    if not text.lstrip('+-').isdigit() or int(text) <= 0:
        raise argparse.ArgumentTypeError(f'expected a positive whole number, found {text}')
    return int(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='config file of the model (A)')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', nargs='?', help='weights of CONFIG; default: random ones')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    parser.add_argument('--batch', type=positive, default=1, help='samples per step (default: %(default)s)')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=2,
        metavar=('H', 'W'),
        default=[800, 1333],
        help='height and width of the images in pixels, before padding (default: 800 1333)',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on CUDA, bfloat16 on a CPU')
    parser.add_argument('--compile', action='store_true', help="torch.compile the step, as the runner's compile=True")
    parser.add_argument(
        '--train',
        action='store_true',
        help="measure training steps (forward, backward, the config's optimizer at learning rate 0), not inference",
    )
    parser.add_argument('--iters', type=positive, default=20, help='timed steps (default: %(default)s)')
    parser.add_argument('--warmup', type=positive, default=5, help='untimed steps before (default: %(default)s)')
    parser.add_argument('--threads', type=positive, help="CPU threads; default: PyTorch's choice")
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='on a CPU: the time that the processor works for the step, with --threads 1 the latency of a machine '
        'that does nothing else',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings of CONFIG to override: key=value')
    parser.add_argument('--vs', metavar='CONFIG2', help='config file of a second model (B) to compare with CONFIG')
    parser.add_argument(
        '--vs-cfg-options', nargs='+', action=DictAction, help='settings of CONFIG2 to override: key=value'
    )
    parser.add_argument('--out', metavar='FILE.json', type=Path, help='write the results to this file, too')
    args = parser.parse_args(argv)
    if args.vs_cfg_options and not args.vs:
        parser.error('--vs-cfg-options needs --vs CONFIG2; to compare two settings of one config, give it twice')
    return args


def check_device(name: str | None) -> str:
    """Returns the device to use, or raises a ValueError if it is not there."""
    if name is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    kind, _, index = name.partition(':')
    if kind not in ('cpu', 'cuda') or not (index or '0').isdigit():
        raise ValueError(f'--device: expected cpu, cuda or cuda:N, found {name!r}')
    if kind == 'cuda' and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'--device {name}: PyTorch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices here; use '
            '--device cpu, or install a CUDA build of PyTorch and check nvidia-smi'
        )
    return name


def load_config(path: str, options: dict | None) -> Config:
    """Reads a config file (which imports its plugin) and applies the overrides."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'config {path} does not exist: check the path (current folder: {Path.cwd()})')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    return cfg


def describe_environment(device: str) -> dict[str, Any]:
    """What the figures depend on besides the model."""
    if device.startswith('cuda'):
        name = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
        name = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')
    return dict(
        device=device,
        device_name=name or platform.machine(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        threads=torch.get_num_threads(),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
    )


def compare(a: dict, b: dict) -> dict[str, float | None]:
    """Ratios B / A of two results of :func:`measure`; None where a figure is missing.

    ``latency`` is the median of the ratios of neighbouring steps, ``latency_p10`` and ``latency_p90`` their spread.
    """
    pairs = sorted(y / x for x, y in zip(a['latency_ms']['times'], b['latency_ms']['times']))
    low, middle, high = (torch.tensor(pairs, dtype=torch.float64).quantile(q).item() for q in (0.1, 0.5, 0.9))
    flops = [result['flops']['total'] for result in (a, b)]
    return dict(
        latency=middle,
        latency_p10=low,
        latency_p90=high,
        peak_memory=b['memory_bytes']['peak'] / a['memory_bytes']['peak'],
        step_memory=b['memory_bytes']['step'] / a['memory_bytes']['step'],
        parameters=b['parameters']['total'] / a['parameters']['total'],
        flops=flops[1] / flops[0] if all(flops) else None,
    )


def format_report(report: dict) -> str:
    """The results as a table for people: one column for each model, and one for the ratios if there are two."""
    env, settings, models = report['environment'], report['settings'], report['models']
    ratios = report.get('ratios', {})
    mode = ' '.join(['training' if settings['train'] else 'inference'] + ['amp'] * settings['amp'])
    height, width = settings['shape']
    head = (
        f'{mode}{" compiled" if settings["compile"] else ""}, batch {settings["batch"]}, {height}x{width}; '
        f'{settings["iters"]} steps after {settings["warmup"]} to warm up'
        f'{", times of the processor" if settings["processor_time"] else ""}\n'
        f'{env["device"]}: {env["device_name"]}, {env["threads"]} threads, torch {env["torch"]}\n'
    )
    columns = list(zip('AB', models))
    head += ''.join(f'{label}: {m["config"]} {m["cfg_options"] or ""}\n' for label, m in columns)

    def row(name: str, cells: list[str], ratio: str | None = None) -> list[str]:
        value = ratios.get(ratio)
        return [name, *cells] + ([f'{value:.3f}' if value is not None else ''] if ratios else [])

    def flops(result: dict) -> str:
        total = result['flops']['total']
        return 'not available' if total is None else f'{total / 1e9:.2f} G'

    def share(result: dict, part: str) -> str:
        times = result['parts_ms']
        return f'{times[part]:.2f} ms, {times[part] / sum(times.values()):.1%}' if part in times else ''

    parts = list(dict.fromkeys(part for m in models for part in m['parts_ms']))
    lat = [m['latency_ms'] for m in models]
    mem = [m['memory_bytes'] for m in models]
    rows = [
        ['', *(label for label, _ in columns)] + ['ratio B / A'] * bool(ratios),
        row('latency per step, median', [f'{t["median"]:.2f} ms' for t in lat], 'latency'),
        row('latency, p10 - p90', [f'{t["p10"]:.2f} - {t["p90"]:.2f} ms' for t in lat]),
        *(row(f'  {part}', [share(m, part) for m in models]) for part in parts),
        row('throughput', [f'{m["throughput"]:.2f} samples/s' for m in models]),
        row('peak memory', [f'{m["peak"] / 2**20:.1f} MiB' for m in mem], 'peak_memory'),
        row(
            '  weights, optimizer state' if settings['train'] else '  weights',
            [f'{m["resident"] / 2**20:.1f} MiB' for m in mem],
        ),
        row(
            '  activations, gradients' if settings['train'] else '  activations',
            [f'{m["step"] / 2**20:.1f} MiB' for m in mem],
            'step_memory',
        ),
        row('parameters', [f'{m["parameters"]["total"] / 1e6:.3f} M' for m in models], 'parameters'),
        row('  trainable', [f'{m["parameters"]["trainable"] / 1e6:.3f} M' for m in models]),
        row('multiply-adds per sample', [flops(m) for m in models], 'flops'),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    table = '\n'.join('  '.join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows)
    notes = []
    if ratios:
        spread = f'{ratios["latency_p10"]:.3f} - {ratios["latency_p90"]:.3f}'
        notes += [
            'ratio B / A: the figure of B divided by that of A, below 1 where B needs less',
            f'ratio of the latencies: median over the pairs of neighbouring steps, p10 - p90 {spread}',
        ]
    for label, result in columns:
        if result['flops']['reason']:
            notes.append(f'{label}: multiply-adds not available: {result["flops"]["reason"]}')
        notes += [f'{label}: {module}: {entries}' for module, entries in result['info'].items()]
    return head + table + ''.join(f'\n{note}' for note in notes)


def build_subjects(args: argparse.Namespace, device: str) -> list[Subject]:
    """Builds the model A and, with ``--vs``, the model B."""
    chosen = [(load_config(args.config, args.cfg_options), args.checkpoint)]
    if args.vs:
        chosen.append((load_config(args.vs, args.vs_cfg_options), None))
    return [
        Subject(
            cfg,
            device,
            args.batch,
            tuple(args.shape),
            train=args.train,
            amp=args.amp,
            compile=args.compile,
            checkpoint=checkpoint,
        )
        for cfg, checkpoint in chosen
    ]


def main(argv: list[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    args = parse_args(argv)
    compat.apply()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(args.threads or threads)
        try:
            device = check_device(args.device)
            if args.processor_time and device != 'cpu':
                raise ValueError(
                    '--processor-time: a GPU works beside the processor; use --device cpu, or leave it out'
                )
            subjects = build_subjects(args, device)
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            raise SystemExit(f'benchmark.py: error: {error}') from None
        results = measure(
            subjects, args.iters, args.warmup, time.process_time if args.processor_time else time.perf_counter
        )
        environment = describe_environment(device)
    finally:
        torch.set_num_threads(threads)
    names = [dict(config=args.config, cfg_options=args.cfg_options, checkpoint=args.checkpoint)]
    names += [dict(config=args.vs, cfg_options=args.vs_cfg_options, checkpoint=None)] * bool(args.vs)
    keys = ('batch', 'shape', 'amp', 'compile', 'train', 'iters', 'warmup', 'processor_time')
    settings = {key: getattr(args, key) for key in keys}
    models = [dict(**name, **result) for name, result in zip(names, results)]
    report = dict(environment=environment, settings=settings, models=models)
    if args.vs:
        report['ratios'] = compare(*models)
    print(format_report(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()

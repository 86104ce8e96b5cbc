"""Tests a checkpoint with the metric of its config file, with the stock runner of mmengine.

Examples:
    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --out predictions.pkl --show-dir pictures
Several GPUs, or several processes on the CPU: tools/dist_test.sh, tools/slurm_test.sh.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.common import cli  # noqa: E402

# metric that dumps predictions; mmdet's own packs masks into RLE
DUMP_METRICS = {'mmdet': 'mmdet.DumpDetResults'}


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    cli.add_common_arguments(parser)
    parser.add_argument('--out', help='pickle file (.pkl) for the predictions')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument(
        '--show-dir',
        help='folder below <work dir>/<time> for pictures with the predictions; its path is logged at the end',
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows each picture')
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out: found {args.out!r}, expected a name that ends with .pkl or .pickle')
    return args


def enable_drawing(cfg: cli.Config, args: argparse.Namespace) -> None:
    """Turns on the visualization hook of the config; mmaction names its options otherwise than mmdet and mmdet3d."""
    if 'visualization' not in cfg.get('default_hooks', {}):
        raise SystemExit('error: --show, --show-dir: the config has no default_hooks.visualization to draw with')
    draw, folder = ('enable', 'out_dir') if cfg.get('default_scope') == 'mmaction' else ('draw', 'test_out_dir')
    cfg.default_hooks.visualization.update({draw: True, 'show': args.show, 'wait_time': args.wait_time})
    if args.show_dir is not None:
        cfg.default_hooks.visualization[folder] = args.show_dir


def dump_predictions(cfg: cli.Config, path: str) -> None:
    """Adds a metric that writes the predictions to ``path``."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    dump = dict(type=DUMP_METRICS.get(cfg.get('default_scope'), 'DumpResults'), out_file_path=path)
    cfg.test_evaluator = [*metrics, dump]


def main() -> None:
    """Builds the runner, loads the checkpoint and tests."""
    args = parse_args()
    cfg = cli.load_config(args)
    cli.check_checkpoint(args.checkpoint, 'checkpoint argument')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        enable_drawing(cfg, args)
    if args.out:
        dump_predictions(cfg, args.out)
    with cli.located_errors(cfg), cli.told_of_dead_workers():
        runner = cli.build_runner(cfg)
        runner.test()
    if args.show_dir:
        own_place = cfg.get('default_scope') == 'mmaction'  # the others' hooks draw below the folder of the run
        folder = Path(args.show_dir) if own_place else Path(runner.work_dir, runner.timestamp, args.show_dir)
        runner.logger.info(f'Pictures are in {folder}')
    cli.leave_process_group()


if __name__ == '__main__':
    main()

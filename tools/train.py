"""Trains the model of a config file with the stock runner of mmengine.

Examples:
    python tools/train.py configs/deqdet/deqdet_r18_toy.py
    python tools/train.py CONFIG --work-dir work_dirs/a --resume
    python tools/train.py CONFIG --amp --cfg-options train_dataloader.batch_size=4
Several GPUs, or several processes on the CPU: tools/dist_train.sh, tools/slurm_train.sh.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.common import cli  # noqa: E402
from mvbench_plugins.common.work_dir_lock import WorkDirInUseError  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    cli.add_common_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by actual batch size / the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint; without a value, from the last one in the work dir, if there is one',
    )
    return parser.parse_args()


def enable_amp(cfg: cli.Config) -> None:
    """Turns the config's OptimWrapper into an AmpOptimWrapper; keeps a loss scale that the config sets."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise SystemExit(f'error: --amp: the config has optim_wrapper.type={kind!r}, expected OptimWrapper')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: cli.Config) -> None:
    """Turns on the scaling of the learning rate by the batch size."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise SystemExit('error: --auto-scale-lr: the config lacks auto_scale_lr=dict(base_batch_size=N)')
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: cli.Config, resume: str) -> None:
    """Points the config to the checkpoint to continue from.

    Where there is none yet, ``--resume`` changes nothing, so that the config's ``load_from`` still starts the run.
    """
    checkpoint = cli.last_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if checkpoint is None:
        print(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
        return
    cfg.resume = True
    cfg.load_from = checkpoint


def warn_about_single_checkpoint(cfg: cli.Config) -> None:
    """Warns of the one setting with which `last_checkpoint`, written last, can name a file that is gone."""
    if (cfg.get('default_hooks') or {}).get('checkpoint', {}).get('max_keep_ckpts') == 1:
        print(
            'warning: default_hooks.checkpoint.max_keep_ckpts=1 removes the checkpoint that last_checkpoint names '
            'before it names the next one; a run that is killed in between cannot resume by itself. Use 2 or more.',
            file=sys.stderr,
        )


def main() -> None:
    """Builds the runner and trains."""
    args = parse_args()
    cfg = cli.load_config(args)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.resume is not None:
        set_resume(cfg, args.resume)
    cli.check_checkpoint(cfg.get('load_from'), '--resume' if cfg.get('load_from') == args.resume else 'load_from')
    warn_about_single_checkpoint(cfg)
    try:
        with cli.located_errors(cfg), cli.told_of_dead_workers():
            cli.build_runner(cfg).train()
    except WorkDirInUseError as error:
        raise SystemExit(f'error: {error}') from None
    cli.leave_process_group()


if __name__ == '__main__':
    main()

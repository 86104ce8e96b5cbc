"""Prepares a data set of action detection: extracts frames or clips where they are missing, checks, and counts.

It can be interrupted and started again. Without --videos it only checks what is there. If something is missing, it is
listed in a file and the exit status is 1.

Example:
    python tools/prepare_data.py ava --root data/ava --videos data/ava/videos --workers 8
    python tools/prepare_data.py ava_clips --root data/ava --videos data/ava/videos --workers 8
    python tools/prepare_data.py jhmdb --root data/jhmdb
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.datasets.action.prepare import (  # noqa: E402
    TUBE_LAYOUTS,
    Report,
    prepare_ava,
    prepare_ava_clips,
    prepare_tubes,
)


def parse_args() -> argparse.Namespace:
    """Parses the command line; one sub-command for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets = parser.add_subparsers(dest='dataset', required=True)
    ava = datasets.add_parser(
        'ava',
        help='AVA v2.1 or v2.2',
        description='Writes ROOT/frames/VIDEO/VIDEO_%06d.jpg (30 per second, from second 900 on) and '
        'ROOT/frame_lists/{train,val}.csv; needs ROOT/annotations.',
    )
    _add_ava(ava)
    ava.add_argument('--short-side', type=int, help='reduce frames to this short side in pixels; default: as they are')
    clips = datasets.add_parser(
        'ava_clips',
        help='AVA v2.1 or v2.2 in files of one second, as AlphAction reads them',
        description='Writes ROOT/clips/trainval/VIDEO/SECOND.mp4 (25 frames per second, seconds 895 to 1805 as far as '
        'the videos have them); needs ROOT/annotations.',
    )
    _add_ava(clips)
    clips.add_argument('--short-side', type=int, default=360, help='reduce to this short side in pixels; default: 360')
    for name, layout in TUBE_LAYOUTS.items():
        tubes = datasets.add_parser(
            name,
            help=f'frames as {layout.ann_file} counts them',
            description=f'Needs ROOT/{layout.ann_file}; writes ROOT/{layout.frames}/CLASS/VIDEO/'
            f'{layout.template.replace("{:05d}", "%05d")}.',
        )
        _add_common(tubes, 'folder of CLASS/VIDEO.avi or VIDEO.avi')
    args = parser.parse_args()
    if args.workers < 1 or (args.dataset not in TUBE_LAYOUTS and args.short_side is not None and args.short_side < 1):
        parser.error('--workers and --short-side must be at least 1')
    return args


def _add_common(parser: argparse.ArgumentParser, videos: str) -> None:
    parser.add_argument('--root', required=True, help='folder of the data set')
    parser.add_argument('--videos', help=f'{videos}; default: extract nothing, only check')
    parser.add_argument('--workers', type=int, default=1, help='number of videos to extract at a time; default: 1')


def _add_ava(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, 'folder of VIDEO.mp4, .mkv or .webm, cut to the minutes 15 to 30')
    parser.add_argument('--full-length', action='store_true', help='the videos are whole films, not cut')
    parser.add_argument('--version', choices=['2.1', '2.2'], default='2.2', help='of the annotations; default: 2.2')
    parser.add_argument('--annotations', help='folder of the annotation files; default: ROOT/annotations')


def prepare(args: argparse.Namespace) -> Report:
    """Does what the command line asks for."""
    if args.dataset in TUBE_LAYOUTS:
        return prepare_tubes(args.dataset, args.root, args.videos, workers=args.workers)
    prepare_frames_or_clips = prepare_ava_clips if args.dataset == 'ava_clips' else prepare_ava
    return prepare_frames_or_clips(
        args.root,
        args.videos,
        full_length=args.full_length,
        version=args.version,
        annotations=args.annotations,
        short_side=args.short_side,
        workers=args.workers,
    )


def main() -> None:
    """Prepares the data set and ends with status 1 if something is missing."""
    args = parse_args()
    try:
        report = prepare(args)
        print(report.finish())
    except (ValueError, OSError) as error:
        raise SystemExit(f'prepare_data.py: error: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted: the same command goes on where it ended') from None
    sys.exit(1 if report.missing else 0)


if __name__ == '__main__':
    main()

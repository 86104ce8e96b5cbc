"""Renders a small deterministic world of moving solids in the formats of real data sets.

Example:
    python tools/make_toy_data.py coco --out data/toy_coco
    python tools/make_toy_data.py ava --out data/toy_ava
    python tools/make_toy_data.py davis --out data/toy_davis
    python tools/make_toy_data.py nuscenes --out data/toy_nuscenes
    python tools/make_toy_data.py semantickitti --out data/toy_semantickitti
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.datasets.toy import JHMDB, UCF101_24, write_ava, write_coco, write_nuscenes, write_tubes  # noqa: E402
from mvbench_plugins.datasets.toy.ava import key_seconds  # noqa: E402
from mvbench_plugins.datasets.toy.davis import write_davis  # noqa: E402
from mvbench_plugins.datasets.toy.semantic_kitti import write_semantic_kitti  # noqa: E402
from mvbench_plugins.datasets.toy.tubes import LABELS  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line; one sub-command for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = parser.add_subparsers(dest='format', required=True)

    def add_format(name: str, summary: str, description: str, num_train: int, num_val: int, counted: str):
        command = formats.add_parser(
            name,
            help=summary,
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.add_argument(
            '--out', required=True, help='folder of the data set: new, empty, or made by an earlier run'
        )
        command.add_argument('--seed', type=int, default=0, help='seed of the world')
        command.add_argument('--num-train', type=int, default=num_train, help=f'number of training {counted}')
        command.add_argument('--num-val', type=int, default=num_val, help=f'number of validation {counted}')
        return command

    def add_video_size(command: argparse.ArgumentParser, default: tuple[int, int] = (128, 96)) -> None:
        help_ = 'width and height of the frames in pixels'
        command.add_argument('--size', type=int, nargs=2, default=default, metavar=('WIDTH', 'HEIGHT'), help=help_)

    coco = add_format(
        'coco',
        'COCO boxes and polygon masks',
        'Still images with boxes and polygon masks of eight classes of solids, as COCO lays them out.',
        800,
        100,
        'images',
    )
    coco.add_argument('--size', type=int, default=128, help='side of the square images in pixels')
    ava = add_format(
        'ava',
        'AVA frames, video files and boxes with several actions each',
        'Videos of solids with eight actions that only time reveals, as AVA lays them out.',
        64,
        16,
        'videos',
    )
    add_video_size(ava)
    ava.add_argument('--seconds', type=int, default=12, help='length of each video')
    for layout, name in ((JHMDB, 'JHMDB'), (UCF101_24, 'UCF101-24')):
        tubes = add_format(
            layout.name,
            f'{name} frames and tubes',
            f'Short videos of solids with one action each, as {name} lays them out.',
            8,
            2,
            'videos of each class',
        )
        add_video_size(tubes)
    davis = add_format(
        'davis',
        'DAVIS frames and masks of objects that cross and have look-alikes',
        'Videos of solids that wander, turn, hide each other and enter later, as DAVIS 2017 lays them out.',
        60,
        12,
        'videos',
    )
    add_video_size(davis, (224, 128))
    nuscenes = add_format(
        'nuscenes',
        'a nuScenes database: six cameras, LiDAR and boxes in three dimensions',
        'Drives among cuboids of ten classes, seen by six cameras and a LiDAR, as nuScenes lays them out.',
        30,
        6,
        'scenes',
    )
    add_video_size(nuscenes, (320, 180))
    nuscenes.add_argument('--key-frames', type=int, default=10, help='annotated frames of a scene, half a second apart')
    nuscenes.add_argument('--sweeps', type=int, default=1, help='frames without annotations between two key frames')
    nuscenes.add_argument('--azimuths', type=int, default=240, help='directions in a turn of the LiDAR of 32 beams')
    kitti = add_format(
        'semantickitti',
        'SemanticKITTI: LiDAR scans with a class and an instance for every point',
        'The drives of the toy nuScenes, as SemanticKITTI lays them out, and info files for mmdet3d.',
        30,
        6,
        'sequences',
    )
    kitti.add_argument('--scans', type=int, default=10, help='scans of a sequence, half a second apart')
    kitti.add_argument('--azimuths', type=int, default=240, help='directions in a turn of the LiDAR of 32 beams')
    return parser.parse_args()


def write(args: argparse.Namespace) -> tuple[bool, str]:
    """Writes the data set asked for, unless it is there already; says whether it did and what the set holds."""
    common = {'seed': args.seed, 'num_train': args.num_train, 'num_val': args.num_val}
    if args.format == 'coco':
        counts = f'{args.num_train} training and {args.num_val} validation images'
        return write_coco(args.out, **common, size=args.size), counts
    if args.format == 'semantickitti':
        counts = f'{args.num_train} training and {args.num_val} validation sequences with {args.scans} scans each'
        return write_semantic_kitti(args.out, **common, scans=args.scans, azimuths=args.azimuths), counts
    common['size'] = tuple(args.size)
    if args.format == 'davis':
        counts = f'{args.num_train} training and {args.num_val} validation videos'
        return write_davis(args.out, **common), counts
    if args.format == 'ava':
        keys = len(key_seconds(args.seconds))
        counts = f'{args.num_train} training and {args.num_val} validation videos with {keys} key frames each'
        return write_ava(args.out, **common, seconds=args.seconds), counts
    if args.format == 'nuscenes':
        counts = (
            f'{args.num_train} training and {args.num_val} validation scenes with {args.key_frames} key frames each'
        )
        record = {'key_frames': args.key_frames, 'sweeps': args.sweeps, 'azimuths': args.azimuths}
        return write_nuscenes(args.out, **common, **record), counts
    counts = f'{args.num_train} training and {args.num_val} validation videos of each of {len(LABELS)} classes'
    return write_tubes(JHMDB if args.format == JHMDB.name else UCF101_24, args.out, **common), counts


def main() -> None:
    """Writes the data set asked for and says what it holds."""
    args = parse_args()
    try:
        written, counts = write(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f'make_toy_data.py: error: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit(f'\ninterrupted: {args.out} is not complete, the same command makes it anew') from None
    print(f'{args.out}: {counts}, {"written" if written else "complete already, left as it is"}')


if __name__ == '__main__':
    main()

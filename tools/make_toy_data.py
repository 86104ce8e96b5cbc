"""Renders a small deterministic world of moving solids in the formats of real data sets.

Example:
    python tools/make_toy_data.py coco --out data/toy_coco
"""

import argparse

from mvbench_plugins.datasets.toy import write_coco


def parse_args() -> argparse.Namespace:
    """Parses the command line; one sub-command for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = parser.add_subparsers(dest='format', required=True)
    coco = formats.add_parser(
        'coco',
        help='COCO boxes and polygon masks',
        description='Still images with boxes and polygon masks of eight classes of solids, as COCO lays them out.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    coco.add_argument('--out', required=True, help='folder of the data set: new, empty, or made by an earlier run')
    coco.add_argument('--seed', type=int, default=0, help='seed of the world')
    coco.add_argument('--num-train', type=int, default=800, help='number of training images')
    coco.add_argument('--num-val', type=int, default=100, help='number of validation images')
    coco.add_argument('--size', type=int, default=128, help='side of the square images in pixels')
    return parser.parse_args()


def main() -> None:
    """Writes the data set asked for, unless it is there already."""
    args = parse_args()
    try:
        written = write_coco(args.out, seed=args.seed, num_train=args.num_train, num_val=args.num_val, size=args.size)
    except (ValueError, OSError) as error:
        raise SystemExit(f'make_toy_data.py: error: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit(f'\ninterrupted: {args.out} is not complete, the same command makes it anew') from None
    state = 'written' if written else 'complete already, left as it is'
    print(f'{args.out}: {args.num_train} training and {args.num_val} validation images, {state}')


if __name__ == '__main__':
    main()

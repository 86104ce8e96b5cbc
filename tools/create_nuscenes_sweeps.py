"""Makes the info files of SparseBEV from the tables of nuScenes: mmdet3d's, with the camera sets between key frames.

Files that are there are left as they are. An interrupted run leaves no half file; the same command starts again.

Example:
    python tools/create_nuscenes_sweeps.py --root-path data/nuscenes
    python tools/create_nuscenes_sweeps.py --root-path data/nuscenes --version v1.0-test
    python tools/create_nuscenes_sweeps.py --root-path data/nuscenes --from-official data/nuscenes_infos_val_sweep.pkl
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.sparsebev.official_sweeps import convert_infos  # noqa: E402
from mvbench_plugins.sparsebev.sweeps import SPLITS, write_infos  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root-path', required=True, help='folder of the data set')
    parser.add_argument('--version', choices=list(SPLITS), default='v1.0-trainval', help='default: v1.0-trainval')
    parser.add_argument('--out-dir', help='folder of the info files; default: that of the data set')
    parser.add_argument(
        '--extra-tag',
        default='nuscenes_multiview',
        help='start of their names, <TAG>_infos_<SPLIT>.pkl; default: nuscenes_multiview',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace info files that are there')
    parser.add_argument(
        '--from-official',
        nargs='+',
        metavar='PKL',
        help='turn nuscenes_infos_<SPLIT>_sweep.pkl of the official code into info files, without the tables',
    )
    return parser.parse_args()


def main() -> None:
    """Writes the info files and says what they hold."""
    args = parse_args()
    out_dir = args.out_dir or args.root_path
    try:
        if args.from_official:
            written = convert_infos(args.from_official, args.root_path, out_dir, args.extra_tag, args.overwrite)
        else:
            written = write_infos(args.root_path, args.version, out_dir, args.extra_tag, args.overwrite)
    except (ValueError, OSError) as error:
        raise SystemExit(f'create_nuscenes_sweeps.py: error: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted: nothing is half written, the same command starts again') from None
    for path, samples in written.items():
        print(f'{path}: {samples} samples')
    if not written:
        print(f'{out_dir}: the info files are there already, left as they are (--overwrite replaces them)')


if __name__ == '__main__':
    main()

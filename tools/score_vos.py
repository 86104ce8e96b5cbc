"""Scores a folder of predicted masks: J&F as VOSMetric computes it in a test run.

Predictions are laid out like the annotations, <video>/<frame>.png, one for each annotation unless --only-predicted says
otherwise. Without them the given masks are copied to all later frames, which is what a method has to beat.

Example:
    python tools/score_vos.py data/DAVIS/Annotations/480p work_dirs/davis_val --list data/DAVIS/ImageSets/2017/val.txt
    python tools/score_vos.py data/toy_davis/Annotations/480p --copy-given --list data/toy_davis/ImageSets/2017/val.txt
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mvbench_plugins.datasets.vos import VOSDataset  # noqa: E402
from mvbench_plugins.datasets.vos.layout import shortened  # noqa: E402
from mvbench_plugins.evaluation.fast_masks import read_mask  # noqa: E402
from mvbench_plugins.evaluation.vos_metric import Row, VOSMetric  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', help='folder with the true masks of each video')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('predictions', nargs='?', help='folder with the predicted masks of each video')
    source.add_argument('--copy-given', action='store_true', help='score copies of the given masks instead')
    parser.add_argument('--list', default='', help='file that names the videos, one a line; default: all')
    parser.add_argument(
        '--given',
        choices=('first', 'first_appearance'),
        default='first',
        help='objects of the first mask only (DAVIS, default), or each one from the mask on that first shows it (LVOS)',
    )
    parser.add_argument(
        '--only-predicted',
        action='store_true',
        help='score only the frames that have a prediction (LVOS: every fifth is handed in)',
    )
    parser.add_argument('--keep-last', action='store_true', help='score the last frame of each video too')
    parser.add_argument('--ignore-void', action='store_true', help='leave out pixels of label 255 (VOST)')
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--workers', type=int, default=cores, help='processes, each of which scores whole videos (default: %(default)s)'
    )
    return parser.parse_args()


def check_predictions(folder: str, videos: list[str]) -> None:
    """Checks that each video has its folder of masks."""
    absent = [video for video in videos if not Path(folder, video).is_dir()]
    if absent:
        raise ValueError(
            f'{folder}: no folder of {len(absent)} of the {len(videos)} videos: {shortened(absent)}; expected '
            '<video>/<frame>.png. Name the folder above the videos, or the videos to score with --list.'
        )


def predicted_masks(frames: Iterable[dict], folder: str, optional: bool) -> Iterator[tuple[dict, Path | None]]:
    """Yields the frames of a video and the files of their masks; None for one that is missing and optional."""
    for frame in frames:
        path = Path(folder, frame['video_name'], f'{frame["frame_name"]}.png')
        yield frame, None if optional and not path.exists() else path


def copied_masks(frames: Iterable[dict]) -> Iterator[tuple[dict, np.ndarray]]:
    """Yields the frames and the masks that have been given so far, a later one on top of earlier ones."""
    copied = np.uint8(0)
    for frame in frames:
        if frame['annotated']:
            given = read_mask(frame['mask_path'])
            copied = np.where(np.isin(given, frame['given_labels']), given, copied)
        yield frame, copied


def make_metric(args: argparse.Namespace) -> VOSMetric:
    """Makes the metric that the command line asks for."""
    return VOSMetric(skip_last=not args.keep_last, ignore_void=args.ignore_void)


def score_video(args: argparse.Namespace, info: dict) -> list[Row]:
    """Scores the frames of one video; runs in a process of its own."""
    metric = make_metric(args)
    frames = info['images']
    masks = copied_masks(frames) if args.copy_given else predicted_masks(frames, args.predictions, args.only_predicted)
    for frame, mask in masks:
        metric.add_frame(frame | dict(save=mask is not None), mask)
    metric.wait()
    return metric.results


def main() -> None:
    """Scores the masks, with progress, and prints the figures."""
    args = parse_args()
    try:
        folders = dict(img=args.annotations, mask=args.annotations)
        videos = VOSDataset(args.list, data_prefix=folders, annotations=args.given, test_mode=True)
        infos = [videos.get_data_info(index) for index in range(len(videos))]
        if not args.copy_given:
            check_predictions(args.predictions, [info['video_name'] for info in infos])
        metric = make_metric(args)
        with (
            ProcessPoolExecutor(max(1, args.workers)) as pool,
            tqdm(total=sum(info['video_length'] for info in infos), unit='frame') as progress,
        ):
            for info, rows in zip(infos, pool.map(partial(score_video, args), infos)):
                metric.results += rows
                progress.update(info['video_length'])
        figures = metric.evaluate(len(infos))
    except (ValueError, OSError) as error:
        raise SystemExit(f'score_vos.py: error: {error}') from None
    for name, value in figures.items():
        print(f'{name.removeprefix("vos/"):9} {value:.4f}')


if __name__ == '__main__':
    main()

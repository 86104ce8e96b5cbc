"""Detects people and their actions in a video, and writes an annotated video and a json file.

VIDEO is a video file, a folder with the frames of one video, the index of a camera (0 is the first) or the URL of a
stream. A camera runs until Ctrl-C or --max-seconds. Memory does not grow with the length of the video.

Models that tell the actions of given people (CycleACR) need their boxes: from a file, or from any detector of mmdet.

Examples:
    python tools/infer_action.py VIDEO --config CONFIG --checkpoint CHECKPOINT --out annotated.mp4
    python tools/infer_action.py FRAMES --config CONFIG --checkpoint CHECKPOINT --fps 25 --step 1 --json actions.json
    python tools/infer_action.py 0 --checkpoint CHECKPOINT --out annotated.mp4 --max-seconds 60
    python tools/infer_action.py VIDEO --config CYCLEACR --checkpoint CHECKPOINT --out annotated.mp4 \\
        --det-config MMDET_CONFIG --det-checkpoint MMDET_CHECKPOINT
    python tools/infer_action.py VIDEO --config CYCLEACR --checkpoint CHECKPOINT --json actions.json \\
        --person-boxes person_boxes.csv --first-second 900
"""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.common import cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', metavar='VIDEO', help='video file, folder of frames, camera index or URL')
    parser.add_argument(
        '--config', help='config file, or name of a config; default: the config that the checkpoint holds'
    )
    parser.add_argument('--checkpoint', required=True, help='checkpoint file or URL')
    parser.add_argument('--out', metavar='MP4', help='annotated video to write')
    parser.add_argument('--json', metavar='JSON', help='json file to write: boxes, person scores and actions')
    parser.add_argument('--batch-size', type=int, default=1, help='clips at once (default: %(default)s)')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    distance = parser.add_mutually_exclusive_group()
    distance.add_argument(
        '--interval', type=float, default=1.0, help='seconds from key frame to key frame (default: %(default)s)'
    )
    distance.add_argument('--step', type=int, help='the same in frames of the video; 1 looks at each frame')
    parser.add_argument(
        '--fps', type=float, help='frame rate of the video; default: what it tells, 30 for a folder of frames'
    )
    parser.add_argument('--max-seconds', type=float, help='end after so many seconds of video')
    _add_people_arguments(parser)
    parser.add_argument(
        '--person-thr', type=float, default=0.3, help='least person score to show a person (default: %(default)s)'
    )
    parser.add_argument(
        '--action-thr', type=float, default=0.5, help='least score to show an action (default: %(default)s)'
    )
    parser.add_argument('--label-map', metavar='PBTXT', help='names of the actions, if checkpoint and config lack them')
    parser.add_argument('--no-progress', action='store_true', help='no progress bar')
    parser.add_argument(
        '--cfg-options', nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE', help='overrides settings of --config'
    )
    args = parser.parse_args()
    if args.out is None and args.json is None:
        parser.error('nothing to write: give --out, --json or both')
    if args.cfg_options and args.config is None:
        parser.error('--cfg-options needs --config')
    if (args.det_config is None) != (args.det_checkpoint is None):
        parser.error('--det-config and --det-checkpoint belong together: give both')
    if args.person_images and not args.person_boxes:
        parser.error('--person-images needs --person-boxes')
    return args


def _add_people_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the people come from, for models that do not find them."""
    people = parser.add_argument_group('people, for models that do not find them')
    source = people.add_mutually_exclusive_group()
    source.add_argument(
        '--person-boxes',
        metavar='FILE',
        help='csv of video, second, x1, y1, x2, y2 (fractions of the image), score; or pkl, json as for AVA',
    )
    source.add_argument('--det-config', metavar='CONFIG', help='config of an mmdet detector that finds them')
    people.add_argument('--det-checkpoint', metavar='CHECKPOINT', help='its weights, file or URL')
    people.add_argument(
        '--det-label', type=int, help='its class for people, counted from 0; default: the one called person'
    )
    people.add_argument(
        '--det-score-thr', type=float, help='least score of a box; default: that of the test dataset, or 0.8'
    )
    people.add_argument('--person-images', metavar='JSON', help='ava_SPLIT_VERSION_min.json that a json of boxes needs')
    people.add_argument(
        '--first-second',
        type=int,
        default=0,
        help='what the file of boxes calls the first second of the video (default: %(default)s; AVA: 900)',
    )
    people.add_argument(
        '--lookahead',
        type=int,
        help='how many later key frames a key frame waits for; default: all that the model remembers, 0 for cameras',
    )


def find_people(args: argparse.Namespace) -> Any:
    """What the options tell of the people: a detector, what a file holds, or None."""
    from mvbench_plugins.apis import PersonDetector
    from mvbench_plugins.datasets.action.person_boxes import read_person_boxes

    if args.det_config is not None:
        return PersonDetector(args.det_config, args.det_checkpoint, args.device, args.det_label)
    return read_person_boxes(args.person_boxes, args.person_images) if args.person_boxes else None


def infer(args: argparse.Namespace) -> dict:
    """Builds the inferencer and runs it."""
    # mmaction takes seconds to import: not before the command line is known to be right
    from mvbench_plugins.apis import ActionDetInferencer
    from mvbench_plugins.apis.model_loading import read_config

    model = read_config(args.config, args.cfg_options) if args.cfg_options else args.config
    people = find_people(args)
    inferencer = ActionDetInferencer(
        model, args.checkpoint, args.device, show_progress=not args.no_progress, label_map=args.label_map
    )
    camera = args.video.isdecimal() and not Path(args.video).exists()
    return inferencer(
        int(args.video) if camera else args.video,
        batch_size=args.batch_size,
        interval=args.interval,
        step=args.step,
        fps=args.fps,
        max_seconds=args.max_seconds,
        person_boxes=people,
        first_second=args.first_second,
        det_score_thr=args.det_score_thr,
        lookahead=args.lookahead,
        pred_score_thr=args.person_thr,
        action_thr=args.action_thr,
        out=args.out,
        json_out=args.json,
    )


def main() -> None:
    """Detects, and tells what was found and where it stands."""
    args = parse_args()
    cli.check_checkpoint(args.checkpoint, '--checkpoint')
    written = ' and '.join(path for path in (args.out, args.json) if path)
    with cli.told_in_one_line(written):
        result = infer(args)
    people = sum(len(record['detections']) for record in result['predictions'])
    print(f'{result["video"]["frames"]} frames, {len(result["predictions"])} key frames, {people} people: {written}')


if __name__ == '__main__':
    main()

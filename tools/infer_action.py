"""Detects people and their actions in a video, and writes an annotated video and a json file.

VIDEO is a video file, a folder with the frames of one video, the index of a camera (0 is the first) or the URL of a
stream. A camera runs until Ctrl-C or --max-seconds. Memory does not grow with the length of the video.

Examples:
    python tools/infer_action.py VIDEO --config CONFIG --checkpoint CHECKPOINT --out annotated.mp4
    python tools/infer_action.py FRAMES --config CONFIG --checkpoint CHECKPOINT --fps 25 --step 1 --json actions.json
    python tools/infer_action.py 0 --checkpoint CHECKPOINT --out annotated.mp4 --max-seconds 60
"""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mmengine.config import Config  # noqa: E402

from mvbench_plugins.common import cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', metavar='VIDEO', help='video file, folder of frames, camera index or URL')
    parser.add_argument('--config', help='config file of the model; default: the config that the checkpoint holds')
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
    return args


def infer(args: argparse.Namespace) -> dict:
    """Builds the inferencer and runs it."""
    # mmaction takes seconds to import: not before the command line is known to be right
    from mvbench_plugins.apis import ActionDetInferencer

    model = args.config
    if args.cfg_options:
        model = Config.fromfile(args.config)
        model.merge_from_dict(args.cfg_options)
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
        pred_score_thr=args.person_thr,
        action_thr=args.action_thr,
        out=args.out,
        json_out=args.json,
    )


def main() -> None:
    """Detects, and tells what was found and where it stands."""
    args = parse_args()
    warnings.formatwarning = lambda message, *_: f'warning: {message}\n'
    if args.config is not None and not Path(args.config).is_file():
        raise SystemExit(f'error: config {args.config} does not exist (current folder: {Path.cwd()})')
    cli.check_checkpoint(args.checkpoint, '--checkpoint')
    written = ' and '.join(path for path in (args.out, args.json) if path)
    try:
        result = infer(args)
    except (ValueError, TypeError, OSError) as error:
        raise SystemExit(f'error: {error}') from None
    except KeyboardInterrupt:
        print(f'\ninterrupted: what was found until now stands in {written}', file=sys.stderr)
        raise SystemExit(130) from None
    people = sum(len(record['detections']) for record in result['predictions'])
    print(f'{result["video"]["frames"]} frames, {len(result["predictions"])} key frames, {people} people: {written}')


if __name__ == '__main__':
    main()

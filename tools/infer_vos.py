"""Follows given objects through a video, and writes an overlay video, pictures, masks and a summary.

VIDEO is a video file, a folder with the frames of one video, the index of a camera (0 is the first) or the URL of a
stream. Memory does not grow with the length of the video. Ctrl-C and SIGTERM finish the files with what was found until
then.

The objects are given by masks: a png with labels (palette or grey, 0 is the background) for the first frame, or a
folder of such png named as the frames (00000.png on in a video), where objects may appear at any frame. As a
convenience a box or a point may stand for a mask: a rectangle and a disc, far less exact.

Examples:
    python tools/infer_vos.py VIDEO --config CONFIG --checkpoint CHECKPOINT --mask first.png --out out
    python tools/infer_vos.py FRAMES --config CONFIG --checkpoint CHECKPOINT --mask ANNOTATIONS --out out --save masks
    python tools/infer_vos.py VIDEO --config CONFIG --checkpoint CHECKPOINT --out out --amp --size 480 \\
        --box 0 1 210 84 296 171 --box 40 2 10 20 90 110 --save overlay masks frames json
"""

import argparse
import sys
from pathlib import Path

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
    parser.add_argument('--out', metavar='FOLDER', required=True, help='folder to write into')
    parser.add_argument(
        '--save',
        nargs='+',
        default=['overlay', 'masks'],
        choices=['overlay', 'masks', 'frames', 'json'],
        help='what to write: overlay.mp4, masks/*.png, frames/*.jpg, objects.json (default: overlay masks)',
    )
    _add_object_arguments(parser)
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    parser.add_argument('--amp', action='store_true', help='compute in mixed precision')
    parser.add_argument('--size', type=int, help='shorter side of frames in the model; default: that of the config')
    parser.add_argument('--mem-every', type=int, help='memorise every so manieth frame for longer; default: config')
    parser.add_argument('--max-memory-frames', type=int, help='keep so many of them; default: config')
    parser.add_argument(
        '--fps', type=float, help='frame rate of the video; default: what it tells, 30 for a folder of frames'
    )
    parser.add_argument('--no-progress', action='store_true', help='no progress bar')
    parser.add_argument(
        '--cfg-options', nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE', help='overrides settings of --config'
    )
    args = parser.parse_args()
    if args.mask is None and not args.box and not args.point:
        parser.error('no object to follow: give --mask, --box or --point')
    if args.cfg_options and args.config is None:
        parser.error('--cfg-options needs --config')
    for name in ('box', 'point'):
        for prompt in getattr(args, name):
            if not (prompt[0].is_integer() and prompt[1].is_integer()):
                parser.error(f'--{name}: found FRAME {prompt[0]:g} and LABEL {prompt[1]:g}, expected whole numbers')
    return args


def _add_object_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what tells which objects to follow."""
    objects = parser.add_argument_group('objects, with places in pixels of the video and frames counted from 0')
    objects.add_argument('--mask', metavar='PATH', help='png of the first frame, or folder of png named as the frames')
    objects.add_argument(
        '--box',
        nargs=6,
        type=float,
        action='append',
        default=[],
        metavar=('FRAME', 'LABEL', 'X1', 'Y1', 'X2', 'Y2'),
        help='an object as a rectangle; may be repeated',
    )
    objects.add_argument(
        '--point',
        nargs=4,
        type=float,
        action='append',
        default=[],
        metavar=('FRAME', 'LABEL', 'X', 'Y'),
        help='an object as a disc; may be repeated, with one LABEL for one object',
    )
    objects.add_argument(
        '--point-radius', type=int, help='radius of the discs in pixels; default: 5 %% of the shorter side of the frame'
    )


def infer(args: argparse.Namespace) -> dict:
    """Builds the inferencer and runs it."""
    # mmdet takes seconds to import: not before the command line is known to be right
    from mvbench_plugins.apis import VOSInferencer
    from mvbench_plugins.apis.model_loading import read_config

    model = read_config(args.config, args.cfg_options) if args.cfg_options else args.config
    inferencer = VOSInferencer(
        model,
        args.checkpoint,
        args.device,
        size=args.size,
        amp=args.amp,
        mem_every=args.mem_every,
        max_memory_frames=args.max_memory_frames,
        show_progress=not args.no_progress,
    )
    camera = args.video.isdecimal() and not Path(args.video).exists()
    boxes, points = (
        [(int(frame), int(label), place) for frame, label, *place in prompts] for prompts in (args.box, args.point)
    )
    return inferencer(
        int(args.video) if camera else args.video,
        args.mask,
        boxes=boxes,
        points=points,
        point_radius=args.point_radius,
        fps=args.fps,
        out_dir=args.out,
        save=args.save,
    )


def main() -> None:
    """Follows the objects, and tells what was found and where it stands."""
    args = parse_args()
    cli.check_checkpoint(args.checkpoint, '--checkpoint')
    with cli.told_in_one_line(args.out):
        result = infer(args)
    objects = {found['id'] for record in result['predictions'] for found in record['objects']}
    print(f'{result["video"]["frames"]} frames, {len(objects)} objects: {", ".join(args.save)} below {args.out}')


if __name__ == '__main__':
    main()

"""Detects objects in 3D with the six cameras of a vehicle, and writes pictures or a video and json files.

INPUT is a sample token, or the name or token of a scene, of the nuScenes data set in the config; or several of them. Or
it is a folder: with the pictures of six cameras and a calibration.json, or with such folders, the frames of a drive.
mvbench_plugins/apis/multiview_calibration.py tells what calibration.json holds.

Ctrl-C and SIGTERM finish the files with what was found until then. A video that may be killed outright should be .avi.
A picture shows the six views with projected boxes, and the scene from above with velocities and LiDAR, if there is any.

Examples:
    python tools/infer_multiview.py SAMPLE_TOKEN --config CONFIG --checkpoint CHECKPOINT --out sample.jpg --draw-gt
    python tools/infer_multiview.py scene-0103 --config CONFIG --checkpoint CHECKPOINT --online --out scene.mp4 \\
        --nuscenes-json results_nusc.json
    python tools/infer_multiview.py FRAME --config CONFIG --checkpoint CHECKPOINT --history BEFORE EARLIER --out f.jpg
    python tools/infer_multiview.py DRIVE --config CONFIG --checkpoint CHECKPOINT --online --out drive.mp4 --json d.json
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
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='sample tokens or scenes of nuScenes, or one folder')
    parser.add_argument(
        '--config', help='config file, or name of a config; default: the config that the checkpoint holds'
    )
    parser.add_argument('--checkpoint', required=True, help='checkpoint file or URL')
    parser.add_argument('--out', help='video (.mp4, .avi), picture (.jpg, .png) of one frame, or folder for pictures')
    parser.add_argument('--json', metavar='JSON', help='json file to write: boxes, scores and labels of each frame')
    parser.add_argument('--nuscenes-json', metavar='JSON', help='json file to write for the nuScenes devkit')
    parser.add_argument(
        '--online', action='store_true', help='remember past frames; for scenes and drives: same results, much faster'
    )
    parser.add_argument('--history', nargs='+', metavar='FOLDER', help='folders of earlier frames, for a single frame')
    parser.add_argument('--batch-size', type=int, default=1, help='frames at once (default: %(default)s)')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of a box that is drawn (default: %(default)s)'
    )
    parser.add_argument('--draw-gt', action='store_true', help='draw annotated boxes, too, in white')
    parser.add_argument(
        '--view-width', type=int, default=640, help='width of each of the six views in pixels (default: %(default)s)'
    )
    parser.add_argument('--fps', type=float, help='frames per second of the video; default: as they were taken')
    parser.add_argument('--no-progress', action='store_true', help='no progress bar')
    parser.add_argument(
        '--cfg-options', nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE', help='overrides settings of --config'
    )
    args = parser.parse_args()
    if args.out is None and args.json is None and args.nuscenes_json is None:
        parser.error('nothing to write: give --out, --json or --nuscenes-json')
    if args.cfg_options and args.config is None:
        parser.error('--cfg-options needs --config')
    if len(args.inputs) > 1 and any(Path(each).is_dir() for each in args.inputs):
        parser.error('give one folder only; earlier frames belong into --history')
    return args


def infer(args: argparse.Namespace) -> dict:
    """Builds the inferencer and runs it."""
    # mmdet3d takes seconds to import: not before the command line is known to be right
    from mvbench_plugins.apis import MultiViewDet3DInferencer
    from mvbench_plugins.apis.model_loading import read_config

    model = read_config(args.config, args.cfg_options) if args.cfg_options else args.config
    inferencer = MultiViewDet3DInferencer(
        model, args.checkpoint, args.device, args.online, show_progress=not args.no_progress
    )
    return inferencer(
        args.inputs[0] if len(args.inputs) == 1 else args.inputs,
        batch_size=args.batch_size,
        history=args.history,
        pred_score_thr=args.score_thr,
        draw_gt=args.draw_gt,
        view_width=args.view_width,
        fps=args.fps,
        out=args.out,
        json_out=args.json,
        nuscenes_out=args.nuscenes_json,
    )


def main() -> None:
    """Detects, and tells what was found and where it stands."""
    args = parse_args()
    cli.check_checkpoint(args.checkpoint, '--checkpoint')
    written = ' and '.join(path for path in (args.out, args.json, args.nuscenes_json) if path)
    with cli.told_in_one_line(written):
        result = infer(args)
    shown = sum(score >= args.score_thr for frame in result['predictions'] for score in frame['scores_3d'])
    print(f'{len(result["predictions"])} frames, {shown} boxes of score {args.score_thr:g} or more: {written}')


if __name__ == '__main__':
    main()

"""Draws which tokens EVAD keeps of the clip around one moment of a video: one row of frames for each pruning.

VIDEO is a video file or a folder with the frames of one video. What is dropped is grey and dark; the key frame, of
which nothing is dropped, is outlined. Each column is a pair of frames that share their tokens, and shows one of them.

Examples:
    python tools/draw_tokens.py VIDEO --config CONFIG --checkpoint CHECKPOINT --out tokens.png
    python tools/draw_tokens.py FRAMES --config CONFIG --checkpoint CHECKPOINT --out tokens.png --fps 25 --time 12.5
    python tools/draw_tokens.py VIDEO --checkpoint CHECKPOINT --out tokens.png --keep-rate 0.5
"""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.common import cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', metavar='VIDEO', help='video file or folder of frames')
    parser.add_argument(
        '--config', help='config file, or name of a config; default: the config that the checkpoint holds'
    )
    parser.add_argument('--checkpoint', required=True, help='checkpoint file or URL')
    parser.add_argument('--out', metavar='PNG', required=True, help='picture to write, .png or .jpg')
    parser.add_argument('--time', type=float, metavar='SECONDS', help='of the key frame; default: middle of the video')
    parser.add_argument('--fps', type=float, help='frame rate; default: what the video tells, 30 for a folder')
    parser.add_argument(
        '--keep-rate', type=float, help='share of tokens that each pruning keeps, in (0, 1]; default: of the config'
    )
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    args = parser.parse_args()
    out = Path(args.out)
    if out.suffix.lower() not in ('.png', '.jpg', '.jpeg') or out.is_dir():
        parser.error(f'--out: found {args.out}, expected the name of a file that ends with .png or .jpg')
    if args.keep_rate is not None and not 0 < args.keep_rate <= 1:
        parser.error(f'--keep-rate: found {args.keep_rate}, expected a share of tokens to keep, 0 < R <= 1')
    return args


def draw(args: argparse.Namespace) -> str:
    """Writes the picture; returns what it shows, in one line."""
    # mmaction takes seconds to import: not before the command line is known to be right
    import cv2
    import torch

    from mvbench_plugins.apis import ActionDetInferencer
    from mvbench_plugins.evad import KeyframeVisionTransformer
    from mvbench_plugins.evad.draw_tokens import draw_prunings, record_prunings

    inferencer = ActionDetInferencer(args.config, args.checkpoint, args.device, show_progress=False)
    model, origin = inferencer.model, f'config {args.config or "in " + args.checkpoint}'
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, KeyframeVisionTransformer):
        raise ValueError(
            f'{origin}: the model is {type(model).__name__} with backbone {type(backbone).__name__}, which drops no '
            'tokens; expected a config of EVAD (configs/evad)'
        )
    if args.keep_rate is not None:
        backbone.keep_rate = args.keep_rate
    if backbone.keep_rate == 1 or not backbone.prune_blocks:
        raise ValueError(
            f'{origin}: with keep_rate={backbone.keep_rate} and prune_blocks={backbone.prune_blocks} nothing is '
            'dropped, so that there is nothing to draw. Choose a keep rate below 1, such as --keep-rate 0.7'
        )
    clip, packed = inferencer.clip_at(args.video, args.time, args.fps)
    inputs = model.data_preprocessor(inferencer.collate_fn([packed]))['inputs']
    with torch.no_grad(), record_prunings(backbone) as prunings:
        backbone(inputs)
    images = packed['inputs'].permute(1, 2, 3, 0).flip(-1).contiguous().numpy()  # [T, H, W, 3], RGB to BGR
    time = packed['data_samples'].time
    title = f'keep rate {backbone.keep_rate:g}, key frame {clip.key_frame} at {time:.2f} s'
    picture = draw_prunings(images, prunings, backbone.patch_size, clip.indices.tolist(), title)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(args.out, picture):
        raise OSError(f'picture {args.out} cannot be written: is there room, and may you write there?')
    counts = ', '.join(f'{int(kept.sum())} after block {block}' for block, kept in prunings)
    return f'{title}: {prunings[0].kept.numel()} tokens, {counts}: {args.out}'


def main() -> None:
    """Draws, and tells what was kept."""
    args = parse_args()
    warnings.formatwarning = lambda message, *_: f'warning: {message}\n'
    cli.check_checkpoint(args.checkpoint, '--checkpoint')
    try:
        print(draw(args))
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
    main()

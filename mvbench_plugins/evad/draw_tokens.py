"""Which tokens of a clip EVAD keeps: watched in any forward pass, and drawn over the frames of the clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from .backbone import ClipTokens, KeyframeVisionTransformer

#: What was dropped is shown without colours, at a quarter of its contrast, and never black: black is a dark kept token.
DROPPED_CONTRAST, DROPPED_BLACK = 0.25, 32

_FONT, _INK, _KEY_COLOR = cv2.FONT_HERSHEY_SIMPLEX, (0, 0, 0), (0, 120, 255)  # BGR
_TILE, _GAP, _LINE = 240, 8, 28  # pixels: longest side of a frame, space around it, line of text
_TEXT_SCALE, _KEY_LINE = 0.6, 3


class Pruning(NamedTuple):
    """What one pruning left of a batch of clips.

    Attributes:
        block: index of the block that pruned.
        kept: bool ``[B, t, h, w]``: the tokens that are still there, on the grid of the whole clip.
    """

    block: int
    kept: Tensor


@contextmanager
def record_prunings(backbone: KeyframeVisionTransformer) -> Iterator[list[Pruning]]:
    """Watches what the encoder drops.

    Args:
        backbone: the encoder, ``model.backbone`` of a detector.

    Yields:
        A list that each forward pass fills anew, one entry per pruning; empty as long as the keep rate is 1.

    Examples:
        >>> with record_prunings(model.backbone) as prunings:
        ...     model.test_step(batch)
        >>> [int(pruning.kept[0].sum()) for pruning in prunings]
        [1815, 1271, 890]
    """
    selections: list[Tensor] = []
    prunings: list[Pruning] = []

    def note(module: nn.Module, args: tuple, kept: Tensor) -> None:
        selections.append(kept)

    def finish(module: nn.Module, args: tuple, tokens: ClipTokens) -> None:
        masks = kept_masks(selections, tokens.grid)
        prunings[:] = map(Pruning, sorted(set(backbone.prune_blocks)), masks)
        selections.clear()

    handles = backbone.selection.register_forward_hook(note), backbone.register_forward_hook(finish)
    try:
        yield prunings
    finally:
        for handle in handles:
            handle.remove()


def kept_masks(selections: Sequence[Tensor], grid: tuple[int, int, int]) -> list[Tensor]:
    """Selections that follow each other, as masks over the clip.

    Args:
        selections: what each pruning kept, ``[B, k]``: indices into the tokens outside of the key frame which the one
            before left, in its order.
        grid: tokens of the whole clip in time (t), height and width; slice t // 2 is the key frame's.

    Returns:
        bool ``[B, t, h, w]`` for each selection.
    """
    num_slices, height, width = grid
    num_key = height * width
    middle = num_slices // 2 * num_key
    masks, places = [], None
    for kept in selections:
        places = kept if places is None else places.gather(1, kept)
        others = torch.zeros(len(kept), (num_slices - 1) * num_key, dtype=torch.bool, device=kept.device)
        others.scatter_(1, places, True)
        key = others.new_ones(len(kept), num_key)
        masks.append(torch.cat([others[:, :middle], key, others[:, middle:]], dim=1).unflatten(1, grid))
    return masks


def draw_prunings(
    images: np.ndarray, prunings: Sequence[Pruning], patch_size: int, frame_numbers: Sequence[int], title: str
) -> np.ndarray:
    """Draws the first clip of a batch: the frames, and below them what each pruning left.

    A column is a slice in time of the tokens (a tubelet), of which one frame is shown: that at the key frame's place
    in its own tubelet, so that the frames lie evenly and the key frame is one of them. Its column is outlined. What was
    dropped is grey and dark. Tokens of the padding are counted, but not shown.

    Args:
        images: the clip as the model sees it before padding, uint8 ``[T, H, W, 3]`` in BGR order.
        prunings: of :func:`record_prunings`, at least one.
        patch_size: side of a token in pixels.
        frame_numbers: numbers to write above the frames, one for each image.
        title: first line.

    Returns:
        The picture, uint8 ``[h, w, 3]`` in BGR order.
    """
    num_slices = prunings[0].kept.shape[1]
    tubelet, centre, key = len(images) // num_slices, len(images) // 2, num_slices // 2
    shown = [centre + (number - key) * tubelet for number in range(num_slices)]
    frames, numbers = [images[i] for i in shown], [frame_numbers[i] for i in shown]
    headings = [f'{"key " if column == key else ""}frame {number}' for column, number in enumerate(numbers)]
    total = prunings[0].kept[0].numel()
    grid = [-(-side // patch_size) for side in frames[0].shape[:2]]
    hidden = total - num_slices * grid[0] * grid[1]
    caption = f'input: {total} tokens' + (f', {hidden} of them in the padding, not shown' if hidden else '')
    rows: list[tuple[str, Any]] = [(caption, np.ones((num_slices, *grid), bool))]
    for block, kept in prunings:
        count = int(kept[0].sum())
        rows.append((f'block {block}: {count} of {total} tokens ({count / total:.0%})', kept[0].cpu().numpy()))

    tiles = [[draw_tile(*pair, patch_size) for pair in zip(frames, mask, strict=True)] for _, mask in rows]
    column = max(tiles[0][0].shape[1], *map(_text_width, headings))
    texts = [title, *(caption for caption, _ in rows)]
    width = _GAP + max(num_slices * (column + _GAP), max(map(_text_width, texts)) + _GAP)
    strips = [_write_line(width, {_GAP: title})]
    lefts = [_GAP + number * (column + _GAP) for number in range(num_slices)]
    strips.append(_write_line(width, dict(zip(lefts, headings, strict=True))))
    for (caption, _), row in zip(rows, tiles, strict=True):
        strips += [_write_line(width, {_GAP: caption}), _lay_out(width, row, lefts, key)]
    return np.concatenate(strips)


def draw_tile(image: np.ndarray, kept: np.ndarray, patch_size: int) -> np.ndarray:
    """One frame, with the tokens that were dropped in dark grey.

    Args:
        image: uint8 ``[H, W, 3]`` in BGR order.
        kept: bool ``[h, w]``, one per token; those beyond the image are left out.
        patch_size: side of a token in pixels of the image.

    Returns:
        The frame, scaled such that a token is a whole number of pixels wide and the longer side about 240 pixels long.
    """
    height, width = image.shape[:2]
    cell = max(_TILE * patch_size // max(height, width, patch_size), 1)
    size = [max(round(side * cell / patch_size), 1) for side in (width, height)]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if cell < patch_size else cv2.INTER_LINEAR)
    dark = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) * DROPPED_CONTRAST + DROPPED_BLACK).astype(np.uint8)
    visible = kept.repeat(cell, axis=0).repeat(cell, axis=1)[: size[1], : size[0]]
    return np.where(visible[..., None], image, dark[..., None])


def _lay_out(width: int, tiles: Sequence[np.ndarray], lefts: Sequence[int], key: int) -> np.ndarray:
    """A row of frames, that of the key frame in an outline which hides nothing of it."""
    height, tile_width = tiles[0].shape[:2]
    strip = np.full((height + 2 * _GAP, width, 3), 255, np.uint8)
    left, line = lefts[key], _KEY_LINE
    strip[_GAP - line : _GAP + height + line, left - line : left + tile_width + line] = _KEY_COLOR
    for tile, left in zip(tiles, lefts, strict=True):
        strip[_GAP : _GAP + height, left : left + tile_width] = tile
    return strip


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _TEXT_SCALE, 1)[0][0]


def _write_line(width: int, texts: dict[int, str]) -> np.ndarray:
    """A line with texts, each from its left end on."""
    strip = np.full((_LINE, width, 3), 255, np.uint8)
    for left, text in texts.items():
        cv2.putText(strip, text, (left, _LINE - _GAP), _FONT, _TEXT_SCALE, _INK, 1, cv2.LINE_AA)
    return strip

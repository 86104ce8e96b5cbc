"""Draws videos at random in which solids wander, turn, cross in front of each other and have look-alikes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.actions import Motion
from mvbench_plugins.datasets.toy.random_scene import random_background
from mvbench_plugins.datasets.toy.scene import Solid
from mvbench_plugins.datasets.toy.shapes import CLASSES
from mvbench_plugins.datasets.toy.video_scene import Track, VideoScene

SHAPES = tuple(name for name in CLASSES if name != 'crescent')  # whose horns are thinner than a stride of 4 pixels
STRETCH = 8  # frames that a solid keeps its direction
SIZES = (0.28, 0.5)  # diameter, in shares of the image's shorter side
STEPS = (0.15, 0.38)  # how far a solid gets in a stretch, in the same shares
GROWTH = 0.15  # largest change of the logarithm of the size in a stretch
TURN = 0.15  # most turns in a stretch, to either side
PAN = 0.25  # share of the image's sides by which the background moves at most in a video
TARGETS = (1, 4)  # solids from the first frame on
LATE = (0, 2)  # solids that enter later
TWIN_CHANCE = 0.6  # that a solid looks like an earlier one
TWIN_CONTRAST = (50.0, 80.0)  # distance of twins' colours, in BGR grey levels
MUTUAL_CONTRAST = 110.0  # the same between solids that are no twins
BACKGROUND_CONTRAST = 110.0  # distance of a solid's colour to the mean of the background
FIRST_VISIBLE = 0.6  # share of itself that a solid shows where it appears, in its first frame, at least
VISIBLE, OFTEN = 0.25, 0.85  # share of itself that each target shows in this share of the frames at least
CROSSED = 0.5  # share of itself that some target shows at most in some frame, if there are several solids
_GRAIN = 6  # pixels: size of the finest blotches of the background
_TRIES = 200  # colours that are drawn for one solid before all colours are drawn anew


def random_crossing(rng: np.random.Generator, size: tuple[int, int], frames: int) -> tuple[VideoScene, int]:
    """Draws a video of 1 to 4 targets, and up to 2 solids that enter later at the edge of the image.

    Args:
        rng: Source of all randomness: equal states give equal videos.
        size: ``(width, height)`` in pixels.
        frames: Length of the video.

    Returns:
        The video, and how many of its tracks, the first ones, are targets. Each target can be seen well in the first
        frame and most of the time after it; of several solids one at least is hidden by half for a while.
    """
    # Drawn once: fair videos of few solids are found sooner, and would be too many.
    targets = int(rng.integers(TARGETS[0], TARGETS[1] + 1))
    late = int(rng.integers(LATE[0], LATE[1] + 1))
    while True:
        travel = rng.uniform(-PAN, PAN, 2) * size
        canvas = _textured_background(rng, *np.ceil(np.abs(travel) + size).astype(int).tolist())
        looks = _random_looks(rng, canvas.mean((0, 1)), targets + late)
        depths = rng.permutation(targets + late)  # those that enter pass in front of others or behind them
        tracks = tuple(
            _random_track(rng, size, frames, replace(look, depth=float(depths[index])), index >= targets)
            for index, look in enumerate(looks)
        )
        pan = travel / max(frames - 1, 1)
        corner = np.where(travel < 0, -travel, 0.0)  # the image starts at the edge of the canvas that it leaves
        noise, noise_seed = rng.uniform(2, 8), int(rng.integers(2**31))
        video = VideoScene(canvas, size, tuple(corner.tolist()), tuple(pan.tolist()), tracks, noise, noise_seed)
        if _is_fair(video, targets, frames):
            return video, targets


def _textured_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """The toy world's background with finer blotches on it, float32 ``(height, width, 3)``, 0 to 255."""
    grid = rng.uniform(-30, 30, (height // _GRAIN + 1, width // _GRAIN + 1, 3)).astype(np.float32)
    grain = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(random_background(rng, height, width) + grain, 0, 255)


def _random_looks(rng: np.random.Generator, background: np.ndarray, count: int) -> list[Solid]:
    """Solids that differ in shape or colour: those of one shape have similar colours, and the other way round."""
    while True:
        looks: list[Solid] = []
        for _ in range(count * _TRIES):
            shape, colour = SHAPES[rng.integers(len(SHAPES))], rng.uniform(0, 255, 3)
            twin = looks[rng.integers(len(looks))] if looks and rng.random() < TWIN_CHANCE else None
            if twin is not None and rng.random() < 0.5:
                away = rng.normal(size=3)
                shape = twin.shape
                colour = twin.colour + away / np.linalg.norm(away) * rng.uniform(*TWIN_CONTRAST)
            elif twin is not None:
                colour = np.array(twin.colour)
            new = Solid(shape, 1.0, (0.0, 0.0), 0.0, tuple(colour.tolist()), 0.0, ripple=rng.uniform(0, 2 * np.pi))
            if _stands_out(new, looks, twin, background):
                looks.append(new)
            if len(looks) == count:
                return looks


def _stands_out(new: Solid, others: list[Solid], twin: Solid | None, background: np.ndarray) -> bool:
    """Whether a solid can be told from the background and from each other solid."""
    if min(new.colour) < 0 or max(new.colour) > 255:
        return False
    if np.linalg.norm(np.subtract(new.colour, background)) < BACKGROUND_CONTRAST:
        return False
    for other in others:
        contrast = np.linalg.norm(np.subtract(new.colour, other.colour))
        wanted = TWIN_CONTRAST[0] if other is twin else MUTUAL_CONTRAST
        if contrast < wanted and (other is not twin or new.shape == other.shape):
            return False
    return True


def _random_track(rng: np.random.Generator, size: tuple[int, int], frames: int, look: Solid, is_late: bool) -> Track:
    """The way of a solid, whose centre stays in the image; a late one begins at the left or right edge."""
    side, begin = min(size), 0
    low, high = np.multiply(size, 0.1), np.multiply(size, 0.9)
    position = rng.uniform(low, high)
    if is_late:
        begin = int(rng.integers(frames // 5, frames // 2))
        position[0] = rng.choice((low[0], high[0]))
    solid = replace(
        look,
        size=float(rng.uniform(*SIZES) * side),
        position=tuple(position.tolist()),
        angle=float(rng.uniform(0, 2 * np.pi)),
    )
    motions: list[Motion] = []
    while len(motions) * STRETCH < frames - begin:
        angle = rng.uniform(0, 2 * np.pi)
        step = rng.uniform(*STEPS) * side * np.array([np.cos(angle), np.sin(angle)])
        if np.any(position + step < low) or np.any(position + step > high):
            continue
        position = position + step
        growth, turns = rng.uniform(-GROWTH, GROWTH), rng.uniform(-TURN, TURN)
        velocity = tuple((step / STRETCH).tolist())
        motions.append(Motion(velocity, float(growth / STRETCH), float(turns * 2 * np.pi / STRETCH)))
    return Track(solid, (solid.colour, solid.colour), tuple(motions), begin, STRETCH, (begin, frames))


def _is_fair(video: VideoScene, targets: int, frames: int) -> bool:
    """Whether all solids can be seen where they appear, the targets later on as well, and there is a crossing."""
    shares = np.array([_visible_shares(video, frame) for frame in range(frames)])
    first = [shares[track.first_seen, index] for index, track in enumerate(video.tracks)]
    often = (shares[:, :targets] >= VISIBLE).mean(0)
    crossed = len(video.tracks) == 1 or shares[:, :targets].min() <= CROSSED
    return min(first) >= FIRST_VISIBLE and often.min() >= OFTEN and bool(crossed)


def _visible_shares(video: VideoScene, t: int) -> list[float]:
    """Which share of each solid's whole area can be seen at a time; 0 before it enters."""
    ids = np.full(video.size[::-1], -1)
    areas = np.ones(len(video.tracks))
    for index in sorted(range(len(video.tracks)), key=lambda i: -video.tracks[i].solid.depth):
        if video.tracks[index].is_seen(t):
            solid = video.tracks[index].at(t)
            window, coverage = solid.coverage(*video.size[::-1])
            ids[window][coverage >= 0.5] = index
            areas[index] = _area(solid)
    return [float((ids == index).sum() / areas[index]) for index in range(len(areas))]


def _area(solid: Solid) -> float:
    """Area of a solid in pixels, holes left out, wherever it lies."""
    outer, *holes = (cv2.contourArea(contour.astype(np.float32)) for contour in solid.contours())
    return outer - sum(holes)

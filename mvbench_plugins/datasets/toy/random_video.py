"""Draws moving scenes at random, such that no single frame tells what a solid is doing.

What a solid does in a stretch of time is drawn independently of how it looks and stands in the middle of that stretch:

* A motion is drawn together with a *pace* along each axis (x, y, size), whether the solid moves along that axis or not,
  and is accepted if the solid could move at that pace in both directions without leaving its limits.
* The first stretch is drawn by its middle, uniformly; the following ones begin where the one before has ended. This is
  a random walk that is reversible in time, and in each of its steps the middle is independent of the actions.
* Every solid has two colours and shows either one with equal chance, blinking or not. Only shapes whose turning can be
  seen, and happens about their own middle, take part.

Between several solids the rule has one exception: they keep their distance along the paths they really take.
"""

import numpy as np

from mvbench_plugins.datasets.toy.actions import Motion
from mvbench_plugins.datasets.toy.random_scene import random_background
from mvbench_plugins.datasets.toy.scene import Solid
from mvbench_plugins.datasets.toy.video_scene import Track, VideoScene

FPS = 30  # the paces below are those of a video at this rate
SHAPES = ('square', 'triangle', 'star', 'cross', 'bar')
SIZES = (0.16, 0.48)  # smallest and largest diameter, in shares of the image's shorter side
SPEEDS = (0.15, 0.3)  # shorter sides a second
GROWTHS = (np.log(1.4), np.log(1.8))  # logarithm of the factor a second
TURNS = (0.25, 0.6)  # turns a second
SWITCHES = (5, 6)  # frames between two changes of a blinking solid's colour: not 4, which every 8th frame does not show
PANS = (0.03, 0.1)  # shorter sides a second that the background moves
CHANCE = 0.25  # of each action
BACKGROUND_CONTRAST = 130.0  # distance of a solid's colours to the mean of the background, in BGR grey levels
MUTUAL_CONTRAST = 70.0  # the same between any two colours of one video
DISTANCE = 0.75  # between two solids' centres, in shares of the sum of their radii
_BATCH = 64  # motions of a solid that are drawn at once
_INSTANTS = np.linspace(-0.5, 0.5, 7)  # of a stretch, at which the distance between solids is looked at

# The column (x, y, size, blinking, turning) and the sign in which each action of ACTIONS shows.
_SIGNS = ((0, -1), (0, 1), (1, -1), (1, 1), (2, 1), (2, -1), (3, 1), (4, 1))


def random_video(
    rng: np.random.Generator,
    size: tuple[int, int],
    frames: int,
    *,
    solids: int,
    begin: float,
    length: int,
    stretches: int = 1,
    action: int | None = None,
) -> VideoScene:
    """Draws a video in which each solid does something new in every stretch of time.

    Args:
        rng: Source of all randomness: equal states give equal videos.
        size: ``(width, height)`` in pixels.
        frames: Length of the video.
        solids: Number of solids.
        begin: Time at which the first stretch begins, in frames.
        length: Frames of one stretch.
        stretches: Number of stretches.
        action: Id of the one action that all solids show all the time; by default each one shows any number of them.
    """
    pan = _between(rng, PANS) * min(size) / FPS * _direction(rng)
    travel = np.abs(pan) * (frames - 1)
    columns, rows = (np.ceil(travel).astype(int) + size).tolist()
    canvas = random_background(rng, rows, columns)
    paths, motions = _random_paths(rng, size, solids, length, stretches, action)
    colours = _random_colours(rng, canvas.mean((0, 1)), solids)
    tracks = []
    for index, (x, y, log_diameter) in enumerate(paths.tolist()):
        solid = Solid(
            SHAPES[rng.integers(len(SHAPES))],
            float(np.exp(log_diameter)),
            (x, y),
            angle=rng.uniform(0, 2 * np.pi),
            colour=colours[index][0],
            depth=float(-index),
            ripple=rng.uniform(0, 2 * np.pi),
        )
        tracks.append(Track(solid, colours[index], tuple(motion[index] for motion in motions), begin, length))
    corner = np.where(pan < 0, travel, 0.0)  # the image starts at the edge of the canvas that it leaves
    noise, noise_seed = rng.uniform(2, 8), int(rng.integers(2**31))
    return VideoScene(canvas, size, tuple(corner.tolist()), tuple(pan.tolist()), tuple(tracks), noise, noise_seed)


def _random_paths(
    rng: np.random.Generator, size: tuple[int, int], solids: int, length: int, stretches: int, action: int | None
) -> tuple[np.ndarray, list[list[Motion]]]:
    """Draws where the solids are at first, ``(solids, 3)`` as x, y, log diameter, and each stretch's motions."""
    start, now = None, None
    motions: list[list[Motion]] = []
    # This ends: from where a motion has led to, at least the way back is free.
    while len(motions) < stretches:
        signs = _random_signs(rng, (_BATCH, solids), action)
        paces = np.stack([_between(rng, SPEEDS, (_BATCH, solids)) * min(size) for _ in range(2)], axis=-1)
        paces = np.concatenate([paces, _between(rng, GROWTHS, (_BATCH, solids, 1))], axis=-1) / FPS
        shifts = signs[..., :3] * paces * length
        if now is None:
            low, high = (0, 0, np.log(SIZES[0] * min(size))), (*size, np.log(SIZES[1] * min(size)))
            middles = rng.uniform(low, high, shifts.shape)
        else:
            middles = now + shifts / 2
        fits = _fits(middles, paces * length / 2, size)
        if not fits.any(axis=0).all():
            continue
        first = fits.argmax(axis=0), np.arange(solids)  # of each solid the first motion that keeps it in its limits
        middle, shift = middles[first], shifts[first]
        if not _apart(middle, shift):
            continue
        if start is None:
            start = middle - shift / 2
        now = middle + shift / 2
        motions.append([_motion(rng, *one) for one in zip(signs[first], paces[first], strict=True)])
    return start, motions


def _random_signs(rng: np.random.Generator, shape: tuple[int, ...], action: int | None) -> np.ndarray:
    """What solids do, ``(*shape, 5)``: -1, 0 or 1 for x, y and size, 0 or 1 for blinking and turning."""
    signs = np.zeros((*shape, 5), int)
    if action is not None:
        column, sign = _SIGNS[action - 1]
        signs[..., column] = sign
        return signs
    signs[..., :3] = rng.choice((-1, 0, 1), (*shape, 3), p=(CHANCE, 1 - 2 * CHANCE, CHANCE))
    signs[..., 3:] = rng.random((*shape, 2)) < CHANCE
    return signs


def _fits(middles: np.ndarray, reach: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether solids stay in the image and in the range of sizes if they move by ``reach`` to either side."""
    largest = middles[..., 2] + reach[..., 2]
    radii = np.exp(largest) / 2
    margins = reach[..., :2] + radii[..., None]
    inside = np.all((middles[..., :2] >= margins) & (middles[..., :2] <= np.array(size) - margins), axis=-1)
    smallest = middles[..., 2] - reach[..., 2]
    return inside & (smallest >= np.log(SIZES[0] * min(size))) & (largest <= np.log(SIZES[1] * min(size)))


def _apart(middles: np.ndarray, shifts: np.ndarray) -> bool:
    """Whether all solids, ``(n, 3)``, keep their distance from each other all the time."""
    path = middles + _INSTANTS[:, None, None] * shifts  # [instants, n, 3]
    radii = np.exp(path[..., 2]) / 2
    distances = np.linalg.norm(path[:, :, None, :2] - path[:, None, :, :2], axis=-1)
    wanted = DISTANCE * (radii[:, :, None] + radii[:, None, :])
    first, second = np.triu_indices(len(middles), 1)
    return bool(np.all((distances >= wanted)[:, first, second]))


def _motion(rng: np.random.Generator, signs: np.ndarray, pace: np.ndarray) -> Motion:
    """The motion of a solid, with what no limit depends on drawn now."""
    x, y, growth = (signs[:3] * pace).tolist()
    spin = _between(rng, TURNS) * 2 * np.pi / FPS * rng.choice((-1, 1))
    every = int(rng.integers(SWITCHES[0], SWITCHES[1] + 1))
    phase = int(rng.integers(every))
    is_blinking, is_turning = signs[3:].tolist()
    return Motion((x, y), growth, float(spin) * is_turning, every * is_blinking, phase * is_blinking)


def _random_colours(rng: np.random.Generator, background: np.ndarray, solids: int) -> list[tuple]:
    """Two colours for each solid, all of them far from each other and from the background."""
    colours: list[np.ndarray] = []
    tries = 0
    while len(colours) < 2 * solids:
        colour = rng.uniform(0, 255, 3)
        far = all(np.linalg.norm(colour - other) >= MUTUAL_CONTRAST for other in colours)
        if far and np.linalg.norm(colour - background) >= BACKGROUND_CONTRAST:
            colours.append(colour)
        tries += 1
        if tries % 1000 == 0:  # the first colours leave no room for the last ones
            colours.clear()
    # Shuffled, as the later ones were drawn under more conditions: no colour is the first one more often.
    colours = [tuple(colours[index].tolist()) for index in rng.permutation(2 * solids)]
    return list(zip(colours[::2], colours[1::2], strict=True))


def _between(rng: np.random.Generator, limits: tuple[float, float], shape: tuple[int, ...] | None = None):
    return rng.uniform(*limits, shape)


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A unit vector, ``(2,)``."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])

"""The eight shapes of the toy world: their names, drawing colours and outlines.

A shape *is* its class. Colour, size and rotation are free, so a detector has to look at the outline.
"""

import numpy as np

#: Class names, in label order. The category id in COCO files is the index plus one.
CLASSES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross', 'crescent', 'bar')

#: One RGB colour per class, for drawing predictions (the solids themselves have random colours).
PALETTE = (
    (220, 20, 60),
    (0, 130, 200),
    (60, 180, 75),
    (255, 200, 25),
    (145, 30, 180),
    (245, 130, 48),
    (70, 220, 240),
    (240, 50, 230),
)

#: Supercategory of every class, as COCO files carry it.
SUPERCATEGORIES = ('round', 'angular', 'angular', 'pointed', 'round', 'angular', 'round', 'angular')


def _circle(radius: float = 1.0, start: float = 0.0, stop: float = 2 * np.pi, points: int = 64) -> np.ndarray:
    """Points on an arc around the origin, ``(points, 2)``; the end point is left out."""
    angles = np.linspace(start, stop, points, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(tips: int = 5, inner: float = 0.42) -> np.ndarray:
    """Star polygon, ``(2 * tips, 2)``, with the tips on the unit circle."""
    outline = _circle(points=2 * tips)
    outline[1::2] *= inner
    return outline


def _cross(half_width: float = 0.3) -> np.ndarray:
    """Plus sign, ``(12, 2)``, with the arm corners on the unit circle."""
    long, short = np.sqrt(1 - half_width**2), half_width
    arm = np.array([[long, -short], [long, short], [short, short]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a quarter turn, for row vectors
    return np.concatenate([arm, arm @ turn, arm @ turn @ turn, arm @ turn @ turn @ turn])


def _crescent(tip: float = 2.0, bite: float = 0.75) -> np.ndarray:
    """Moon, ``(96, 2)``: the unit circle minus a second disc, both cut at two common tips.

    Args:
        tip: Angle in radians, from the x axis, at which both arcs meet (at ``+-tip``).
        bite: How far the inner arc reaches on the way from the tips' chord to the far side, 0 to 1.

    Returns:
        The outline: first the outer arc on the unit circle, then the inner arc back.
    """
    outer = _circle(start=-tip, stop=tip)
    chord_x, chord_y = np.cos(tip), np.sin(tip)
    depth = bite * (1 - chord_x)  # how far the inner arc bulges beyond the chord
    radius = (chord_y**2 + depth**2) / (2 * depth)
    centre_x = chord_x + depth - radius
    half_angle = np.arctan2(chord_y, chord_x - centre_x)
    inner = _circle(radius, half_angle, -half_angle, points=32) + (centre_x, 0.0)
    return np.concatenate([outer, inner])


def _bar(thickness: float = 0.36) -> np.ndarray:
    """Elongated rectangle, ``(4, 2)``; ``thickness`` is its short side divided by its long one."""
    corners = np.array([[1, thickness], [-1, thickness], [-1, -thickness], [1, -thickness]])
    return corners / np.linalg.norm(corners[0])


#: Closed contours of every shape inside the unit circle; an inner contour is a hole (even-odd rule).
OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    'disc': (_circle(),),
    'square': (_circle(points=4),),
    'triangle': (_circle(points=3),),
    'star': (_star(),),
    'ring': (_circle(), _circle(0.55)),
    'cross': (_cross(),),
    'crescent': (_crescent(),),
    'bar': (_bar(),),
}

"""Objects on a picture: tinted, outlined and labelled where they are, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np

from mvbench_plugins.apis.vos_drawing import draw_objects
from mvbench_plugins.apis.vos_output import to_record
from mvbench_plugins.common.palette_png import davis_palette

HEIGHT, WIDTH = 300, 400


def ring_and_square() -> np.ndarray:
    """A ring, whose middle is background, and a square that is cut by the border."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(labels, (120, 150), 60, 1, 24)
    labels[200:, 340:] = 12
    return labels


def test_objects_are_drawn_in_their_colours_and_the_rest_stays():
    picture, labels = np.full((HEIGHT, WIDTH, 3), 100, np.uint8), ring_and_square()
    drawn = draw_objects(picture, labels, davis_palette())
    assert (picture == 100).all() and drawn.shape == picture.shape
    near = cv2.dilate((labels > 0).astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert (drawn[~near] == 100).all()
    assert (drawn[150, 120] == 100).all()  # the middle of the ring
    for label in (1, 12):
        inside = labels == label
        tint = np.abs(drawn[inside].astype(int) - (50 + davis_palette()[label, ::-1] / 2)).max(-1) <= 1
        assert 0.4 < tint.mean() < 0.98  # the rest is outline and label


def test_label_stands_on_the_object():
    labels = ring_and_square()
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for label in (1, 12):
        alone = np.where(labels == label, labels, 0)
        # White is in the letters only: both colours are dark.
        white = draw_objects(black, alone, davis_palette()).min(-1) > 150
        y, x = np.nonzero(white)
        assert len(x) > 5 and alone[round(y.mean()), round(x.mean())] == label


def test_small_frames_are_enlarged_for_the_label():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40] = 3
    drawn = draw_objects(np.zeros((40, 60, 3), np.uint8), labels, davis_palette())
    assert drawn.shape == (480, 720, 3) and drawn[:100].max() == 0 and drawn[130:350, 250:470].any()


def test_record_tells_area_and_box():
    labels = ring_and_square()
    record = to_record(7, 'name', labels)
    assert (record['frame'], record['name']) == (7, 'name')
    ring, square = record['objects']
    assert square == dict(id=12, area=6000, box=[340, 200, 400, 300])
    assert ring['id'] == 1 and ring['area'] == (labels == 1).sum()
    y, x = np.nonzero(labels == 1)
    assert ring['box'] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert to_record(0, 'empty', np.zeros_like(labels))['objects'] == []

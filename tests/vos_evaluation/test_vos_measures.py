"""J and F against plain loops over pixels."""

import cv2
import numpy as np
import pytest
from vos_protocol import contour, region

from mvbench_plugins.evaluation.vos_measures import contour_tolerance, frame_measures

LABELS = (1, 2, 3, 4, 5, 250)


def drawn_mask(rng: np.random.Generator, shape: tuple[int, int], labels=LABELS) -> np.ndarray:
    """Discs that reach over the edges and hide each other."""
    mask = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(9)):
        centre = (int(rng.integers(-5, shape[1] + 5)), int(rng.integers(-5, shape[0] + 5)))
        cv2.circle(mask, centre, int(rng.integers(1, max(shape) // 2 + 2)), int(rng.choice(labels)), -1)
    return mask


def expected(prediction: np.ndarray, truth: np.ndarray, labels) -> np.ndarray:
    pairs = [(prediction == label, truth == label) for label in labels]
    return np.array([(region(*pair), contour(*pair)) for pair in pairs])


@pytest.mark.parametrize('shape', [(24, 40), (31, 17), (1, 9), (6, 1), (40, 140), (9, 420)])
def test_equal_to_plain_loops(shape):
    rng = np.random.default_rng(shape)
    seen = []
    for trial in range(4 if max(shape) > 100 else 12):
        prediction, truth = drawn_mask(rng, shape), drawn_mask(rng, shape)
        if trial % 3 == 0:  # what a model does: nearly right, with single wrong pixels
            prediction = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
            prediction[rng.random(shape) < 0.02] = rng.choice(LABELS)
        found = frame_measures(prediction, truth, LABELS)
        np.testing.assert_allclose(found, expected(prediction, truth, LABELS), rtol=0, atol=1e-6)
        seen.append(found)
    if min(shape) > 10:
        between = np.concatenate(seen)
        assert np.all(((between > 0) & (between < 1)).sum(0) > 3)  # not only the trivial cases


def test_tolerance_is_that_of_the_toolkit():
    assert [contour_tolerance(*size) for size in ((480, 854), (1080, 1920), (720, 1280), (24, 40))] == [8, 18, 12, 1]


def test_boundaries_match_up_to_the_tolerance_and_no_further():
    truth = np.zeros((480, 854), np.uint8)
    truth[100:300, 200] = 1  # a line: boundary columns 199 and 200
    for shift, matches in ((7, True), (8, True), (9, True), (10, False)):
        prediction = np.roll(truth, shift, axis=1)
        (j, f), *_ = frame_measures(prediction, truth, [1])
        assert j == 0
        # Shifted by 9 pixels, one of the two columns of each boundary is still 8 pixels away from the other's nearer.
        assert (f > 0.4) == matches and (f > 0.9) == (shift <= 8)


@pytest.mark.parametrize('touching', [False, True])
def test_perfect_empty_and_full_masks(touching):
    mask = np.zeros((60, 80), np.uint8)
    mask[(slice(0, 30), slice(0, 40)) if touching else (slice(5, 30), slice(5, 40))] = 1
    empty, full = np.zeros_like(mask), np.ones_like(mask)
    for same in (mask, empty, full):
        assert frame_measures(same, same, [1]).tolist() == [[1, 1]]
    assert frame_measures(empty, mask, [1]).tolist() == [[0, 0]]
    assert frame_measures(mask, empty, [1]).tolist() == [[0, 0]]
    # A mask that fills the image has no boundary: the toolkit's F cannot tell it from an empty one.
    assert frame_measures(full, empty, [1]).tolist() == [[0, 1]]
    assert frame_measures(full, mask, [1]).tolist() == [[mask.mean(), 0]]


def test_objects_do_not_depend_on_their_neighbours_in_a_byte():
    rng = np.random.default_rng(0)
    labels = range(1, 12)
    prediction, truth = (drawn_mask(rng, (50, 70), labels) for _ in range(2))
    together = frame_measures(prediction, truth, labels)
    alone = [frame_measures(prediction, truth, [label])[0] for label in labels]
    np.testing.assert_array_equal(together, alone)
    assert frame_measures(prediction, truth, []).shape == (0, 2)


def test_void_pixels_count_for_nobody():
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 10:30] = 1
    truth[10:30, 30:40] = 255
    prediction = np.where(truth > 0, 1, 0).astype(np.uint8)
    before = prediction.copy(), truth.copy()
    assert frame_measures(prediction, truth, [1], void=255).tolist() == [[1, 1]]
    (j, f), *_ = frame_measures(prediction, truth, [1])
    assert j == pytest.approx(2 / 3) and f < 1
    np.testing.assert_array_equal((prediction, truth), before)


def test_inputs_may_be_views_of_other_arrays():
    rng = np.random.default_rng(5)
    large = [drawn_mask(rng, (60, 90)) for _ in range(2)]
    views = [mask[5:50:1, 3:80] for mask in large]
    np.testing.assert_array_equal(
        frame_measures(*views, LABELS), frame_measures(*(view.copy() for view in views), LABELS)
    )

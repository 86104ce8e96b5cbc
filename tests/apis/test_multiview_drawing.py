"""Pictures of six views and from above: what is drawn where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData

from mvbench_plugins.apis.draw_actions import action_color
from mvbench_plugins.apis.multiview_bev import draw_bev
from mvbench_plugins.apis.multiview_boxes import annotated_boxes, predicted_boxes, project_lines
from mvbench_plugins.apis.multiview_views import draw_views
from mvbench_plugins.sparsebev.frames import CAMERAS

HEADINGS = (0, -60, 60, 180, 120, -120)  # of CAMERAS, degrees to the left
WIDTH, HEIGHT, FOCAL = 320, 180, 160.0
#: Column and row of each camera in the drawing.
PLACES = dict(
    CAM_FRONT_LEFT=(0, 0),
    CAM_FRONT=(1, 0),
    CAM_FRONT_RIGHT=(2, 0),
    CAM_BACK_LEFT=(0, 1),
    CAM_BACK=(1, 1),
    CAM_BACK_RIGHT=(2, 1),
)
LEFT = np.pi  # yaw of what heads to the left; ahead is pi / 2


def projection(heading: float) -> np.ndarray:
    """Of a camera at the LiDAR that looks so many degrees to the left of ahead, written down by hand."""
    angle = np.radians(heading)
    rotation = [[np.cos(angle), np.sin(angle), 0], [0, 0, -1], [-np.sin(angle), np.cos(angle), 0]]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]) @ rotation
    return matrix


RIG = np.array([projection(heading) for heading in HEADINGS])


def boxes_at(*rows: tuple[float, ...]) -> LiDARInstance3DBoxes:
    """Boxes (x, y, z of the bottom, length, width, height, yaw, vx, vy)."""
    return LiDARInstance3DBoxes(torch.tensor(rows), box_dim=9)


def drawn(picture: np.ndarray) -> np.ndarray:
    """Where a drawing on black has anything."""
    return picture.max(-1) > 60


def views(boxes: LiDARInstance3DBoxes, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Drawn pixels of each view, with black pictures, without the names of the cameras."""
    images = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in CAMERAS]
    empty = drawn(draw_views(images, RIG, [], width))
    picture = drawn(draw_views(images, RIG, [annotated_boxes(boxes)], width)) & ~empty
    rows = [np.split(row, 3, axis=1) for row in np.split(picture, 2)]
    return {camera: rows[row][column] for camera, (column, row) in PLACES.items()}


@pytest.mark.parametrize('camera', CAMERAS)
def test_a_box_before_a_camera_is_drawn_in_its_view_alone(camera):
    angle = np.radians(HEADINGS[CAMERAS.index(camera)])
    found = views(boxes_at((-12 * np.sin(angle), 12 * np.cos(angle), -1, 2, 2, 2, 0.3, 0, 0)))
    assert {name for name, pixels in found.items() if pixels.any()} == {camera}


@pytest.mark.parametrize('width', [WIDTH, 2 * WIDTH, WIDTH // 2])
def test_edges_lie_where_the_pinhole_puts_the_corners(width):
    # 4 m long to the left, 2 m deep, 1.6 m high: front face 9 m ahead
    found = views(boxes_at((1.0, 10.0, -1.0, 4.0, 2.0, 1.6, LEFT, 0.0, 0.0)), width)['CAM_FRONT']
    corners = np.array([(x, y, z) for x in (-1, 3) for y in (9, 11) for z in (-1, 0.6)])
    pixels = (FOCAL * corners[:, [0, 2]] * (1, -1) / corners[:, 1:2] + (WIDTH / 2, HEIGHT / 2)) * width / WIDTH
    for x, y in pixels.round().astype(int):
        assert found[y - 1 : y + 2, x - 1 : x + 2].any()
    rows, columns = np.where(found)
    expected = [*pixels.min(0), *pixels.max(0)]
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], expected, atol=3)
    hull = cv2.fillConvexPoly(np.zeros(found.shape, np.uint8), cv2.convexHull(pixels.round().astype(np.int32)), 1)
    assert not found[cv2.dilate(hull, np.ones((7, 7))) == 0].any()


def test_the_front_is_thicker():
    heading = {}
    for name, yaw in (('left', LEFT), ('right', 0.0)):
        found = views(boxes_at((0.0, 10.0, -1.0, 4.0, 2.0, 1.6, yaw, 0.0, 0.0)), 960)['CAM_FRONT']
        heading[name] = [half.sum() for half in np.split(found, 2, axis=1)]
    assert heading['left'][0] > 1.2 * heading['left'][1]
    assert heading['right'][1] > 1.2 * heading['right'][0]


def test_a_box_beside_the_camera_stays_beside_it():
    """From 3 m behind to 5 m ahead, 2 m to the left: in the left half of the front view, cut off at its edge."""
    found = views(boxes_at((-2.0, 1.0, -1.0, 8.0, 1.0, 1.5, np.pi / 2, 0.0, 0.0)))
    front = found['CAM_FRONT']
    assert front[:, : WIDTH // 2].any() and not front[:, WIDTH // 2 + 2 :].any()
    assert front[:, :3].any()
    assert not found['CAM_FRONT_RIGHT'].any() and not found['CAM_BACK_RIGHT'].any()


def test_lines_are_cut_where_they_pass_the_camera():
    lines = np.array([[[1.0, 5, 0], [1, 10, 0]], [[1.0, -5, 0], [1, 10, 0]], [[1.0, -5, 0], [1, -1, 0]]])
    pixels, seen = project_lines(lines, RIG[0])
    assert seen.tolist() == [True, True, False]
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    np.testing.assert_allclose(pixels[0], centre + [[FOCAL / 5, 0], [FOCAL / 10, 0]])
    np.testing.assert_allclose(pixels[1, 1], pixels[0, 1])
    assert pixels[1, 0, 0] > 2 * WIDTH and pixels[1, 0, 1] == pytest.approx(HEIGHT / 2)  # far off to the right


def test_predictions_have_the_colour_and_the_name_of_their_class_and_weak_ones_are_left_out():
    instances = InstanceData(
        bboxes_3d=boxes_at((0, 10, 0, 1, 1, 1, 0, 0, 0), (0, 20, 0, 1, 1, 1, 0, 3, 4), (5, 5, 0, 1, 1, 1, 0, 0, 0)),
        scores_3d=torch.tensor([0.5, 0.31, 0.29]),
        labels_3d=torch.tensor([1, 0, 1]),
    )
    found = predicted_boxes(instances, ['car', 'bus'], 0.3)
    assert found.captions == ['car 0.31', 'bus 0.50']  # the near one is drawn over the far one
    assert found.colors == [action_color(0), action_color(1)]
    assert found.velocities.tolist() == [[3, 4], [0, 0]]
    nothing = predicted_boxes(instances, ['car', 'bus'], 0.9)
    blank = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in CAMERAS]
    assert (draw_views(blank, RIG, [nothing], WIDTH) == draw_views(blank, RIG, [], WIDTH)).all()
    assert (draw_bev(400, [nothing]) == draw_bev(400, [])).all()


def test_captions_are_drawn_above_large_boxes():
    box = boxes_at((0.0, 10.0, -1.0, 4.0, 2.0, 1.6, LEFT, 0.0, 0.0))
    instances = InstanceData(bboxes_3d=box, scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([0]))
    images = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in CAMERAS]
    named = draw_views(images, RIG, [predicted_boxes(instances, ['car'], 0.3)], WIDTH)[:HEIGHT, WIDTH : 2 * WIDTH]
    top = HEIGHT / 2 - FOCAL * 0.6 / 9
    rows, columns = np.where((named != 0).any(-1))
    above = (rows < top - 3) & (rows > top - 25)
    assert above.any() and columns[above].min() >= WIDTH / 2 - FOCAL * 2 / 9 - 2


def changed(boxes: LiDARInstance3DBoxes, side: int = 520) -> np.ndarray:
    """Pixels of the picture from above (5 per metre) that boxes change: rows and columns, ``[n, 2]``."""
    before, after = draw_bev(side, []), draw_bev(side, [annotated_boxes(boxes)])
    return np.argwhere((before != after).any(-1))


def test_from_above_ahead_is_up_and_right_is_right():
    pixels = changed(boxes_at((10.0, 20.0, 0.0, 4.0, 2.0, 1.5, np.pi / 2, 0.0, 0.0)))
    # 520 pixels for 104 m; the LiDAR in the middle
    np.testing.assert_allclose(pixels.min(0), [260 - 5 * 22, 260 + 5 * 9], atol=1.5)
    np.testing.assert_allclose(pixels.max(0), [260 - 5 * 18, 260 + 5 * 11], atol=1.5)


def test_from_above_arrows_point_where_a_box_is_one_second_later():
    still = changed(boxes_at((10.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0, 0.2, 0.0)))
    moving = changed(boxes_at((10.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0, 0.0, -15.0)))
    assert abs(still[:, 0].max() - 260) <= 7
    assert moving[:, 0].max() == pytest.approx(260 + 5 * 15, abs=2)
    assert abs(np.median(moving[moving[:, 0] > 270, 1]) - (260 + 5 * 10)) <= 1


def test_from_above_a_line_points_to_the_front():
    pixels = changed(boxes_at((-20.0, 0.0, 0.0, 8.0, 4.0, 1.5, np.pi, 0.0, 0.0)), 1040)
    inside = pixels[(abs(pixels[:, 0] - 520) <= 3) & (abs(pixels[:, 1] - 320) < 36)]  # on the axis of the box
    assert len(inside) > 20 and inside[:, 1].max() <= 322


def test_from_above_points_are_drawn_the_higher_the_brighter():
    points = np.array([[5.0, 5.0, -1.8], [5.0, -5.0, 1.5], [300.0, 0.0, 0.0]])
    picture = draw_bev(520, [], points).astype(int)
    low, high = picture[260 - 25, 260 + 25], picture[260 + 25, 260 + 25]
    assert high.min() > low.max() > draw_bev(520, []).astype(int)[235, 285].max()


def test_the_legend_tells_what_is_annotated():
    box = boxes_at((40.0, 40.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0))
    legend = dict(car=action_color(0))
    without, found = draw_bev(520, [], legend=legend), draw_bev(520, [annotated_boxes(box)], legend=legend)
    written = np.argwhere((without != found).any(-1) & (np.indices(found.shape[:2])[0] > 400))
    assert (found[tuple(written.T)].min(1) > 180).sum() > 20, 'a word in white at the bottom'
    predicted = InstanceData(bboxes_3d=box, scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([0]))
    other = draw_bev(520, [predicted_boxes(predicted, ['car'], 0.3)], legend=legend)
    assert (other[400:] == without[400:]).all(), 'no word of what is not drawn'

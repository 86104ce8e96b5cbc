"""What a user may give as objects, and what is refused before a video is looked at."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from vos_world import HEIGHT, WIDTH, frame, index_map, write_frames, write_mask, write_video

from mvbench_plugins.apis.vos_frames import FrameStream, open_frames
from mvbench_plugins.apis.vos_given import GivenObjects
from mvbench_plugins.apis.vos_prompts import read_prompts

SIZE = (WIDTH, HEIGHT)
EMPTY = np.zeros((HEIGHT, WIDTH), np.uint8)


@pytest.fixture
def stream() -> FrameStream:
    return open_frames(np.stack([frame(number) for number in range(4)]))


def patch(**labels: int) -> np.ndarray:
    """An index map with a square for each label."""
    result = EMPTY.copy()
    for number, label in enumerate(labels.values()):
        result[4:12, 4 + 10 * number : 12 + 10 * number] = label
    return result


def test_rectangles_and_discs_are_cut_at_the_border():
    box, point, default = read_prompts([(0, 1, (-5, 1.6, 7.4, 200))], [(0, 2, (20.7, 30))], 5, SIZE) + read_prompts(
        [], [(0, 3, (95, 63))], None, SIZE
    )
    canvas = EMPTY.copy()
    box.paint(canvas)
    expected = EMPTY.copy()
    expected[2:, :7] = 1
    assert (canvas == expected).all()
    point.paint(canvas)
    y, x = np.nonzero(canvas == 2)
    assert np.hypot(x - 20, y - 30).max() <= 5.1 and abs(len(x) - np.pi * 25) < 12
    assert default.radius == 3  # 5 % of 64 pixels
    default.paint(canvas)
    assert canvas[63, 95] == 3


def test_labels_are_new_once(stream):
    masks = {0: patch(a=3, b=1), 1: patch(a=1, b=3), 3: patch(a=7, b=1)}
    given = GivenObjects(stream, masks, read_prompts([(1, 9, (50, 20, 60, 30))], [], None, SIZE))
    assert given.labels == [1, 3, 9, 7] and (given.first, given.last) == (0, 3)
    assert (given.at(0) == masks[0]).all()
    assert np.unique(given.at(1)).tolist() == [0, 9] and (given.at(1) == 9).sum() == 100
    assert given.at(2) is None
    assert (given.at(3) == np.where(masks[3] == 7, 7, 0)).all()
    assert not masks[0].base and masks[1].max() == 3  # what the user gave stays as it was


def test_void_beside_labels_is_ignored_and_alone_it_is_an_object(stream):
    given = GivenObjects(stream, {0: patch(a=1, b=255), 1: patch(a=255)}, [])
    assert given.labels == [1] and set(np.unique(given.at(0))) == {0, 1} and given.at(1) is None
    assert GivenObjects(stream, patch(a=255), []).labels == [255]
    assert GivenObjects(stream, patch(a=1) > 0, []).labels == [1]


def test_binary_and_grey_files_are_masks(stream, tmp_path):
    for mode, expected in (('1', 1), ('L', 255), ('RGB', 255)):
        path = tmp_path / f'{mode}.png'
        Image.fromarray(patch(a=255)).convert(mode).save(path)
        given = GivenObjects(stream, path, [])
        assert given.labels == [expected] and given.palette_file == path
        assert (given.at(0) > 0).sum() == 64


@pytest.mark.parametrize(
    ('boxes', 'points', 'radius', 'expected'),
    [
        ([(0, 0, (1, 1, 9, 9))], [], None, r'box \(0, 0, .*found label 0, expected 1 to 254 .0 is the background'),
        ([(0, 255, (1, 1, 9, 9))], [], None, 'found label 255, expected 1 to 254'),
        ([(-1, 1, (1, 1, 9, 9))], [], None, 'found frame -1, expected a 0-based index'),
        ([(0, 1, (9, 1, 2, 9))], [], None, r'box of label 1 at frame 0: found .9.0, 1.0, 2.0, 9.0., expected x1, y1'),
        ([(0, 1, (96, 1, 120, 9))], [], None, 'overlaps the frame of 96 x 64 pixels'),
        ([(0, 1, (1, 1, 9))], [], None, r'box: found .*expected \(frame, label, \(x1, y1, x2, y2\)\)'),
        ([(0, 1, (1, 1, 9, float('nan')))], [], None, 'box: found'),
        ([], [(0, 1, (5, 64))], None, r'point of label 1 at frame 0: found \(5.0, 64.0\), expected x, y inside'),
        ([], [(0, 1)], None, r'point: found \(0, 1\), expected \(frame, label, \(x, y\)\)'),
        ([], [(0, 1, (5, 6))], 0, 'point_radius: found 0, expected 1 pixel or more'),
    ],
)
def test_wrong_prompts_are_refused(boxes, points, radius, expected):
    with pytest.raises(ValueError, match=expected):
        read_prompts(boxes, points, radius, SIZE)


def test_wrong_masks_are_refused(stream, tmp_path):
    small = write_mask(tmp_path / 'small.png', index_map(0)[:40, :50])
    colors = tmp_path / 'colors.png'
    cv2.imwrite(str(colors), frame(0))
    broken = tmp_path / 'broken.png'
    broken.write_bytes(small.read_bytes()[:60])
    cases = (
        (small, ValueError, r'mask .*small\.png: found 50 x 40 pixels, but the frames have 96 x 64.*nearest'),
        (index_map(0)[:, 1:], ValueError, 'mask of frame 0: found 95 x 64 pixels'),
        (colors, ValueError, r'colors\.png: found a picture of mode .RGB. with colours'),
        (broken, ValueError, r'broken\.png: the mask cannot be read'),
        (tmp_path / 'mask.jpg', ValueError, r'mask\.jpg: found a JPEG'),
        (tmp_path / 'gone.png', FileNotFoundError, r'gone\.png: no such mask'),
        (tmp_path / 'gone', FileNotFoundError, 'gone: no such mask'),
        (EMPTY / 2, ValueError, r'found shape \(64, 96\) and type float64, expected an array of integers \[h, w\]'),
        (EMPTY[None], ValueError, r'found shape \(1, 64, 96\)'),
        (EMPTY.astype(int) + 300, ValueError, 'found labels from 300 to 300, expected 1 to 254'),
        (EMPTY.astype(int) - 1, ValueError, 'found labels from -1 to -1'),
        (EMPTY, ValueError, 'found 1 masks without any object, expected an object to follow'),
        (None, ValueError, 'found nothing, expected an object to follow: a mask .* a box or a point'),
        ({4: patch(a=1)}, ValueError, r'object given at frame 4 of array of shape .*, expected 0 to 3 .frames count'),
        ({-1: patch(a=1)}, ValueError, 'object given at frame -1'),
        ({'0': patch(a=1)}, TypeError, "masks: found the key '0', expected 0-based indices"),
        ({0: [[1]]}, TypeError, 'mask of frame 0: found list, expected a path or an array'),
        ([patch(a=1)], TypeError, 'masks: found list, expected the path of a png'),
    )
    for masks, kind, expected in cases:
        with pytest.raises(kind, match=expected):
            GivenObjects(stream, masks, [])


def test_prompts_must_be_of_other_objects(stream):
    box, again = (0, 1, (4, 4, 12, 12)), (2, 1, (4, 4, 12, 12))
    for masks, boxes, where in ((patch(a=1), [box], 0), (None, [box, again], 2), ({2: patch(a=1)}, [box, again], 2)):
        with pytest.raises(ValueError, match=f'box or point at frame {where}: found label 1, which a mask there or an'):
            GivenObjects(stream, masks, read_prompts(boxes, [], None, SIZE))
    with pytest.raises(ValueError, match='label 1 at frame 0: others that come after it cover it wholly'):
        GivenObjects(stream, None, read_prompts([box, (0, 2, (0, 0, 30, 30))], [], None, SIZE))
    # two points of one label make one object
    points = read_prompts([], [(0, 1, (10, 10)), (0, 1, (40, 40))], 2, SIZE)
    assert GivenObjects(stream, None, points).labels == [1]


def test_masks_of_a_folder_go_by_the_names_of_frames(tmp_path):
    frames, masks = write_frames(tmp_path / 'frames', 3), tmp_path / 'masks'
    write_mask(masks / '10.png', patch(a=1))
    write_mask(masks / '05.png', EMPTY)
    (masks / 'notes.txt').touch()
    named = open_frames(frames)
    assert [named.name(number) for number in range(3)] == ['05', '10', '15']
    given = GivenObjects(named, masks, [])
    assert (given.first, given.labels) == (1, [1])
    assert given.palette_file == masks / '05.png' and sorted(given.files) == [masks / '05.png', masks / '10.png']
    with pytest.raises(ValueError, match=r'mask .*12\.png: expected the name of a frame of .*, such as 05\.png'):
        GivenObjects(named, write_mask(masks / '12.png', EMPTY).parent, [])
    with pytest.raises(ValueError, match=r'masks: folder .*frames holds no png'):
        empty = tmp_path / 'none' / 'frames'
        empty.mkdir(parents=True)
        GivenObjects(named, empty, [])


def test_masks_of_a_video_go_by_index(tmp_path):
    video = open_frames(write_video(tmp_path / 'video.mp4', 3))
    masks = write_mask(tmp_path / 'masks' / '00002.png', patch(a=2)).parent
    with video.video:
        given = GivenObjects(video, masks, [])
        assert (given.first, given.labels) == (2, [2])
        write_mask(masks / 'first.png', patch(a=2))
        with pytest.raises(ValueError, match=r'mask .*first\.png: expected the 0-based index of its frame'):
            GivenObjects(video, masks, [])
        (masks / 'first.png').rename(masks / '2.png')
        with pytest.raises(ValueError, match=r'masks .*00002\.png and 2\.png belong to one frame, 2: remove one'):
            GivenObjects(video, masks, [])

"""Files of person boxes: three formats say the same, and wrong files are refused with the entry and the remedy."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from mvbench_plugins.datasets.action import read_person_boxes
from mvbench_plugins.datasets.action.alphaction_files import (
    AVAImage,
    is_empty,
    read_alphaction_annotations,
    read_images,
    xyxy_from_xywh,
)

WIDTH, HEIGHT = 320, 240
IMAGES = [dict(id=number, movie='v,1', timestamp=902 + number, width=WIDTH, height=HEIGHT) for number in range(3)]
# Two persons at 902, the better one last; none at 903; one at 904.
ROWS = [('v,1', 902, 0.25, 0.5, 0.5, 0.75, 0.6), ('v,1', 904, 0, 0, 1, 1, 1.0), ('v,1', 902, 0.5, 0.1, 0.75, 0.9, 0.95)]


def write_csv(folder, rows=ROWS):
    path = folder / 'persons.csv'
    path.write_text(''.join(f'"{row[0]}",{",".join(map(str, row[1:]))}\n' for row in rows))
    return path


def write_pickle(folder, content, protocol=2):
    path = folder / 'persons.pkl'
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_json(folder, entries, images=IMAGES, annotations=()):
    (folder / 'min.json').write_text(json.dumps(dict(images=images, annotations=list(annotations))))
    (folder / 'persons.json').write_text(json.dumps(entries))
    return folder / 'persons.json', folder / 'min.json'


def xywh(x1, y1, x2, y2):
    """The box whose last pixel, and not whose edge, is at the end: what a fraction of 0.5 becomes in pixels."""
    return [x1 * WIDTH, y1 * HEIGHT, (x2 - x1) * WIDTH + 1, (y2 - y1) * HEIGHT + 1]


def three_formats(folder):
    entries = [
        dict(image_id=second - 902, bbox=xywh(*box), score=score, category_id=1) for _, second, *box, score in ROWS
    ]
    content: dict = {'v,1,0903': np.zeros((0, 5), np.float32)}
    for video, second, *numbers in ROWS:
        rows = [*content.get(f'{video},{second:04d}', np.zeros((0, 5))), np.array(numbers)]
        content[f'{video},{second:04d}'] = np.array(rows)
    return {
        'csv': (write_csv(folder), None),
        'pkl': (write_pickle(folder, content), None),
        'json': write_json(folder, entries),
    }


@pytest.mark.parametrize('kind', ['csv', 'pkl', 'json'])
def test_formats_say_the_same(tmp_path, kind):
    """Video names may hold commas. Scores fall."""
    persons = read_person_boxes(*three_formats(tmp_path)[kind])
    assert len(persons) == 3 and persons.videos() == ['v,1']
    boxes, scores = persons.of('v,1', 902)
    assert boxes.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0.5, 0.1, 0.75, 0.9], [0.25, 0.5, 0.5, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.95, 0.6])
    # The last pixel of an image is its end, in the convention of the json.
    ends = [1 - 1 / WIDTH, 1 - 1 / HEIGHT] if kind == 'json' else [1, 1]
    np.testing.assert_allclose(persons.of('v,1', 904)[0], [[0, 0, *ends]], rtol=1e-6)
    for key in (('v,1', 903), ('other', 902)):
        boxes, scores = persons.of(*key)
        assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_threshold_includes_its_value(tmp_path):
    persons = read_person_boxes(write_csv(tmp_path, [('v', 902, 0, 0, 1, 1, score) for score in (0.79, 0.8, 0.9)]))
    np.testing.assert_allclose(persons.of('v', 902, 0.8)[1], [0.9, 0.8])
    assert [len(persons.of('v', 902, thr)[0]) for thr in (0.0, 0.85, 1.0)] == [3, 1, 0]


def test_equal_scores_keep_the_order_of_the_file(tmp_path):
    rows = [('v', 902, x / 10, 0, 1, 1, 0.5 + 0.1 * (x == 3)) for x in range(5)]
    np.testing.assert_allclose(
        read_person_boxes(write_csv(tmp_path, rows)).of('v', 902)[0][:, 0], [0.3, 0, 0.1, 0.2, 0.4]
    )


def test_small_overshoot_is_clipped(tmp_path):
    persons = read_person_boxes(write_csv(tmp_path, [('v', 902, -0.02, 0.1, 1.01, 0.5, 0.9)]))
    np.testing.assert_allclose(persons.of('v', 902)[0], [[0, 0.1, 1, 0.5]], rtol=1e-6)


def test_pickles_of_python_2(tmp_path):
    path = tmp_path / 'persons.pkl'
    path.write_bytes(pickle.dumps({'v,0902': [[0.1, 0.2, 0.3, 0.4, 0.9]]}, protocol=0))
    np.testing.assert_allclose(read_person_boxes(path).of('v', 902)[0], [[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize(
    'box, want',
    [
        ([10, 20, 100, 160], [10, 20, 109, 179]),
        ([200, 100, 200, 200], [200, 100, 319, 239]),  # clipped to the last pixel
        ([-5, -5, 20, 30], [0, 0, 14, 24]),
        ([5.5, 6.5, 30.25, 0.5], None),  # less than a pixel high
        ([319, 5, 20, 20], None),
        ([400, 5, 20, 20], None),  # outside
    ],
)
def test_pixels_of_annotation_boxes(box, want):
    corners = xyxy_from_xywh(np.array([box], np.float32), (WIDTH, HEIGHT))
    assert corners.tolist() == [want] if want else is_empty(corners).all()


def test_empty_boxes_of_a_json_are_dropped(tmp_path):
    entries = [dict(image_id=0, bbox=box, score=0.9) for box in ([1, 2, 30, 0.5], [1, 2, 30, 40])]
    persons = read_person_boxes(*write_json(tmp_path, entries))
    assert len(persons) == 1
    np.testing.assert_allclose(persons.of('v,1', 902)[0] * np.float32([WIDTH, HEIGHT] * 2), [[1, 2, 30, 41]], rtol=1e-6)


# ---- what is wrong

GOOD = (0.1, 0.2, 0.3, 0.4, 0.9)
BAD_ROWS = {
    'pixels': ((10, 20, 30, 40, 0.9), r'box \[10.0, 20.0, 30.0, 40.0\].*fractions.*look like pixels: divide them'),
    'beyond the image': ((0.1, 0.2, 1.3, 0.4, 0.9), r'fractions of width and height in \[0, 1\]'),
    'turned': ((0.3, 0.2, 0.1, 0.4, 0.9), 'x1 < x2 and y1 < y2 .not x, y, w, h.'),
    'no height': ((0.1, 0.2, 0.3, 0.2, 0.9), 'x1 < x2 and y1 < y2'),
    'NaN box': ((0.1, float('nan'), 0.3, 0.4, 0.9), 'must be finite'),
    'infinite box': ((0.1, 0.2, float('inf'), 0.4, 0.9), 'must be finite'),
    'NaN score': ((0.1, 0.2, 0.3, 0.4, float('nan')), r'score must be in \[0, 1\], found nan'),
    'percentage': ((0.1, 0.2, 0.3, 0.4, 90), r'score must be in \[0, 1\], found 90'),
    'logit': ((0.1, 0.2, 0.3, 0.4, -0.5), r'score must be in \[0, 1\], found -0.5'),
}


@pytest.mark.parametrize('bad', BAD_ROWS)
@pytest.mark.parametrize('kind', ['csv', 'pkl'])
def test_wrong_relative_boxes(tmp_path, kind, bad):
    row, message = BAD_ROWS[bad]
    if kind == 'csv':
        path, place = write_csv(tmp_path, [('v', 902, *GOOD), ('v', 903, *row)]), r'persons\.csv:2: '
    else:
        content = {'v,0902': np.array([GOOD]), 'v,0903': np.array([GOOD, row])}
        path, place = write_pickle(tmp_path, content), r"persons\.pkl: entry 'v,0903', row 1: "
    with pytest.raises(ValueError, match=place + '.*' + message):
        read_person_boxes(path)


@pytest.mark.parametrize(
    'line, message',
    [
        (
            'video,second,x1,y1,x2,y2,score',
            r"csv:2: expected video,second,x1,y1,x2,y2,score .no header.*found 'video,s",
        ),
        ('v,902,0.1,0.2,0.3,0.4', 'csv:2: expected'),
        ('v,902,0.1,0.2,0.3,0.4,0.9,1', 'csv:2: expected'),
        ('v,902.5,0.1,0.2,0.3,0.4,0.9', "csv:2: expected.*found 'v,902.5"),
        ('v,902,0.1,0.2,0.3,x,0.9', 'csv:2: expected.*Correct or remove the line'),
    ],
)
def test_wrong_lines(tmp_path, line, message):
    path = write_csv(tmp_path, [('v', 902, *GOOD)])
    path.write_text(path.read_text() + line + '\n')
    with pytest.raises(ValueError, match=message):
        read_person_boxes(path)


@pytest.mark.parametrize(
    'content, message',
    [
        ([1, 2], r"expected a dict of 'video,0902' -> numbers \[n, 5\].*found list"),
        ({'v_0902': np.array([GOOD])}, "keys must be 'VIDEO,SECOND' such as 'abc,0902', found 'v_0902'"),
        ({'v,0902': np.array([GOOD[:4]])}, r"entry 'v,0902' must be numbers \[n, 5\].*found float64 \[1, 4\]"),
        ({'v,0902': [['a'] * 5]}, "entry 'v,0902' must be numbers"),
        ({'v,0902': np.zeros((0, 5))}, 'holds no person boxes'),
    ],
)
def test_wrong_pickles(tmp_path, content, message):
    with pytest.raises(ValueError, match=r'persons\.pkl: .*' + message):
        read_person_boxes(write_pickle(tmp_path, content))


def test_a_pickle_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f'open({str(tmp_path / "ran")!r}, "w")',))

    with pytest.raises(ValueError, match='persons.pkl'):
        read_person_boxes(write_pickle(tmp_path, Evil()))
    assert not (tmp_path / 'ran').exists()


def entry(**changes):
    return dict(dict(image_id=1, bbox=[10, 20, 100, 150], score=0.9), **changes)


BAD_JSON = {
    'relative': ([entry(bbox=[0.1, 0.2, 0.3, 0.4])] * 3, 'must be x, y, w, h in pixels, but all 3 look like fractions'),
    'xyxy': ([entry(bbox=[200, 150, 310, 230])], r'1 of 1 boxes reach far beyond .*entry 0 is .*not x2, y2'),
    'unknown image': ([entry(), entry(image_id=77)], 'entry 1 has image_id 77, which is not among the 3 images'),
    'no box': ([entry(), dict(image_id=1)], 'entry 1 must have image_id and bbox'),
    'three numbers': ([entry(bbox=[1, 2, 3])], r'entry 0: bbox must be 4 numbers x, y, w, h, found \[1, 2, 3\]'),
    'NaN box': ([entry(bbox=[1, float('nan'), 30, 40])], r'entry 0 \(image_id 1\): bbox must be finite'),
    'negative width': ([entry(), entry(bbox=[50, 2, -30, 40])], r'entry 1 \(image_id 1\): .*w and h of at least 0'),
    'NaN score': ([entry(score=float('nan'))], r'entry 0 \(image_id 1\): score must be in \[0, 1\], found nan'),
    'percentage': ([entry(), entry(score=90)], r'entry 1 \(image_id 1\): score must be in \[0, 1\], found 90'),
    'no score': ([dict(image_id=1, bbox=[1, 2, 30, 40])], 'score must be a number in .0, 1., found None'),
    'annotations': (dict(images=[]), 'expected a list of image_id, bbox and score, found dict'),
    'empty': ([], 'holds no person boxes'),
    'all degenerate': ([entry(bbox=[10, 20, 1, 30])], 'holds no person boxes'),
}


@pytest.mark.parametrize('bad', BAD_JSON)
def test_wrong_json(tmp_path, bad):
    entries, message = BAD_JSON[bad]
    with pytest.raises(ValueError, match=r'persons\.json: .*' + message):
        read_person_boxes(*write_json(tmp_path, entries))


def test_json_without_its_images(tmp_path):
    with pytest.raises(ValueError, match=r'persons\.json: .*image ids.*image_file'):
        read_person_boxes(write_json(tmp_path, [entry()])[0])


@pytest.mark.parametrize('name, message', [('gone.csv', 'does not exist'), ('boxes.txt', r'\.json, \.pkl or \.csv')])
def test_wrong_file(tmp_path, name, message):
    with pytest.raises((FileNotFoundError, ValueError), match=f'{name}.*{message}'):
        read_person_boxes(tmp_path / name)


@pytest.mark.parametrize('name', ['empty.csv', 'empty.json'])
def test_empty_file(tmp_path, name):
    (tmp_path / name).write_text('')
    with pytest.raises(ValueError, match=f'{name}: .*(no person boxes|no json)'):
        read_person_boxes(tmp_path / name, tmp_path / name)


@pytest.mark.parametrize(
    'content, message',
    [
        ([], 'expected "images"'),
        (dict(images=[]), 'expected "images"'),
        (dict(images=[dict(id=1, movie='v', timestamp=902)]), 'image 0 must have an id of its own, movie'),
        (dict(images=IMAGES + IMAGES[:1]), 'image 3 must have an id of its own'),
        (dict(images=[IMAGES[0] | dict(width=0)]), 'image 0 must have'),
    ],
)
def test_wrong_images(tmp_path, content, message):
    (tmp_path / 'min.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'min\.json: ' + message):
        read_images(tmp_path / 'min.json')


def test_annotations_of_alphaction(tmp_path):
    """One row for each action, in fractions of the size of the image; a degenerate box is dropped."""
    annotations = [
        dict(image_id=0, bbox=[32, 24, 65, 49], action_ids=[3, 12]),
        dict(image_id=2, bbox=[0, 0, 9, 1], action_ids=[1]),
        dict(image_id=2, bbox=[0, 0, 999, 999], action_ids=[]),
    ]
    _, path = write_json(tmp_path, [], annotations=annotations)
    assert read_images(path)[2] == AVAImage('v,1', 904, WIDTH, HEIGHT)
    rows = read_alphaction_annotations(path, label_ids=range(1, 81))
    assert (rows.videos, rows.seconds.tolist(), rows.actions.tolist()) == (['v,1'] * 3, [902, 902, 904], [3, 12, 0])
    np.testing.assert_allclose(rows.boxes[[0, 2]], [[0.1, 0.1, 0.3, 0.3], [0, 0, 319 / 320, 239 / 240]])
    assert rows.box_texts[0] == rows.box_texts[1] != rows.box_texts[2]
    with pytest.raises(
        ValueError, match=r'min\.json: annotation 0: action_ids .* of the 5 known ones, found \[3, 12\]'
    ):
        read_alphaction_annotations(path, label_ids=range(1, 6))

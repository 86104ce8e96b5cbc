"""ActionTubeMetric against the ACT protocol in plain loops, and detail by detail."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from act_protocol import CLASSES, KEYS, SIZE, reference
from mmaction.registry import METRICS

from mvbench_plugins.evaluation.action import ActionTubeMetric
from mvbench_plugins.evaluation.action.linking import LinkRule
from mvbench_plugins.evaluation.action.matching import paired_iou
from mvbench_plugins.evaluation.action.video_map import tube_iou


def tube(start, boxes) -> np.ndarray:
    """A box in each frame from ``start``."""
    boxes = np.asarray(boxes, float)
    return np.column_stack([np.arange(start, start + len(boxes)), boxes])


def still(start, end, box) -> np.ndarray:
    return tube(start, [box] * (end + 1 - start))


class World:
    """Annotated videos of which a pickle is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def metric(self, videos: dict, test=None, **options) -> ActionTubeMetric:
        """Videos: name -> (number of frames, {class: tubes})."""
        content = {
            'labels': list(CLASSES),
            'gttubes': {name: tubes for name, (_, tubes) in videos.items()},
            'nframes': {name: count for name, (count, _) in videos.items()},
            'resolution': dict.fromkeys(videos, SIZE),
            'train_videos': [[name for name in videos if name not in (test or videos)]],
            'test_videos': [list(test or videos)],
        }
        self.path.write_bytes(pickle.dumps(content, protocol=2))
        return METRICS.build({'type': 'ActionTubeMetric', 'ann_file': str(self.path), **options})


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / 'GT.pkl')


def sample(video, frame, boxes, scores) -> dict:
    """Boxes in pixels, scores [n, classes]."""
    height, width = SIZE
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) / np.float32([width, height, width, height])
    scores = np.asarray(scores, np.float32).reshape(-1, len(CLASSES))
    instances = {'bboxes': boxes, 'scores': np.pad(scores, ((0, 0), (1, 0)))}
    return {'video_id': video, 'timestamp': frame, 'pred_instances': instances}


def evaluate(metric, samples) -> dict:
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def perfect(videos: dict) -> list[dict]:
    samples = []
    for name, (count, by_class) in videos.items():
        for frame in range(1, count + 1):
            found = [
                (row[1:], np.eye(len(CLASSES))[label])
                for label, tubes in by_class.items()
                for one in tubes
                for row in one
                if row[0] == frame
            ]
            samples.append(sample(name, frame, [box for box, _ in found], [score for _, score in found]))
    return samples


def draw(seed: int) -> tuple[dict, list]:
    """Videos with 0 to 2 moving people, and noisy detections with misses, doubles and clutter."""
    rng = np.random.default_rng(seed)
    videos, samples = {}, []
    for number in range(4):
        name, count = f'{CLASSES[number % 2]}/v{number}', int(rng.integers(20, 40))
        people = []
        for _ in range(number % 3 if number else 2):
            start = int(rng.integers(1, 6))
            path = rng.uniform(5, 60, 2) + np.outer(np.arange(count - start - 2), rng.uniform(-0.3, 1.2, 2))
            people.append(tube(start, np.round(np.column_stack([path, path + rng.uniform(20, 50, 2)]))))
        # class 2 has neither ground truth nor a tube
        videos[name] = (count, {number % 2: people} if people else {})
        for frame in range(1, count + 1):
            near = [one[one[:, 0] == frame, 1:] for one in people]
            boxes = np.concatenate([np.zeros((0, 4)), *near, *near])
            boxes = boxes[rng.random(len(boxes)) < 0.6]
            clutter = rng.uniform(0, 100, (2, 2))
            clutter = np.column_stack([clutter, clutter + rng.uniform(5, 60, (2, 2))])
            boxes = np.concatenate([boxes + rng.normal(0, 4, boxes.shape), clutter])
            scores = rng.uniform(0, 1, (len(boxes), len(CLASSES))) ** 2
            scores[:-2, number % 2] += 0.3
            samples.append(sample(name, frame, boxes, scores))
    return videos, samples


@pytest.mark.parametrize('seed', range(4))
def test_equals_the_protocol_in_plain_loops(world, seed):
    videos, samples = draw(seed)
    result = evaluate(world.metric(videos), samples)
    expected = reference(videos, samples, LinkRule())
    assert result == pytest.approx(expected, abs=1e-9)
    assert 0 < result['frame_mAP@0.5'] < 1 and 0 < result['video_mAP@0.2'] < 1


@pytest.mark.parametrize(
    'linking', [{'top_k': 1, 'min_length': 3}, {'iou_thr': 0.6, 'max_gap': 1, 'nms_thr': 0.7, 'tube_nms_thr': 0.9}]
)
def test_parameters_of_linking_act_as_in_plain_loops(world, linking):
    videos, samples = draw(5)
    result = evaluate(world.metric(videos, linking=linking), samples)
    assert result == pytest.approx(reference(videos, samples, LinkRule(**linking)), abs=1e-9)
    assert result['video_mAP@0.2'] != evaluate(world.metric(videos), samples)['video_mAP@0.2']


def test_perfect_detections_give_one(world):
    videos = {
        'brush/a': (30, {0: [still(1, 30, (10, 10, 40, 50)), still(8, 24, (80, 20, 120, 90))]}),
        'catch/b': (25, {1: [tube(5, [(x, 5, x + 30, 60) for x in range(18)])]}),
        'catch/empty': (20, {}),
    }
    assert evaluate(world.metric(videos), perfect(videos)) == pytest.approx(dict.fromkeys(KEYS, 1.0))


def test_no_detection_gives_zero_and_class_without_detection_counts(world):
    videos = {
        'brush/a': (20, {0: [still(1, 20, (10, 10, 40, 50))]}),
        'catch/b': (20, {1: [still(1, 20, (0, 0, 9, 9))]}),
    }
    assert evaluate(world.metric(videos), []) == dict.fromkeys(KEYS, 0)
    empty = [sample('brush/a', frame, [], []) for frame in range(1, 21)]
    assert evaluate(world.metric(videos), empty) == dict.fromkeys(KEYS, 0)
    one_class = perfect({'brush/a': videos['brush/a']})
    assert evaluate(world.metric(videos), one_class) == pytest.approx(dict.fromkeys(KEYS, 0.5))


def test_classwise_names_only_classes_with_ground_truth(world):
    videos = {'brush/a': (20, {0: [still(1, 20, (10, 10, 40, 50))]})}
    result = evaluate(world.metric(videos, classwise=True), perfect(videos))
    assert result.keys() - set(KEYS) == {'brush_frame_AP@0.5', 'brush_video_AP@0.5'}


def test_boxes_contain_their_last_pixel():
    """One pixel and its double: 1 / 2, not 0 / 1."""
    assert paired_iou(np.array([3.0, 3, 3, 3]), np.array([3.0, 3, 4, 3]), extent=1) == 0.5
    assert paired_iou(np.array([3.0, 3, 3, 3]), np.array([3.0, 3, 4, 3])) == 0


@pytest.mark.parametrize(('bottom', 'expected'), [(8, 1), (7, 0)])
def test_frame_overlap_counts_pixels(world, bottom, expected):
    """3 of 5 columns and 9 of 10 rows are enough; without the last pixel it would be 2 of 4 and 8 of 9."""
    videos = {'brush/a': (1, {0: [still(1, 1, (5, 0, 9, 9))]})}
    result = evaluate(world.metric(videos), [sample('brush/a', 1, [(5, 0, 7, bottom)], [(1, 0, 0)])])
    assert result['frame_mAP@0.5'] == expected


def test_taken_box_leaves_the_next_best(world):
    """Unlike in AVA, the second detection of one person may count for another it also overlaps enough."""
    one, other = (10, 10, 59, 59), (10, 10, 59, 54)
    videos = {'brush/a': (1, {0: [still(1, 1, one), still(1, 1, other)]})}
    result = evaluate(world.metric(videos), [sample('brush/a', 1, [one, one], [(0.9, 0, 0), (0.8, 0, 0)])])
    assert result['frame_mAP@0.5'] == 1


def test_area_under_the_curve_is_of_trapezoids_and_not_interpolated(world):
    """Miss, hit: precision falls from 1 to 0 at recall 0, and rises to 1 / 2 at recall 1."""
    videos = {'brush/a': (1, {0: [still(1, 1, (0, 0, 9, 9))]})}
    dets = sample('brush/a', 1, [(50, 50, 60, 60), (0, 0, 9, 9)], [(0.9, 0, 0), (0.8, 0, 0)])
    assert evaluate(world.metric(videos), [dets])['frame_mAP@0.5'] == 0.25


def test_frames_without_ground_truth_and_threshold(world):
    """Detections in frames without annotation are false positives; below the threshold they are none."""
    videos = {'brush/a': (2, {0: [still(2, 2, (0, 0, 9, 9))]})}
    samples = [sample('brush/a', frame, [(0, 0, 9, 9)], [(score, 0, 0)]) for frame, score in ((1, 0.5), (2, 0.25))]
    assert evaluate(world.metric(videos), samples)['frame_mAP@0.5'] == 0.25
    samples.reverse()
    samples[0]['pred_instances']['scores'][:, 1] = 0.5
    samples[1]['pred_instances']['scores'][:, 1] = 0.25
    assert evaluate(world.metric(videos, action_thr=0.5), samples)['frame_mAP@0.5'] == 1
    assert evaluate(world.metric(videos, action_thr=0.51), samples)['frame_mAP@0.5'] == 0


def test_repeated_key_frames_count_once(world):
    videos = {'brush/a': (20, {0: [still(1, 20, (0, 0, 9, 9))]})}
    samples = perfect(videos)
    assert evaluate(world.metric(videos), samples + samples[:7]) == pytest.approx(dict.fromkeys(KEYS, 1.0))


def test_tube_overlap_is_temporal_times_mean_spatial():
    one, other = still(1, 10, (0, 0, 9, 9)), still(6, 15, (0, 0, 9, 4))
    assert tube_iou(one, other) == pytest.approx(5 / 15 * 0.5)
    assert tube_iou(one, still(11, 20, (0, 0, 9, 9))) == 0


def test_overlapping_tubes_of_a_class_are_suppressed(world):
    """Two detections a frame that survive the suppression of boxes: one tube is left."""
    videos = {'brush/a': (20, {0: [still(1, 20, (0, 0, 39, 39))]})}
    boxes = [(0, 0, 39, 39), (0, 0, 39, 29)]
    samples = [sample('brush/a', frame, boxes, [(0.5, 0, 0), (0.9, 0, 0)]) for frame in range(1, 21)]
    apart = {'nms_thr': 0.9, 'iou_thr': 0.9}
    # the better scored tube has an overlap of 0.75
    assert evaluate(world.metric(videos, linking=apart), samples)['video_mAP@0.5'] == 1
    kept = evaluate(world.metric(videos, linking=apart | {'tube_nms_thr': 0.8}), samples)
    assert kept['video_mAP@0.5:0.95'] > evaluate(world.metric(videos, linking=apart), samples)['video_mAP@0.5:0.95']


@pytest.mark.parametrize(
    ('video', 'frame', 'scores', 'message'),
    [
        ('brush/a', 21, (1, 0, 0), r"frame 21 of video 'brush/a', but it has frames 1 to 20"),
        ('brush/a', 0, (1, 0, 0), 'prediction for frame 0'),
        ('brush/train', 1, (1, 0, 0), r"'brush/train', but that is none of the test videos of split 1 of .*GT.pkl"),
        ('brush/a', 1, (1, np.nan, 0), r'brush/a,0001: scores\[0\] is not finite'),
    ],
)
def test_predictions_that_do_not_fit_are_named(world, video, frame, scores, message):
    tubes = {0: [still(1, 20, (0, 0, 9, 9))]}
    metric = world.metric({'brush/a': (20, tubes), 'brush/train': (20, tubes)}, test=['brush/a'])
    with pytest.raises(ValueError, match=message):
        metric.process({}, [sample(video, frame, [(0, 0, 9, 9)], [scores])])


@pytest.mark.parametrize(
    ('tubes', 'options', 'message'),
    [
        ({0: [still(1, 20, (0, 0, 9, 9))]}, {'split': 2}, 'has the splits 1 to 1, found split=2'),
        (
            {0: [still(1, 20, (0, 0, 9, 9))]},
            {'linking': {'topk': 3}},
            r"linking has \['topk'\]; expected some of.*top_k",
        ),
        ({0: [still(1, 20, (0, 0, 9, 9))]}, {'linking': {'top_k': 63}}, 'top_k must be from 1 to 62'),
        ({0: [still(1, 20, (0, 0, 9, 9))[[0, 2]]]}, {}, "class 'brush' in video 'brush/a' leaves out frames"),
        ({}, {}, 'no annotated tube in the test videos of split 1'),
    ],
)
def test_settings_that_cannot_be_end_the_run_at_the_start(world, tubes, options, message):
    with pytest.raises(ValueError, match=message):
        world.metric({'brush/a': (20, tubes)}, **options)

"""AVAFrameMetric against the protocol in plain loops, against the stock functions, and detail by detail."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.evaluation.functional.ava_evaluation import metrics as stock
from mmaction.evaluation.functional.ava_utils import read_csv, tpfp_single
from mmaction.registry import METRICS

from mvbench_plugins.evaluation.action import AVAFrameMetric
from mvbench_plugins.evaluation.action.detection_csv import as_written

NAMES = {1: 'bend/bow (at the waist)', 12: 'stand', 17: 'carry/hold (an object)', 79: 'talk to', 80: 'watch (a person)'}
COLUMNS = 81
WHOLE = (0.1, 0.1, 0.5, 0.5)


class Files:
    """Writes annotation files and builds the metric on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def metric(self, rows, excluded=(), names=NAMES, **options) -> AVAFrameMetric:
        """Rows are (video, second, box, action)."""
        ann, label, exclude = (self.folder / name for name in ('val.csv', 'actions.pbtxt', 'excluded.csv'))
        lines = [f'{v},{s:04d},{",".join(f"{x:.3f}" for x in box)},{action},0\n' for v, s, box, action in rows]
        ann.write_text(''.join(lines))
        label.write_text(''.join(f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in names.items()))
        exclude.write_text(''.join(f'{video},{second:04d}\n' for video, second in excluded))
        files = {'ann_file': str(ann), 'label_file': str(label), 'exclude_file': str(exclude)}
        return METRICS.build({'type': 'AVAFrameMetric', **files, **options})


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


def sample(video, second, boxes, scores, columns=COLUMNS) -> dict:
    """Scores: for each box a dict of column -> score, or a full row."""
    table = torch.zeros(len(boxes), columns)
    for row, values in zip(table, scores):
        for column, value in values.items() if isinstance(values, dict) else enumerate(values):
            row[column] = value
    instances = {'bboxes': torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)), 'scores': table}
    return {'video_id': video, 'timestamp': second, 'pred_instances': instances}


def evaluate(metric, samples) -> dict:
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def draw(seed: int, decimals: int | None = None) -> tuple[list, list]:
    """Ground truth rows and samples with every kind of detection; no two scores are equal unless decimals are few."""
    rng = np.random.default_rng(seed)
    distinct = iter(rng.permutation(np.arange(1, 99_999)) / 1e5)
    rows, samples = [], []
    for index in range(14):
        key = (f'v{index % 3}', 902 + index)
        count = int(rng.integers(0, 4))
        corner = rng.uniform(0, 0.6, (count, 2))
        truth = np.round(np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count, 2))], 1), 3)
        for box in truth:
            # 50 is no evaluated action, 80 has no ground truth, 1 is never detected (score -1)
            actions = rng.choice([1, 12, 17, 50, 79], int(rng.integers(0, 4)), replace=False)
            rows += [(*key, box, action) for action in actions]
        if index == 0:
            continue  # a key frame without prediction
        near = truth[rng.integers(0, max(count, 1), 5)] if count else np.zeros((0, 4))
        boxes = np.concatenate([near + rng.normal(0, 0.03, near.shape), rng.uniform(0, 1, (3, 4)), near[:1], near[:1]])
        scores = np.array([[next(distinct) for _ in (12, 17, 50, 79, 80)] for _ in boxes])
        if decimals is not None:
            scores = scores.round(decimals)
        columns = (12, 17, 50, 79, 80)
        samples.append(sample(*key, boxes, [{1: -1.0} | dict(zip(columns, row)) for row in scores]))
    return rows, samples


def reference(rows, samples, excluded=(), ignore_empty_frames=False, action_thr=0.0) -> dict[int, float]:
    """The protocol in plain loops: AP by action id."""
    truth = defaultdict(list)
    for video, second, box, action in rows:
        if (video, second) not in excluded and action in NAMES:
            truth[video, second].append((action, [float(f'{x:.3f}') for x in box]))
    precisions = {}
    for action in NAMES:
        total = sum(name == action for boxes in truth.values() for name, _ in boxes)
        if total == 0:
            precisions[action] = float('nan')
            continue
        results = []
        for one in samples:
            key = (one['video_id'], one['timestamp'])
            if key in excluded or (ignore_empty_frames and key not in truth):
                continue
            gts = [box for name, box in truth.get(key, ()) if name == action]
            taken = set()
            dets = []
            for box, scores in zip(
                one['pred_instances']['bboxes'].tolist(), one['pred_instances']['scores'][:, action].tolist()
            ):
                box = [float(f'{x:.5f}') for x in box]
                if scores >= action_thr and box[0] < box[2] and box[1] < box[3]:
                    dets.append((float(f'{scores:.5f}'), box))
            for score, box in sorted(dets, key=lambda det: -det[0]):
                overlaps = [plain_iou(box, gt) for gt in gts]
                best = max(range(len(gts)), key=overlaps.__getitem__, default=None)
                hit = best is not None and overlaps[best] >= 0.5 and best not in taken
                if hit:
                    taken.add(best)
                results.append((score, hit))
        results.sort(key=lambda result: -result[0])
        found, curve = 0, []
        for number, (_, hit) in enumerate(results, start=1):
            found += hit
            curve.append((found / total, found / number))
        area, before = 0.0, 0.0
        for place, (recall, _) in enumerate(curve):
            area += (recall - before) * max(precision for _, precision in curve[place:])
            before = recall
        precisions[action] = area
    return precisions


def plain_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@pytest.mark.parametrize('options', [{}, {'ignore_empty_frames': True}, {'action_thr': 0.4}])
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_protocol_in_plain_loops(files, seed, options):
    rows, samples = draw(seed)
    excluded = [('v2', 904), ('v0', 905)]
    result = evaluate(files.metric(rows, excluded, classwise=True, **options), samples)
    expected = reference(rows, samples, excluded, **options)
    assert expected[1] == 0 and np.isnan(expected[80]) and 0 < expected[12] < 1
    for action, precision in expected.items():
        if np.isnan(precision):
            assert f'mAP/{NAMES[action]}_AP' not in result
        else:
            assert result[f'mAP/{NAMES[action]}_AP'] == pytest.approx(precision, abs=1e-12)
    assert result['mAP/overall'] == pytest.approx(np.nanmean(list(expected.values())), abs=1e-12)


@pytest.mark.parametrize('seed', range(3))
def test_equals_the_stock_functions_with_many_ties(files, seed):
    """Scores of one decimal: the order among equal ones is the official one, too."""
    rows, samples = draw(seed, decimals=1)
    # The official code refuses boxes without area, its stock copy counts them; all else is alike.
    for one in samples:
        low, high = one['pred_instances']['bboxes'].split(2, 1)
        one['pred_instances']['bboxes'] = torch.cat([torch.minimum(low, high), torch.maximum(low, high) + 1e-3], 1)
    out = files.folder / 'detections.csv'
    result = evaluate(files.metric(rows, classwise=True, out_csv=str(out)), samples)

    gts = read_csv((files.folder / 'val.csv').open(), set(NAMES))
    dets = read_csv(out.open(), set(NAMES))
    scores, hits = defaultdict(list), defaultdict(list)
    for key in dets[0]:
        found = tpfp_single((gts[0].get(key, []), gts[1].get(key, []), *(part[key] for part in dets)))
        for action in found[0]:
            scores[action].append(found[0][action])
            hits[action].append(found[1][action])
    for action in (12, 17, 79):
        count = sum(labels.count(action) for labels in gts[1].values())
        curve = stock.compute_precision_recall(np.concatenate(scores[action]), np.concatenate(hits[action]), count)
        assert result[f'mAP/{NAMES[action]}_AP'] == pytest.approx(stock.compute_average_precision(*curve), abs=1e-12)


def test_perfect_detections_give_one(files):
    rows, _ = draw(0)
    rows = [row for row in rows if row[3] != 50]
    keys = sorted({row[:2] for row in rows})
    samples = [
        sample(*key, [row[2] for row in rows if row[:2] == key], [{row[3]: 0.9} for row in rows if row[:2] == key])
        for key in keys
    ]
    result = evaluate(files.metric(rows), samples)
    assert set(result.values()) == {1.0}


def test_rows_of_the_published_format(tmp_path):
    """A person with three labels is three boxes to find, each of its own action."""
    (tmp_path / 'a.csv').write_text(
        '0f39OWEqJ24,0902,0.031,0.162,0.670,0.995,12,0\n'
        '0f39OWEqJ24,0902,0.031,0.162,0.670,0.995,17,0\n'
        '0f39OWEqJ24,0902,0.031,0.162,0.670,0.995,79,0\n'
        '0f39OWEqJ24,0903,0.034,0.189,0.669,0.980,12,0\n'
    )
    (tmp_path / 'l.pbtxt').write_text(
        'label {\n  name: "stand"\n  label_id: 12\n  label_type: PERSON_MOVEMENT\n}\n'
        'label {\n  name: "carry"\n  label_id: 17\n}\nlabel {\n  name: "talk"\n  label_id: 79\n}\n'
    )
    (tmp_path / 'e.csv').write_text('0f39OWEqJ24,0903\n')
    metric = AVAFrameMetric(*(str(tmp_path / name) for name in ('a.csv', 'l.pbtxt', 'e.csv')))
    box = (0.031, 0.162, 0.670, 0.995)
    dets = sample(
        '0f39OWEqJ24', 902, [(0.0, 0.0, 0.2, 0.2), box], [{12: 0.9, 17: 0.1, 79: 0.4}, {12: 0.8, 17: 0.2, 79: 0.3}]
    )
    assert evaluate(metric, [dets]) == {
        'mAP/overall': pytest.approx((0.5 + 1 + 0.5) / 3),
        'mAP/person_movement': 0.5,
        'mAP/object_manipulation': 1.0,
        'mAP/person_interaction': 0.5,
    }


@pytest.mark.parametrize(('right', 'expected'), [(0.249996, 1.0), (0.249994, 0.0)])
def test_boxes_have_five_decimals(files, right, expected):
    """The overlap reaches 0.5 only as written in the csv: 0.25000."""
    metric = files.metric([('v', 902, (0.0, 0.0, 0.5, 0.5), 12)])
    assert evaluate(metric, [sample('v', 902, [(0, 0, right, 0.5)], [{12: 0.9}])])['mAP/overall'] == expected


def test_scores_have_five_decimals(files):
    """Scores that differ in the sixth decimal are equal: both orders of the key frames rank alike."""
    metric = files.metric([('v', 902, WHOLE, 12)], ignore_empty_frames=False)
    wrong, right = (0.6, 0.6, 0.9, 0.9), WHOLE
    results = [
        evaluate(metric, [sample('v', 902, [wrong, right], [{12: low}, {12: high}])])['mAP/overall']
        for low, high in ((0.500001, 0.500004), (0.500004, 0.500001))
    ]
    assert results[0] == results[1]


def test_rounding_is_that_of_the_text():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-0.2, 1.2, 20_000), (rng.integers(0, 100_000, 20_000) + 0.5) / 1e5])
    for kind in (np.float32, np.float64):
        drawn = values.astype(kind)
        assert as_written(drawn).tolist() == [float(f'{value:.5f}') for value in drawn.tolist()]


def test_excluded_key_frames_count_on_neither_side(files):
    rows = [('v', 902, WHOLE, 12), ('v', 903, WHOLE, 12)]
    good, bad = sample('v', 902, [WHOLE], [{12: 0.5}]), sample('v', 903, [(0.6, 0.6, 0.9, 0.9)], [{12: 0.9}])
    assert evaluate(files.metric(rows), [good, bad])['mAP/overall'] == 0.25
    assert evaluate(files.metric(rows, [('v', 903)]), [good, bad])['mAP/overall'] == 1


def test_key_frames_without_ground_truth(files):
    """Detections there are false positives, unless asked otherwise; a frame of other actions only is such a frame."""
    rows = [('v', 902, WHOLE, 12), ('v', 904, WHOLE, 50)]
    samples = [sample('v', second, [WHOLE], [{12: score}]) for second, score in ((902, 0.5), (903, 0.9), (904, 0.8))]
    assert evaluate(files.metric(rows), samples)['mAP/overall'] == pytest.approx(1 / 3)
    assert evaluate(files.metric(rows, ignore_empty_frames=True), samples)['mAP/overall'] == 1


def test_other_actions_count_on_neither_side(files):
    metric = files.metric([('v', 902, WHOLE, 12), ('v', 902, WHOLE, 50)], classwise=True)
    result = evaluate(metric, [sample('v', 902, [WHOLE, (0, 0, 0.1, 0.1)], [{12: 0.9}, {50: 1.0}])])
    assert result == {'mAP/overall': 1, 'mAP/person_movement': 1, 'mAP/stand_AP': 1}


def test_action_without_detection_counts_zero_and_without_ground_truth_not(files):
    metric = files.metric([('v', 902, WHOLE, 12), ('v', 902, WHOLE, 79)], action_thr=0.5)
    result = evaluate(metric, [sample('v', 902, [WHOLE], [{12: 0.9, 17: 0.9, 79: 0.4}])])
    assert result == {'mAP/overall': 0.5, 'mAP/person_movement': 1, 'mAP/person_interaction': 0}


def test_second_detection_of_a_person_is_a_false_positive(files):
    """Also if it overlaps another person enough: only the person it overlaps most counts."""
    other = (0.1, 0.1, 0.5, 0.45)
    metric = files.metric([('v', 902, WHOLE, 12), ('v', 902, other, 12)])
    between = (0.1, 0.1, 0.5, 0.49)
    assert plain_iou(between, other) > 0.5
    result = evaluate(metric, [sample('v', 902, [WHOLE, between, other], [{12: 0.9}, {12: 0.8}, {12: 0.7}])])
    assert result['mAP/overall'] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(('threshold', 'score', 'expected'), [(0.0, 0.0, 1), (0.3, 0.3, 1), (0.3, 0.2999, 0)])
def test_score_equal_to_the_threshold_counts(files, threshold, score, expected):
    metric = files.metric([('v', 902, WHOLE, 12)], action_thr=threshold)
    assert evaluate(metric, [sample('v', 902, [WHOLE], [{12: score}])])['mAP/overall'] == expected


def test_overlap_of_one_half_is_enough(files):
    metric = files.metric([('v', 902, (0.0, 0.0, 0.5, 0.5), 12)])
    assert evaluate(metric, [sample('v', 902, [(0, 0, 0.25, 0.5)], [{12: 1}])])['mAP/overall'] == 1


def test_boxes_without_area_are_no_detections(files):
    metric = files.metric([('v', 902, WHOLE, 12)])
    flat = [(0.3, 0.1, 0.300001, 0.5), (0.5, 0.1, 0.3, 0.4)]
    result = evaluate(metric, [sample('v', 902, [*flat, WHOLE], [{12: 0.9}, {12: 0.8}, {12: 0.1}])])
    assert result['mAP/overall'] == 1


def test_repeated_key_frames_count_once(files):
    """As distributed samplers repeat samples; the repeated detection would be a false positive."""
    metric = files.metric([('v', 902, WHOLE, 12), ('v', 903, WHOLE, 12)])
    samples = [sample('v', second, [WHOLE], [{12: score}]) for second, score in ((902, 0.9), (902, 0.9), (903, 0.5))]
    assert evaluate(metric, samples)['mAP/overall'] == 1


@pytest.mark.parametrize('samples', [[], [sample('v', 902, [], [])], [sample('w', 950, [], [])]])
def test_no_detection_gives_zero(files, samples):
    assert evaluate(files.metric([('v', 902, WHOLE, 12)]), samples)['mAP/overall'] == 0


def test_detections_are_written_for_submission(files):
    out = files.folder / 'new' / 'detections.csv'
    metric = files.metric([('v', 902, WHOLE, 12)], [('v', 903)], action_thr=0.25, out_csv=str(out))
    samples = [
        sample('v', 902, [WHOLE, (0, 0.123456, 1, 1)], [{12: 0.25}, {50: 0.987654, 79: 0.249}]),
        sample('v', 903, [WHOLE], [{80: 1}]),
    ]
    evaluate(metric, samples)
    assert out.read_text() == (
        'v,0902,0.10000,0.10000,0.50000,0.50000,12,0.25000\n'
        'v,0902,0.00000,0.12346,1.00000,1.00000,50,0.98765\n'
        'v,0903,0.10000,0.10000,0.50000,0.50000,80,1.00000\n'
    )


def test_custom_classes_name_the_columns(files):
    out = files.folder / 'detections.csv'
    options = {'num_classes': 3, 'custom_classes': [79, 12], 'out_csv': str(out), 'classwise': True}
    metric = files.metric([('v', 902, WHOLE, 12), ('v', 902, WHOLE, 17)], **options)
    result = evaluate(metric, [sample('v', 902, [WHOLE], [{2: 0.9}], columns=3)])
    assert result == {'mAP/overall': 1, 'mAP/stand_AP': 1}  # AVA's groups are of maps that have all of them
    assert [line.split(',')[6] for line in out.read_text().splitlines()] == ['79', '12']


@pytest.mark.parametrize(
    ('broken', 'message'),
    [
        (sample('v', 902, [WHOLE], [{12: float('nan')}]), r'key frame v,0902: scores\[0\] is not finite'),
        (sample('v', 7, [WHOLE, (0, 0, np.inf, 1)], [{}, {}]), r'key frame v,0007: bboxes\[1\] is not finite.*inf'),
        (sample('v', 902, [WHOLE], [{}], columns=80), r'scores of shape \[1, 80\]; expected \[n, 4\] and \[n, 81\]'),
        ({'timestamp': 3, 'pred_instances': {}}, 'without video_id .*meta_keys'),
        ({'video_id': 'v', 'timestamp': 3, 'pred_instances': {'bboxes': []}}, 'v,0003: pred_instances has no scores'),
    ],
)
def test_broken_predictions_name_the_key_frame(files, broken, message):
    metric = files.metric([('v', 902, WHOLE, 12)])
    with pytest.raises(ValueError, match=message):
        metric.process({}, [broken])


@pytest.mark.parametrize(
    ('rows', 'options', 'message'),
    [
        ([('v', 902, WHOLE, 50)], {}, r'val.csv: none of its 1 rows is left to evaluate.*label_file'),
        ([('v', 902, WHOLE, 12)], {'excluded': [('v', 902)]}, 'none of its 1 rows is left'),
        ([('v', 902, WHOLE, 12)], {'num_classes': 61}, r'actions.pbtxt: action id 80 needs num_classes of at least 81'),
        ([('v', 902, WHOLE, 12)], {'num_classes': 3, 'custom_classes': [12, 50]}, r'of which \[50\] are not in'),
        ([('v', 902, WHOLE, 12)], {'custom_classes': [12]}, 'has 1 ids.*expected num_classes - 1 = 80'),
    ],
)
def test_files_that_do_not_fit_end_the_run_at_the_start(files, rows, options, message):
    with pytest.raises(ValueError, match=message):
        files.metric(rows, **options)

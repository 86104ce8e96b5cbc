"""Inference on given people: where their boxes come from, what the memory holds, and what is refused."""

from __future__ import annotations

import json
import runpy
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_action_detector import detector_config, drawn_pixels, moving_box, write_video
from fake_action_detector import numbered_frames as grey_frames
from fake_person_models import (
    AFTER,
    BEFORE,
    PER_SECOND,
    WIDTH,
    WatchedBank,
    recaller_config,
    save_person_detector,
)
from mmdet.apis import inference_detector, init_detector
from mmengine.registry import DefaultScope

from mvbench_plugins.apis import ActionDetInferencer, PersonDetector, key_frame_run
from mvbench_plugins.apis.video_reader import VideoSource
from mvbench_plugins.apis.video_writer import AnnotatedVideoWriter
from mvbench_plugins.datasets.action.person_boxes import read_person_boxes

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer_action.py'
SIZE = np.array([96, 64, 96, 64])  # the model sees half of it
pytestmark = [
    pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'),
    pytest.mark.filterwarnings('ignore:the video has'),
]


@pytest.fixture(scope='module')
def recaller() -> ActionDetInferencer:
    return ActionDetInferencer(recaller_config(), device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def finder() -> ActionDetInferencer:
    """A model that finds people itself."""
    return ActionDetInferencer(detector_config(), device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def detector_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_person_detector(tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.5 s at 30 fps, 160 x 96; key frames at 0, 30 and 60."""
    return write_video(tmp_path_factory.mktemp('videos') / 'box.mp4', 75)


@pytest.fixture(scope='module')
def checkpoint(recaller: ActionDetInferencer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'recaller.pth'
    torch.save(dict(state_dict=recaller.model.state_dict(), meta=dict(cfg=recaller.cfg.pretty_text)), path)
    return path


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        words = [str(TOOL), *map(str, arguments), '--checkpoint', str(checkpoint), '--no-progress']
        monkeypatch.setattr(sys, 'argv', words)
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def numbered_frames(count: int) -> np.ndarray:
    return grey_frames(count, height=64, width=96)


def crowd(number: int) -> np.ndarray:
    """Rows of box and score of a key frame: 0 to 3 people, scores not in order, one of them below 0.8."""
    left = np.arange(number % 4) * 5 + number
    rows = np.stack([left, left, left + 20, left + 15, 0.85 + left % 7 / 50], 1)
    return np.concatenate([rows, [[1, 1, 9, 9, 0.79]]]).astype(np.float32)


def kept(number: int) -> np.ndarray:
    rows = crowd(number)[:-1]
    return rows[np.argsort(-rows[:, 4], kind='stable')]


def expected_memory(number: int, count: int, spacing: int, lookahead: int) -> np.ndarray:
    """Straight from the definition, over the whole video: slots of key frames before to after, zeros where none is."""
    memory = np.zeros((BEFORE + 1 + AFTER, PER_SECOND, WIDTH))
    for slot, other in enumerate(range(number - BEFORE, number + AFTER + 1)):
        if 0 <= other < count and other <= number + lookahead:
            people = kept(other)[:PER_SECOND]
            memory[slot, : len(people), 0] = other * spacing
            memory[slot, : len(people), 1] = people[:, 0] / 96
    return memory.reshape(-1)


def boxes_of(sample) -> np.ndarray:
    return sample.pred_instances.bboxes.numpy() * SIZE


def read_frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        success, frame = capture.read()
        if not success:
            return frames
        frames.append(frame)


@pytest.mark.parametrize('batch_size', [1, 3, 20])
@pytest.mark.parametrize('lookahead', [None, 0, 1])
def test_each_clip_sees_the_people_of_its_window_and_no_others(recaller, batch_size, lookahead):
    count, step = 12, 20
    people = {step * number: crowd(number) for number in range(count)}
    recaller.model.extracted.clear()
    recaller.model.classified.clear()
    samples = list(
        recaller.stream(numbered_frames(230), batch_size, step=step, person_boxes=people, lookahead=lookahead)
    )
    assert [sample.frame_index for sample in samples] == list(people)
    ahead = AFTER if lookahead is None else lookahead
    for number, sample in enumerate(samples):
        found, rows = sample.pred_instances, kept(number)
        assert len(found) == len(rows) == number % 4
        np.testing.assert_allclose(boxes_of(sample), rows[:, :4], atol=1e-3)
        np.testing.assert_allclose(found.person_scores, rows[:, 4])
        for scores in found.scores.numpy():
            np.testing.assert_allclose(scores[1:], expected_memory(number, count, step, ahead), atol=1e-3)
    # the backbone saw each clip once, and nothing was classified alone that could go with others
    assert sum(recaller.model.extracted) == sum(recaller.model.classified) == count
    assert max(recaller.model.classified) == min(batch_size, max(count - ahead, ahead))
    assert len(recaller.model.memory) == 0


def test_streams_side_by_side_do_not_see_each_other(recaller):
    def people(shift: int) -> list[np.ndarray]:
        return [np.array([[shift + number, 2, 40, 30]]) for number in range(5)]

    def stream(shift: int) -> Iterator:
        return recaller.stream(numbered_frames(150), person_boxes=people(shift))

    alone = [[sample.pred_instances.scores for sample in stream(shift)] for shift in (3, 20)]
    both = [(a.pred_instances.scores, b.pred_instances.scores) for a, b in zip(stream(3), stream(20), strict=True)]
    for a, b, (c, d) in zip(*alone, both, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d) and not torch.equal(a, b)


@pytest.mark.parametrize(('lookahead', 'limit'), [(None, BEFORE + 1 + AFTER), (0, BEFORE + 1)])
def test_memory_is_bounded_by_the_window(recaller, lookahead, limit):
    def held(count: int) -> int:
        WatchedBank.largest = 0
        people = [[[1, 2, 30, 20]]] * count
        stream = recaller.stream(numbered_frames(count), 4, step=1, person_boxes=people, lookahead=lookahead)
        assert len(list(stream)) == count
        return WatchedBank.largest

    assert held(20) == held(200) == limit


def test_annotated_file_is_drawn_without_holding_its_frames(recaller, monkeypatch, tmp_path):
    def peak(seconds: int) -> int:
        def source(*_: object) -> VideoSource:
            frames = (np.full((96, 128, 3), number % 256, np.uint8) for number in range(seconds * 30))
            return VideoSource('long', 'video', frames, 30.0, seconds * 30)

        monkeypatch.setattr(key_frame_run, 'open_video', source)
        tracemalloc.start()
        recaller('long', out=tmp_path / 'long.mp4', person_boxes=[[[5, 5, 90, 60]]] * seconds)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(read_frames(tmp_path / 'long.mp4')) == seconds * 30
        return size

    frame = 96 * 128 * 3
    peak(4)
    # waiting for two more key frames would hold 60 frames beside the 29 of a clip
    assert peak(6) < 70 * frame
    assert peak(24) < 70 * frame


def test_frames_behind_the_last_detection_are_written_at_once(tmp_path):
    frames = (np.full((240, 240, 3), number % 256, np.uint8) for number in range(600))
    with AnnotatedVideoWriter(tmp_path / 'out.mp4', (240, 240), 30.0, 15.0, lambda image, _: image) as writer:
        tracemalloc.start()
        writer.write_all(frames, [(0, None), (30, None)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * 240 * 240 * 3
    assert len(read_frames(tmp_path / 'out.mp4')) == 600


def test_annotated_video_ends_where_the_detections_end(recaller, video, tmp_path):
    recaller(video, person_boxes={30: [[20, 30, 60, 70]]}, max_seconds=1.5, out=tmp_path / 'out.mp4')
    assert len(read_frames(tmp_path / 'out.mp4')) == 45


def test_camera_waits_for_nothing_unless_it_is_told_to(recaller, monkeypatch, tmp_path):
    read = []

    def source(*_: object) -> VideoSource:
        read.clear()

        def frames() -> Iterator[np.ndarray]:
            for frame in numbered_frames(256):
                read.append(frame)
                yield frame

        return VideoSource('camera0', 'camera 0', frames(), 30.0, live=True)

    monkeypatch.setattr(key_frame_run, 'open_video', source)
    people = {30 * number: crowd(number) for number in range(9)}
    stream = recaller.stream(0, person_boxes=people)
    assert next(stream).frame_index == 0 and len(read) == 13  # the last frame of the first clip is number 12
    second = next(stream)
    assert second.frame_index == 30 and len(read) == 43
    np.testing.assert_allclose(second.pred_instances.scores[0, 1:], expected_memory(1, 9, 30, 0), atol=1e-3)
    stream.close()
    stream = recaller.stream(0, person_boxes=people, lookahead=2)
    assert next(stream).frame_index == 0 and len(read) == 73
    stream.close()
    recaller(0, person_boxes=people, lookahead=2, out=tmp_path / 'out.mp4')
    assert len(read_frames(tmp_path / 'out.mp4')) == 256
    with pytest.raises(ValueError, match=r'lookahead: camera 0 cannot be read a second time, and 16 s of frames'):
        recaller(0, interval=8, person_boxes={0: []}, lookahead=2, out=tmp_path / 'other.mp4')
    assert not (tmp_path / 'other.mp4').exists()


def test_file_may_wait_as_long_as_it_likes(recaller, tmp_path):
    recaller(numbered_frames(250), interval=8, person_boxes={0: []}, out=tmp_path / 'out.mp4')
    assert len(read_frames(tmp_path / 'out.mp4')) == 250


def test_annotated_video_shows_the_people_around_their_key_frame(recaller, video, tmp_path):
    people = [[[20, 30, 60, 70]], [], [[90, 40, 130, 80]]]
    result = recaller(video, person_boxes=people, out=tmp_path / 'out.mp4', json_out=tmp_path / 'out.json')
    detections = [record['detections'] for record in result['predictions']]
    assert list(map(len, detections)) == [1, 0, 1]
    np.testing.assert_allclose(detections[2][0]['box'], people[2][0], atol=1)  # the model rounds the size of clips
    content = json.loads((tmp_path / 'out.json').read_text())
    assert content['complete'] is True and content['key_frames'] == result['predictions']
    original, annotated = read_frames(video), read_frames(tmp_path / 'out.mp4')
    assert len(annotated) == len(original) == 75
    for number, (before, after) in enumerate(zip(original, annotated, strict=True)):
        drawn = drawn_pixels(before, after)
        lines = [drawn[y - 1 : y + 2, x + 5 : x + 35].any(0).mean() > 0.8 for x, y in ((20, 70), (90, 80))]
        assert lines == [number < 15, number >= 45], f'frame {number}'


def test_ctrl_c_draws_what_was_found_until_then(recaller, monkeypatch, tmp_path):
    def source(*_: object) -> VideoSource:
        def frames() -> Iterator[np.ndarray]:
            yield from (moving_box(number)[0] for number in range(160))
            raise KeyboardInterrupt

        return VideoSource('film', 'video film', frames(), 30.0, 300)

    monkeypatch.setattr(key_frame_run, 'open_video', source)
    out, path = tmp_path / 'out.mp4', tmp_path / 'out.json'
    with pytest.raises(KeyboardInterrupt):
        recaller('film', person_boxes=[[[20, 30, 60, 70]]] * 10, out=out, json_out=path)
    content = json.loads(path.read_text())
    assert content['complete'] is False
    assert [record['frame'] for record in content['key_frames']] == [0, 30, 60]  # key frames 90 and 120 were waiting
    frames = read_frames(out)
    drawn = [drawn_pixels(moving_box(number)[0], frame, 80).any() for number, frame in enumerate(frames)]
    assert drawn == [True] * 75 + [False] * 85


def test_key_frame_of_the_detector_is_exact_where_the_clip_does_not_hold_it():
    cfg = recaller_config()
    cfg.test_dataloader.dataset.pipeline[1].offset = 1
    moved = ActionDetInferencer(cfg, device='cpu', show_progress=False)
    seen = []

    class Watching(PersonDetector):
        def __init__(self) -> None:
            """Without mmdet."""

        def __call__(self, image: np.ndarray) -> np.ndarray:
            seen.append(image[0, 0].tolist())
            return np.array([[1, 2, 30, 20, 0.9]], np.float32)

    frames = numbered_frames(100).copy()
    frames[..., 1:] = 0
    samples = list(moved.stream(frames, person_boxes=Watching(), lookahead=0))
    assert seen == [[number, 0, 0] for number in (0, 30, 60, 90)]  # blue in BGR order, as mmdet takes it
    # the model sees the clip around the frame behind the key frame
    grey = 1 + BEFORE * PER_SECOND * WIDTH
    assert [round(3 * sample.pred_instances.scores[0, grey].item()) for sample in samples] == [1, 31, 61, 91]


@pytest.mark.parametrize(
    ('step', 'expected'),
    [
        (dict(clip_len=8, frame_interval=4), [12, 17, 22, 26, 31, 36, 41, 46]),
        (dict(clip_len=8, frame_interval=4, offset=0), [11, 16, 20, 25, 30, 35, 40, 44]),
    ],
)
def test_clips_of_configs_on_files_of_one_second(step, expected):
    cfg = detector_config()
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadSecondClips', **step), *pipeline[3:]]
    inferencer = ActionDetInferencer(cfg, device='cpu', show_progress=False)
    sample = list(inferencer.stream(numbered_frames(90), fps=30))[1]
    seen = (sample.pred_instances.scores[0, 1:] * 255).round().int().tolist()
    # moments 9, 13, 17 ... (10, 14 ... by default) of 25 per second, at 30 per second
    assert seen == expected


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text('\n'.join(rows) + '\n')
    return path


def test_people_of_a_file(recaller, video, tmp_path):
    path = write_csv(
        tmp_path / 'boxes.csv',
        'box,902,0.5,0.5,0.75,1.0,0.81',
        'box,902,0.25,0.5,0.5,1.0,0.93',
        'box,902,0.0,0.5,0.5,1.0,0.79',
        'box,903,0.0,0.0,0.5,0.5,1',
        'other,901,0.1,0.1,0.5,0.5,1',
    )
    found = recaller(video, person_boxes=path, first_second=900)['predictions']
    assert [len(record['detections']) for record in found] == [0, 0, 2]
    for detection, box in zip(found[2]['detections'], [[40, 48, 80, 96], [80, 48, 120, 96]], strict=True):
        np.testing.assert_allclose(detection['box'], box, atol=3)  # one pixel of the clip
    assert [detection['person_score'] for detection in found[2]['detections']] == [0.93, 0.81]
    again = recaller(video, person_boxes=read_person_boxes(path), first_second=900, det_score_thr=0.9)['predictions']
    assert [len(record['detections']) for record in again] == [0, 0, 1]
    shifted = recaller(video, person_boxes=path, first_second=901, interval=2)['predictions']
    assert [(record['frame'], len(record['detections'])) for record in shifted] == [(0, 0), (60, 1)]


def test_threshold_of_the_test_dataset_is_the_default(video):
    inferencer = ActionDetInferencer(recaller_config(person_score_thr=0.6), device='cpu', show_progress=False)
    people = {30: [[5, 5, 50, 50, 0.61], [5, 5, 50, 50, 0.59]]}
    found = inferencer(video, person_boxes=people)['predictions']
    assert [len(record['detections']) for record in found] == [0, 1, 0]


def test_people_from_a_detector_of_mmdet(recaller, video, detector_files):
    detector = PersonDetector(*detector_files, device='cpu')
    assert DefaultScope.get_current_instance().scope_name == 'mmaction'
    found = recaller(video, person_boxes=detector, batch_size=2)['predictions']
    assert [record['frame'] for record in found] == [0, 30, 60]
    for record in found:
        (detection,) = record['detections']
        np.testing.assert_allclose(detection['box'], moving_box(record['frame'])[1], atol=2)
        assert detection['person_score'] == pytest.approx(0.9)
    # what mmdet itself says, without threshold
    image = read_frames(video)[30]
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = init_detector(*map(str, detector_files), palette='coco', device='cpu')
        expected = inference_detector(model, image).pred_instances[1:]
    np.testing.assert_allclose(detector(image), np.column_stack([expected.bboxes, expected.scores.detach()]))
    assert len(recaller(video, person_boxes=detector, det_score_thr=0.4)['predictions'][1]['detections']) == 2


def test_tool_takes_people_from_a_detector_or_a_file(run_tool, recaller, video, detector_files, tmp_path):
    config, weights = detector_files
    path = tmp_path / 'out.json'
    options = ['--json', path, '--device', 'cpu', '--det-score-thr', 0.4, '--lookahead', 1, '--action-thr', 0.01]
    run_tool(video, '--det-config', config, '--det-checkpoint', weights, '--det-label', 2, *options)
    by_hand = dict(det_score_thr=0.4, lookahead=1, action_thr=0.01)
    cars = PersonDetector(config, weights, label=2)
    expected = recaller(video, person_boxes=cars, **by_hand)['predictions']
    assert json.loads(path.read_text())['key_frames'] == expected
    assert [detection['person_score'] for detection in expected[1]['detections']] == [0.95]
    boxes = write_csv(tmp_path / 'boxes.csv', 'box,7,0.25,0.5,0.5,1.0,0.45')
    run_tool(video, '--person-boxes', boxes, '--first-second', 6, *options)
    expected = recaller(video, person_boxes=boxes, first_second=6, **by_hand)['predictions']
    assert json.loads(path.read_text())['key_frames'] == expected
    assert [len(record['detections']) for record in expected] == [0, 1, 0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--det-config', 'person.py'], '--det-config and --det-checkpoint belong together'),
        (['--person-images', 'images.json'], '--person-images needs --person-boxes'),
        (['--det-config', 'person.py', '--person-boxes', 'boxes.csv'], 'not allowed with argument'),
    ],
)
def test_tool_refuses_options_that_do_not_go_together(run_tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_tool('video.mp4', '--json', 'out.json', *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'this model tells actions of people that are given to it.*--person-boxes FILE'),
        (['--person-boxes', 'missing.csv'], 'file of person boxes missing.csv does not exist'),
        (['--det-config', 'a.py', '--det-checkpoint', 'a.pth'], 'person detector: a.py does not exist'),
    ],
)
def test_tool_tells_what_is_missing_in_one_line(run_tool, video, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run_tool(video, '--json', 'out.json', *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('people', [[[]] * 3, np.zeros((3, 0, 4)), {}, {30: np.zeros((0, 5))}])
def test_video_without_anyone(recaller, people, tmp_path):
    result = recaller(numbered_frames(75), person_boxes=people, out=tmp_path / 'out.mp4')
    assert [record['detections'] for record in result['predictions']] == [[], [], []]
    assert len(read_frames(tmp_path / 'out.mp4')) == 75


def test_boxes_are_clipped_to_the_image_and_those_beside_it_dropped(recaller):
    people = {0: [[-2, -1, 20, 66], [96.5, 3, 99, 9]]}
    (sample,) = recaller.stream(numbered_frames(20), person_boxes=people)
    # ClipBoxes of the config ends at the clip's last pixel, two before the edge of the video
    np.testing.assert_allclose(boxes_of(sample), [[0, 0, 20, 62]], atol=1e-4)


@pytest.mark.parametrize(
    ('people', 'message'),
    [
        ({0: [[0.1, 0.1, 0.5, 0.9]]}, r'these look like fractions.*multiply x by 96, y by 64'),
        ({0: [[1, 1, 9, 9]], 30: [[10, 10, 192, 20]]}, r'\[30\], row 0: found box \[10.*the video has 96 x 64 pixels'),
        ({0: [[1, 1, 9, 9], [5, 5, 3, 9]]}, r'person_boxes\[0\], row 1: .*expected finite x1 < x2 and y1 < y2'),
        ({0: [[1, 1, 9, float('nan')]]}, r'row 0: found box .*nan'),
        ({0: [[1, 1, 9, 9, float('nan')]]}, r'row 0: found score nan, expected one in \[0, 1\]'),
        ({0: [[1, 1, 9, 9, 97]]}, r'found score 97'),
        ({0: [1, 1, 9, 9]}, r'person_boxes\[0\]: found shape \(4,\)'),
        ({0: [[1, 1, 9]]}, r'found shape \(1, 3\)'),
        ({0: 'box'}, r"person_boxes\[0\]: found 'box'"),
        ({0: [[1, 1, 9, 9], [1, 2]]}, r'person_boxes\[0\]: found \[\['),
        ({0: [], 1: []}, r'key 1 is not the 0-based index of a key frame; these are 0, 30, 60'),
        ({1.0: []}, r'key 1.0 is not'),
        ({-30: []}, r'key -30 is not'),
        ([[]] * 4, r'found 4 entries, expected one array for each of the 3 key frames'),
        (np.zeros((1, 4)), r'found 1 entries, expected one array for each of the 3'),
        (np.zeros((3, 4)), r'person_boxes\[0\]: found shape \(4,\), expected numbers \[n, 4\]'),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_done(recaller, monkeypatch, tmp_path, people, message):
    monkeypatch.chdir(tmp_path)
    recaller.model.extracted.clear()
    with pytest.raises(ValueError, match=message):
        recaller(numbered_frames(75), person_boxes=people, out='out.mp4', json_out='out.json')
    assert not list(tmp_path.iterdir()) and not recaller.model.extracted


@pytest.mark.parametrize(
    ('row', 'options', 'message'),
    [
        ('box,1,10,20,60,90,0.9', {}, r'boxes\.csv.*fractions'),
        ('box,1,0.1,0.1,0.5,0.5,nan', {}, r'boxes\.csv.*score.*nan'),
        ('film,1,0.1,0.1,0.5,0.5,0.9', {}, r"boxes\.csv has no boxes of video 'box'.* such as film"),
        ('box,902,0.1,0.1,0.5,0.5,0.9', {}, r'for the seconds 902 to 902, but the video covers 0 to 2.*first_second'),
        ('box,1,0.1,0.1,0.5,0.5,0.9', dict(first_second=2), 'the video covers 2 to 4'),
        ('box,1,0.1,0.1,0.5,0.5,0.9', dict(interval=0.5), r'whole seconds, but key frames lie 0\.5 s apart'),
    ],
)
def test_wrong_files_are_refused_before_anything_is_done(recaller, video, tmp_path, row, options, message):
    path = write_csv(tmp_path / 'boxes.csv', row)
    with pytest.raises(ValueError, match=message):
        recaller(video, person_boxes=path, out=tmp_path / 'out.mp4', **options)
    assert not (tmp_path / 'out.mp4').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'Give their boxes: person_boxes='),
        (dict(person_boxes={}, lookahead=3), 'lookahead: found 3, expected 0 to 2 key frames'),
        (dict(person_boxes={}, lookahead=-1), 'lookahead: found -1'),
        (dict(person_boxes={}, det_score_thr=80), r'det_score_thr: found 80, expected a number in \[0, 1\]'),
    ],
)
def test_options_that_a_model_of_given_people_refuses(recaller, options, message):
    with pytest.raises(ValueError, match=message):
        recaller.stream(numbered_frames(40), **options)
    with pytest.raises(TypeError, match='person_boxes: found int'):
        recaller.stream(numbered_frames(40), person_boxes=3)


@pytest.mark.parametrize('options', [dict(person_boxes={}), dict(lookahead=0), dict(det_score_thr=0.5)])
def test_model_that_finds_people_refuses_given_ones(finder, options):
    with pytest.raises(ValueError, match=f'{next(iter(options))}: this model finds people itself'):
        finder.stream(numbered_frames(40), **options)


def test_detectors_that_do_not_fit_are_refused(detector_files, tmp_path):
    config, weights = detector_files
    with pytest.raises(FileNotFoundError, match=r'person detector: .*missing\.pth does not exist'):
        PersonDetector(config, tmp_path / 'missing.pth', 'cpu')
    with pytest.raises(ValueError, match='label 3 is none of its 3 classes'):
        PersonDetector(config, weights, 'cpu', label=3)
    torch.save(dict(state_dict=dict(other=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth lacks 1 weights of the model, such as score'):
        PersonDetector(config, tmp_path / 'other.pth', 'cpu')

"""Inference on given people: where their boxes come from, and what the memory holds."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fake_action_detector import detector_config, drawn_pixels, moving_box
from fake_person_models import (
    AFTER,
    BEFORE,
    PER_SECOND,
    WIDTH,
    WatchedBank,
    numbered_frames,
    recaller_config,
    write_csv,
)
from mmdet.apis import inference_detector, init_detector
from mmengine.registry import DefaultScope
from video_files import read_frames

from mvbench_plugins.apis import ActionDetInferencer, PersonDetector, key_frame_run
from mvbench_plugins.apis.video_reader import VideoSource
from mvbench_plugins.apis.video_writer import AnnotatedVideoWriter
from mvbench_plugins.datasets.action.person_boxes import read_person_boxes

SIZE = np.array([96, 64, 96, 64])  # the model sees half of it
pytestmark = [
    pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'),
    pytest.mark.filterwarnings('ignore:the video has'),
]


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

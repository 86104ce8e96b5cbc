"""ActionDetInferencer: which frames a clip holds, where boxes end up, what files hold."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from fake_action_detector import (
    BACKGROUND,
    CLIP_LEN,
    FRAME_INTERVAL,
    detector_config,
    drawn_pixels,
    make_inferencer,
    moving_box,
    numbered_frames,
)
from video_files import read_frames

from mvbench_plugins.apis import ActionDetInferencer, key_frame_run
from mvbench_plugins.apis.draw_actions import action_color
from mvbench_plugins.apis.video_reader import VideoSource

pytestmark = pytest.mark.filterwarnings('ignore:Checkpoint is not loaded')


def clip_frames(sample) -> list[int]:
    """The frame numbers that the detector saw, from grey frames."""
    return (sample.pred_instances.scores[0, 1:] * 255).round().int().tolist()


@pytest.mark.parametrize('fps', [30, 25, 6])
def test_clip_holds_the_frames_around_its_key_frame_at_the_rate_of_training(inferencer, fps):
    frames = numbered_frames(int(4.5 * fps) + 1)
    samples = list(inferencer.stream(frames, fps=fps))
    assert [sample.time for sample in samples] == [0, 1, 2, 3, 4]
    assert [sample.frame_index for sample in samples] == [second * fps for second in range(5)]
    for second, sample in enumerate(samples):
        # straight from the definition: 8 moments, 4/30 s apart, the fifth of which is the key frame
        moments = [second + (number - CLIP_LEN // 2) * FRAME_INTERVAL / 30 for number in range(CLIP_LEN)]
        nearest = [int(np.floor(moment * fps + 0.5)) for moment in moments]
        assert clip_frames(sample) == [min(max(number, 0), len(frames) - 1) for number in nearest]


def test_dataset_without_rate_takes_frames_as_they_are():
    sample = list(make_inferencer(fps=None).stream(numbered_frames(60), fps=15, step=30))[1]
    assert clip_frames(sample) == [14, 18, 22, 26, 30, 34, 38, 42]


def test_rate_of_a_wrapped_dataset_is_found():
    cfg = detector_config(fps=15)
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=cfg.test_dataloader.dataset)
    wrapped = ActionDetInferencer(cfg, device='cpu')
    assert clip_frames(list(wrapped.stream(numbered_frames(70), fps=30))[1]) == [0, 6, 14, 22, 30, 38, 46, 54]


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(), [0, 30, 60, 90]),
        (dict(interval=0.5), [0, 15, 30, 45, 60, 75, 90]),
        (dict(interval=0.75), [0, 23, 45, 68, 90]),
        (dict(step=40), [0, 40, 80]),
        (dict(step=1, max_seconds=0.2), [0, 1, 2, 3, 4, 5]),
        (dict(max_seconds=2), [0, 30]),
        (dict(fps=10, interval=5), [0, 50]),
    ],
)
def test_key_frames_and_end(inferencer, options, expected):
    assert [sample.frame_index for sample in inferencer.stream(numbered_frames(91), **options)] == expected


def test_video_shorter_than_a_clip_repeats_its_ends_and_says_so(inferencer):
    with pytest.warns(UserWarning, match='has 5 frames, less than the 29 that a clip covers'):
        samples = list(inferencer.stream(numbered_frames(5)))
    assert [clip_frames(sample) for sample in samples] == [[0, 0, 0, 0, 0, 4, 4, 4]]


def test_batches_give_what_single_clips_give(inferencer, video):
    single = inferencer(video, interval=0.5, return_datasamples=True)['predictions']
    inferencer.model.batches.clear()
    batched = inferencer(video, interval=0.5, batch_size=3, return_datasamples=True)['predictions']
    assert inferencer.model.batches == [3, 2]
    assert (
        [sample.frame_index for sample in batched] == [sample.frame_index for sample in single] == [0, 15, 30, 45, 60]
    )
    for a, b in zip(single, batched, strict=True):
        assert torch.equal(a.pred_instances.bboxes, b.pred_instances.bboxes)
        assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)


def test_file_folder_and_array_give_the_same(inferencer, video, tmp_path):
    frames = read_frames(video)
    for number, frame in enumerate(frames):
        # numbers without leading zeros: frame 10 follows frame 9, not frame 1
        cv2.imwrite(str(tmp_path / f'{number}.png'), frame)
    expected = inferencer(video)['predictions']
    assert len(expected) == 3
    assert inferencer(tmp_path)['predictions'] == inferencer(np.stack(frames))['predictions'] == expected


def test_colours_reach_the_model_as_rgb(inferencer):
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[..., 0] = 200  # blue, as cv2 has it
    seen = []
    hook = inferencer.model.register_forward_pre_hook(
        lambda module, inputs, kwargs: seen.append(kwargs), with_kwargs=True
    )
    with pytest.warns(UserWarning, match='3 frames'):
        list(inferencer.stream(frames))
    hook.remove()
    assert seen[0]['inputs'][0].amax((1, 2, 3)).tolist() == [0, 0, 200]


def test_stream_gives_a_detection_once_its_clip_is_read_and_frees_the_video(inferencer, monkeypatch):
    read, closed = [], []

    def frames() -> Iterator[np.ndarray]:
        try:
            for frame in numbered_frames(200):
                read.append(frame)
                yield frame
        finally:
            closed.append(True)

    source = VideoSource('live', 'camera', frames(), 30.0, live=True)
    monkeypatch.setattr(key_frame_run, 'open_video', lambda *_: source)
    stream = inferencer.stream(0)
    assert next(stream).frame_index == 0 and len(read) == 13  # the last frame of the first clip is number 12
    assert next(stream).frame_index == 30 and len(read) == 43
    stream.close()
    assert closed


def test_memory_does_not_grow_with_the_video(inferencer, monkeypatch, tmp_path):
    def peak(seconds: int) -> int:
        frames = (np.full((96, 128, 3), number % 256, np.uint8) for number in range(seconds * 30))
        source = VideoSource('long', 'video', frames, 30.0, seconds * 30)
        monkeypatch.setattr(key_frame_run, 'open_video', lambda *_: source)
        tracemalloc.start()
        inferencer(0, batch_size=2, out=tmp_path / 'long.mp4')
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    frame = 96 * 128 * 3
    peak(4)
    short = peak(8)
    assert 40 * frame < short < 200 * frame  # the clip and two intervals of frames that wait to be written
    assert peak(32) < short + 10 * frame  # 720 frames more


def test_predictions_and_json(inferencer, video, tmp_path):
    path = tmp_path / 'new' / 'actions.json'
    result = inferencer(video, json_out=path)
    content = json.loads(path.read_text())
    assert content['complete'] is True
    assert content['key_frames'] == result['predictions']
    assert content['video'] == result['video']
    assert content['video'] == dict(source=str(video), width=160, height=96, fps=30.0, frames=75)
    assert result['visualization'] is None
    assert [(record['time'], record['frame']) for record in content['key_frames']] == [(0, 0), (1, 30), (2, 60)]
    for record in content['key_frames']:
        (detection,) = record['detections']
        # the model saw the frames at a third of their size
        np.testing.assert_allclose(detection['box'], moving_box(record['frame'])[1], atol=3)
        assert detection['person_score'] == pytest.approx(0.9)
        assert detection['actions'] == []  # the clip is grey in the mean, below 0.5


def test_thresholds_names_and_order(inferencer):
    frames = numbered_frames(250)
    record = inferencer(frames, action_thr=0.79)['predictions'][7]  # key frame 210: frames 194 to 222
    (detection,) = record['detections']
    names = [(action['id'], action['name']) for action in detection['actions']]
    assert names == [(8, 'look 8'), (7, 'look 7'), (6, 'look 6'), (5, 'look 5'), (4, 'look 4'), (3, 'look 3')]
    assert [action['score'] for action in detection['actions']] == [
        round(number / 255, 4) for number in (222, 218, 214, 210, 206, 202)
    ]
    (detection,) = inferencer(frames, action_thr=0)['predictions'][7]['detections']
    assert {action['id'] for action in detection['actions']} == set(range(1, CLIP_LEN + 1))  # 0 is no action
    assert inferencer(frames, pred_score_thr=0.95)['predictions'][7]['detections'] == []


def test_model_without_person_scores():
    cfg = detector_config()
    cfg.model.person_score = None
    silent = ActionDetInferencer(cfg, device='cpu', show_progress=False)
    (detection,) = silent(numbered_frames(40))['predictions'][0]['detections']
    assert detection.keys() == {'box', 'actions'}


def test_annotated_video_has_every_frame_and_the_boxes_of_the_nearest_key_frame(inferencer, video, tmp_path):
    out = tmp_path / 'new' / 'annotated.mp4'
    result = inferencer(video, out=out)
    assert result['visualization'] == str(out)
    original, annotated = read_frames(video), read_frames(out)
    assert len(annotated) == len(original) == 75
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == 30
    for number, (before, after) in enumerate(zip(original, annotated, strict=True)):
        change = drawn_pixels(before, after)
        key = min(30 * int(number / 30 + 0.5), 60)
        x1, y1, x2, y2 = result['predictions'][key // 30]['detections'][0]['box']
        bottom = change[round(y2) - 1 : round(y2) + 2, round(x1) + 10 : round(x2) - 10].any(0).mean()
        assert bottom > 0.8, f'frame {number}: no line at the bottom of the box of key frame {key}'
        # nothing is drawn elsewhere than at the box and at its label above
        change[max(round(y1) - 25, 0) : round(y2) + 3, max(round(x1) - 3, 0) : round(x1) + 110] = False
        assert change.mean() < 0.002


def test_detections_end_half_an_interval_after_the_last_key_frame(inferencer, tmp_path):
    frames = np.stack([moving_box(number)[0] for number in range(58)])
    inferencer(frames, out=tmp_path / 'out.mp4')
    annotated = read_frames(tmp_path / 'out.mp4')
    drawn = [drawn_pixels(a, b, 80).any() for a, b in zip(frames, annotated, strict=True)]
    assert drawn == [True] * 45 + [False] * 13


@pytest.mark.parametrize('live', [True, False])
def test_ctrl_c_finishes_the_files(inferencer, monkeypatch, tmp_path, live):
    def frames() -> Iterator[np.ndarray]:
        for number in range(100):
            yield moving_box(number)[0]
        raise KeyboardInterrupt

    source = VideoSource('camera0', 'camera 0', frames(), 30.0, live=live)
    monkeypatch.setattr(key_frame_run, 'open_video', lambda *_: source)
    out, path = tmp_path / 'out.mp4', tmp_path / 'out.json'
    if live:
        assert len(inferencer(0, out=out, json_out=path)['predictions']) == 3
    else:
        with pytest.raises(KeyboardInterrupt):
            inferencer(0, out=out, json_out=path)
    content = json.loads(path.read_text())
    assert content['complete'] is live
    assert [record['frame'] for record in content['key_frames']] == [0, 30, 60]
    assert len(read_frames(out)) == 100


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(batch_size=0), 'batch_size: found 0'),
        (dict(interval=0), r'interval: found 0 s, expected at least one frame, which lasts 0.03333 s at 30 fps'),
        (dict(step=0), 'step: found 0'),
        (dict(max_seconds=-1), 'max_seconds: found -1'),
        (dict(fps=0), 'fps: found 0'),
        (dict(out='video.avi'), r'video.avi: expected the name of a file that ends with .mp4'),
        (dict(json_out='video.txt'), r'ends with .json'),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(inferencer, monkeypatch, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        inferencer(numbered_frames(40), **dict(out='out.mp4', json_out='out.json') | options)
    assert not list(tmp_path.iterdir())


def test_input_is_never_overwritten(inferencer, video):
    before = video.read_bytes()
    with pytest.raises(ValueError, match='is the input'):
        inferencer(video, out=video.parent / '.' / video.name)
    assert video.read_bytes() == before


def person(action: int, box: list[float], score: float = 0.75) -> dict:
    name = 'talk to (e.g., self, a person, a group)'
    return dict(box=box, person_score=0.5, actions=[dict(id=action, name=name, score=score)])


def test_labels_stay_in_the_image_and_clear_of_each_other(inferencer):
    frame = np.full((240, 320, 3), BACKGROUND, np.uint8)
    # at the right border, above the image, and two people in one place
    people = [person(3, [300, 100, 330, 150]), person(7, [20, -9, 60, 80]), person(9, [20, -9, 60, 80])]
    drawings = inferencer.visualize([frame] * 4, [dict(detections=found) for found in (people, *([p] for p in people))])
    assert (frame == BACKGROUND).all()
    for detection, alone in zip(people, drawings[1:], strict=True):
        # the plain parts of a label have one colour, the most frequent one besides background and lines
        label = np.array(action_color(detection['actions'][0]['id'])) * 0.8 + BACKGROUND * 0.2
        sizes = [(np.abs(drawing - label).max(-1) < 2).sum() for drawing in (drawings[0], alone)]
        assert sizes[0] > 0.9 * sizes[1] > 300


@pytest.mark.parametrize(('size', 'factor'), [((160, 96), 5), ((340, 256), 1), ((1920, 1080), 1)])
def test_letters_fit_the_image(inferencer, size, factor):
    """Small images are enlarged, so that labels do not hide all of them."""
    width, height = size
    frame = np.full((height, width, 3), BACKGROUND, np.uint8)
    box = [0.4 * width, 0.5 * height, 0.9 * width, 0.9 * height]
    (drawing,) = inferencer.visualize([frame], [dict(detections=[person(3, box)])])
    width, height = width * factor, height * factor
    assert drawing.shape == (height, width, 3)
    rows = np.flatnonzero((drawing != BACKGROUND).any((1, 2)))
    assert 24 <= round(0.5 * height) - rows[0] <= max(32, 0.1 * height)  # two lines of text above the box

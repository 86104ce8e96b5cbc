"""VOSMetric against the DAVIS toolkit's protocol in plain loops, and detail by detail."""

import json
import multiprocessing
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch.distributed as dist
from mmdet.registry import METRICS
from PIL import Image
from vos_protocol import contour, region, statistics
from vos_videos import Videos

from mvbench_plugins.common.palette_png import davis_palette
from mvbench_plugins.evaluation.vos_metric import VOSMetric

SHAPE = (24, 40)
METRIC_NAMES = {'J&F', 'J_tr', 'V'} | {f'{name}_{key}' for name in 'JF' for key in ('mean', 'recall', 'decay')}


def drawn_video(rng: np.random.Generator, frames: int, labels) -> list[np.ndarray]:
    """Discs that wander; each label shows in the first frame."""
    centres = rng.uniform((4, 4), np.subtract(SHAPE, 4), (len(labels), 2))
    masks = []
    for _ in range(frames):
        mask = np.zeros(SHAPE, np.uint8)
        for label, (y, x) in zip(labels, centres, strict=True):
            cv2.circle(mask, (int(x), int(y)), 6, int(label), -1)
        for label, (y, x) in zip(labels, centres, strict=True):
            mask[int(np.clip(y, 0, SHAPE[0] - 1)), int(np.clip(x, 0, SHAPE[1] - 1))] = label
        masks.append(mask)
        centres += rng.normal(0, 2, centres.shape)
    return masks


def disturbed(rng: np.random.Generator, masks: list[np.ndarray]) -> list[np.ndarray]:
    return [np.roll(mask, rng.integers(-4, 5, 2), (0, 1)) for mask in masks]


def square(label: int, left: int, width: int = 8) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:16, left : left + width] = label
    return mask


@pytest.fixture
def three_videos(tmp_path) -> tuple[Videos, dict]:
    rng = np.random.default_rng(1)
    labels = {'b': (1, 2), 'a': (1,), 'c': (3, 7, 2)}
    truth = {name: drawn_video(rng, 6 + index, labels[name]) for index, name in enumerate(labels)}
    return Videos(tmp_path / 'gt', truth), {name: disturbed(rng, masks) for name, masks in truth.items()}


def test_equal_to_the_toolkits_protocol_in_plain_loops(three_videos):
    videos, predictions = three_videos
    rows, regions = [], []
    for name, truth in videos.truth.items():
        for label in sorted(set(truth[0].ravel().tolist()) - {0}):
            pairs = [(p == label, t == label) for p, t in zip(predictions[name][1:-1], truth[1:-1], strict=True)]
            regions.append([region(*pair) for pair in pairs])
            rows.append((*statistics(regions[-1]), *statistics([contour(*pair) for pair in pairs])))
    wanted = dict(
        zip([f'{name}_{key}' for name in 'JF' for key in ('mean', 'recall', 'decay')], np.mean(rows, 0), strict=True)
    )
    wanted['J&F'] = (wanted['J_mean'] + wanted['F_mean']) / 2
    wanted['J_tr'] = np.mean([np.mean(values[int(0.75 * len(values)) :]) for values in regions])
    wanted['V'] = np.mean([np.std(values) for values in regions])
    assert len(rows) == 6 and 0.2 < wanted['J&F'] < 0.9
    found = videos.evaluate(predictions)
    assert found == pytest.approx({f'vos/{key}': value for key, value in wanted.items()}, rel=0, abs=1e-6)
    # The order of the videos and the number of threads change nothing.
    again = videos.evaluate(dict(reversed(predictions.items())), num_threads=3, prefix='davis')
    assert again == {key.replace('vos/', 'davis/'): pytest.approx(value, abs=1e-12) for key, value in found.items()}


def test_perfect_masks(three_videos):
    videos, _ = three_videos
    found = videos.evaluate(videos.truth)
    assert found.keys() == {f'vos/{name}' for name in METRIC_NAMES}
    ones = {f'vos/{name}' for name in ('J&F', 'J_mean', 'J_recall', 'F_mean', 'F_recall', 'J_tr')}
    assert all(value == (key in ones) for key, value in found.items())


def test_objects_count_from_where_they_are_given(tmp_path):
    """Object 5 enters at frame 1, is given at frame 2; object 9 is in the files, but never given."""
    both = np.maximum(square(1, 4), square(5, 20))
    truth = [square(1, 4), both, both, both, np.maximum(both, square(9, 30)), both]
    predictions = [0 * both, square(1, 4), 0 * both, square(5, 20), square(1, 4), 0 * both]
    videos = Videos(tmp_path / 'gt', {'v': truth}, given={'v': {0: (1,), 2: (1, 5)}})
    for options, first, fifth in (
        ({}, [1, 0, 0, 1], [1, 0]),
        ({'skip_last': False}, [1, 0, 0, 1, 0], [1, 0, 0]),
        ({'skip_first': False}, [0, 1, 0, 0, 1], [0, 1, 0]),
    ):
        found = videos.evaluate({'v': predictions}, **options)
        assert found['vos/J_mean'] == pytest.approx(np.mean([np.mean(first), np.mean(fifth)]))


def test_objects_given_on_frames_that_are_not_scored(tmp_path):
    """Each frame that is scored after such a frame counts; the frame that is left out is the given one."""
    both = np.maximum(square(1, 4), square(5, 20))
    truth = [square(1, 4), both, None, both, both, both]
    predictions = [square(1, 4), *[square(1, 4)] * 2, both, square(1, 4), both]
    for number, unsaved, expected in ((1, (1,), 1 / 2), (2, (), 1 / 2), (3, (), 0)):
        given = {'v': {0: (1,), number: (1, 5)}}
        videos = Videos(tmp_path / str(number), {'v': truth}, given=given, unsaved={'v': unsaved})
        found = videos.evaluate({'v': predictions}, outfile_prefix=str(tmp_path / 'out'))
        rows = (tmp_path / 'out.csv').read_text().splitlines()
        assert float(rows[2].split(',')[3]) == expected and found['vos/J_mean'] == (1 + expected) / 2


def test_objects_of_the_ground_truth_that_were_not_given_are_not_scored(tmp_path):
    both = np.maximum(square(1, 4), square(5, 20))
    videos = Videos(tmp_path / 'gt', {'v': [both] * 4}, given={'v': {0: (1,)}})
    assert videos.evaluate({'v': [square(1, 4)] * 4})['vos/J&F'] == 1


def test_object_without_a_frame_that_counts_is_left_out(tmp_path):
    both = np.maximum(square(1, 4), square(5, 20))
    for number in (2, 3):  # its only frame after the given one is the last one, or there is none
        videos = Videos(tmp_path / str(number), {'v': [both] * 4}, given={'v': {0: (1,), number: (5,)}})
        assert videos.evaluate({'v': [square(1, 4)] * 4})['vos/J&F'] == 1


def test_frames_without_ground_truth_and_unsaved_ones_are_not_scored(tmp_path):
    here, gone = square(1, 4), square(0, 0)
    videos = Videos(tmp_path / 'gt', {'v': [here, None, here, here, here, None]}, unsaved={'v': (2,)})
    found = videos.evaluate({'v': [gone, gone, gone, here, gone, gone]})
    assert found['vos/J_mean'] == 1  # frame 4 is the last one with ground truth


def test_absent_in_both_is_right_and_absent_in_one_is_wrong(tmp_path):
    here, gone = square(1, 4), square(0, 0)
    videos = Videos(tmp_path / 'gt', {'v': [here, gone, gone, here, here]})
    found = videos.evaluate({'v': [here, gone, here, gone, here]})
    assert found['vos/J_mean'] == found['vos/F_mean'] == pytest.approx(1 / 3)


def test_label_255(tmp_path):
    """Alone on the first mask it is the object of DAVIS 2016; beside others it is void, and not an object."""
    binary = Videos(tmp_path / 'binary', {'v': [square(255, 4)] * 4})
    assert binary.evaluate({'v': [square(255, 4)] * 4}, ignore_void=True)['vos/J&F'] == 1
    assert binary.evaluate({'v': [square(255, 8)] * 4}, ignore_void=True)['vos/J_mean'] == pytest.approx(1 / 3)
    first = np.maximum(square(1, 4), square(255, 12, 4))
    void = Videos(tmp_path / 'void', {'v': [first, first, square(255, 12), first]}, given={'v': {0: (1,), 2: ()}})
    predictions = {'v': [first, square(1, 4, 12), square(0, 0), first]}
    assert void.evaluate(predictions, ignore_void=True)['vos/J&F'] == 1
    assert void.evaluate(predictions)['vos/J_mean'] == pytest.approx((8 / 12 + 1) / 2)


@pytest.fixture
def meta_file(tmp_path) -> Path:
    categories = {'u': {1: 'ape', 2: 'cat'}, 'v': {1: 'dog'}}
    videos = {
        video: {'objects': {str(label): {'category': name, 'frames': []} for label, name in objects.items()}}
        for video, objects in categories.items()
    }
    path = tmp_path / 'meta.json'
    path.write_text(json.dumps({'videos': videos}))
    return path


def test_seen_and_unseen(tmp_path, meta_file):
    two = np.maximum(square(1, 4), square(2, 20))
    videos = Videos(tmp_path / 'gt', {'u': [two] * 3, 'v': [square(1, 4)] * 3})
    predictions = {'u': [square(1, 4)] * 3, 'v': [square(1, 8)] * 3}
    found = videos.evaluate(predictions, meta_file=str(meta_file), seen_classes=['ape', 'cat', 'emu'], skip_last=False)
    assert found['vos/Js'] == found['vos/Fs'] == 0.5  # the first of 'u' is right, the second one is missing
    assert found['vos/Ju'] == pytest.approx(1 / 3) and 0 < found['vos/Fu'] < 1
    assert found['vos/G'] == pytest.approx(np.mean([found[f'vos/{key}'] for key in ('Js', 'Fs', 'Ju', 'Fu')]))
    with pytest.raises(ValueError, match='no scored object is of an unseen category'):
        videos.evaluate({'u': predictions['u']}, meta_file=str(meta_file), seen_classes=['ape', 'cat'])


def test_meta_file_that_does_not_fit(tmp_path, meta_file):
    for classes, number in ((['ape', 'cat', 'dog'], 3), (['Ape'], 0)):
        with pytest.raises(ValueError, match=rf"{number} of 3 objects are of seen_classes.*\['ape', 'cat', 'dog'\]"):
            VOSMetric(meta_file=str(meta_file), seen_classes=classes)
    videos = Videos(tmp_path / 'gt', {'u': [square(3, 4)] * 3})
    metric = VOSMetric(meta_file=str(meta_file), seen_classes=['dog'])
    with pytest.raises(ValueError, match="object 3 of video 'u' has no category in the meta file"):
        metric.process({}, [next(videos.samples('u', [square(3, 4)] * 3))])  # at once, not when all is done
    meta_file.write_text(json.dumps({'videos': {'v': {'1': 'dog'}}}))
    with pytest.raises(ValueError, match=r'meta.json: KeyError: .objects.; expected json of the form'):
        VOSMetric(meta_file=str(meta_file), seen_classes=['dog'])
    meta_file.write_text(json.dumps({'videos': {'v': {'objects': {'1': {}}}}}))
    with pytest.raises(ValueError, match=r"meta.json: object 1 of video 'v' has no 'category'"):
        VOSMetric(meta_file=str(meta_file), seen_classes=['dog'])


@pytest.mark.parametrize(('layout', 'folder'), [('davis', ''), ('youtube_vos', 'Annotations/')])
def test_result_files(three_videos, tmp_path, layout, folder):
    videos, predictions = three_videos
    videos.unsaved = {'a': (1, 3)}
    out = tmp_path / 'results' / 'run'
    (out / folder / 'stale').mkdir(parents=True)
    (out / folder / 'stale' / '00000.png').write_bytes(b'of an earlier run')
    assert videos.evaluate(predictions, outfile_prefix=str(out), layout=layout, format_only=True) == {}
    names = {
        f'{folder}{video}/{frame:05d}.png': mask
        for video, masks in predictions.items()
        for frame, mask in enumerate(masks)
        if frame not in videos.unsaved.get(video, ())
    }
    with zipfile.ZipFile(out.with_name('run.zip')) as archive:
        assert set(archive.namelist()) == set(names)
    written = {path.relative_to(out).as_posix() for path in out.rglob('*.png')} - {f'{folder}stale/00000.png'}
    assert written == set(names)
    for name, mask in names.items():
        with Image.open(out / name) as image:
            assert image.mode == 'P'
            np.testing.assert_array_equal(np.array(image), mask)
            np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3))[:9], davis_palette()[:9])
    # With ground truth the same run scores, and tells J and F of each object.
    scored = videos.evaluate(predictions, outfile_prefix=str(out), layout=layout)
    assert scored == pytest.approx(videos.evaluate(predictions))
    lines = out.with_name('run.csv').read_text().splitlines()
    assert lines[0] == 'video,object,frames,J,F' and len(lines) == 1 + 6
    assert np.mean([float(line.split(',')[3]) for line in lines[1:]]) == pytest.approx(scored['vos/J_mean'])


def test_masks_are_not_kept(tmp_path):
    frames = 60
    videos = Videos(tmp_path / 'gt', {'v': [square(1, 4)] * frames})
    metric = METRICS.build(dict(type='VOSMetric', num_threads=1))
    for sample in videos.samples('v', [square(1, 5)] * frames):
        metric.process({}, [sample])
        assert len(metric.waiting) <= 8
    assert len(metric.results) >= frames - 8
    assert all(row[:2] == ('v', frame) and row[3] is None for frame, row in enumerate(metric.results))
    assert all(value is None or len(value) == 2 for row in metric.results for value in row[2].values())
    assert metric.evaluate()['vos/J_mean'] == pytest.approx(7 / 9)
    assert not metric.results and not metric.waiting  # ready for the next evaluation


def test_masks_in_files_count_as_those_in_memory(three_videos, tmp_path):
    videos, predictions = three_videos
    written = Videos(tmp_path / 'predicted', predictions)
    found = []
    for threads in (1, 3):
        metric = METRICS.build(dict(type='VOSMetric', num_threads=threads))
        for video, masks in predictions.items():
            for frame, sample in enumerate(videos.samples(video, masks)):
                metric.add_frame(sample['video_data_samples'][0].metainfo, written.path(video, frame))
        found.append(metric.evaluate(len(predictions)))
    assert found == [videos.evaluate(predictions)] * 2
    written.path('b', 1).unlink()
    first, second, *_ = videos.samples('b', predictions['b'])
    for frame, sample in enumerate((first, second)):
        metric.add_frame(sample['video_data_samples'][0].metainfo, written.path('b', frame))
    with pytest.raises(FileNotFoundError, match='00001.png: no such mask'):
        metric.evaluate()


def test_bad_input_is_named(tmp_path):
    videos = Videos(tmp_path / 'gt', {'v': [square(1, 4)] * 3})
    small = np.zeros((12, 20), np.uint8)
    with pytest.raises(ValueError, match=r'00001.png: the mask has \(height, width\) \(24, 40\).*\(12, 20\)'):
        videos.evaluate({'v': [square(1, 4), small, square(1, 4)]})
    videos.path('v', 1).write_bytes(b'no picture')
    with pytest.raises(ValueError, match='00001.png: the mask cannot be read'):
        videos.evaluate({'v': [square(1, 4)] * 3})
    nothing = Videos(tmp_path / 'none', {'v': [square(1, 4), None, None]})
    with pytest.raises(ValueError, match='no object to score.*format_only=True'):
        nothing.evaluate({'v': [square(1, 4)] * 3})
    sample = next(videos.samples('v', [square(1, 4)] * 3))
    del sample['video_data_samples'][0].pred_sem_seg
    with pytest.raises(ValueError, match="frame 00000 of video 'v' has no pred_sem_seg"):
        VOSMetric().process({}, [sample])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'format_only': True}, 'format_only=True needs outfile_prefix'),
        ({'seen_classes': ['dog']}, 'meta_file and seen_classes belong together'),
        ({'outfile_prefix': 'out', 'layout': 'coco'}, "layout: found 'coco', expected one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VOSMetric(**options)


def evaluate_on_rank(rank: int, folder: Path, videos: Videos, predictions: dict) -> None:
    """What each of two processes does; it writes what it finds."""
    os.chdir(folder)  # mmdet collects in the working directory
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    mine = {name: predictions[name] for name in (('b', 'c'), ('a',))[rank]}
    found = videos.evaluate(mine, outfile_prefix=str(folder / 'out'))
    (folder / f'rank{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


def test_two_ranks_find_what_one_finds(three_videos, tmp_path):
    videos, predictions = three_videos
    context = multiprocessing.get_context('fork')  # as data loaders do; a new interpreter takes seconds to import mmdet
    ranks = [
        context.Process(target=evaluate_on_rank, args=(rank, tmp_path, videos, predictions), daemon=True)
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(timeout=120)
        assert [rank.exitcode for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    alone = videos.evaluate(predictions)
    for rank in range(2):
        assert json.loads((tmp_path / f'rank{rank}.json').read_text()) == pytest.approx(alone)
    with zipfile.ZipFile(tmp_path / 'out.zip') as archive:
        assert len(archive.namelist()) == 6 + 7 + 8

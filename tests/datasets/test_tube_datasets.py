"""JHMDB and UCF101-24: samples are those of published models; wrong files are refused before work is lost."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
from action_frames import CLIP, HEIGHT, WIDTH, write_frames
from mmaction.registry import DATASETS

from mvbench_plugins.datasets.action.tubes import read_tube_annotations


def tube(first, last, box):
    return np.array([[frame, *box] for frame in range(first, last + 1)], np.float32)


def ground_truth():
    """Two classes; of the test video only frames 2 to 4 are annotated, with two persons in the last two."""
    return dict(
        labels=['jump', 'sit'],
        gttubes={
            'jump/a': {0: [tube(1, 5, [4, 6, 16, 18])]},
            'sit/b': {1: [tube(2, 4, [0, 0, 40, 12]), tube(3, 4, [8, 6, 16, 24])]},
        },
        nframes={'jump/a': 5, 'sit/b': 6},
        train_videos=[['jump/a'], ['sit/b']],
        test_videos=[['sit/b'], ['jump/a']],
        resolution={'jump/a': (HEIGHT, WIDTH), 'sit/b': (HEIGHT, WIDTH)},
    )


@pytest.fixture(params=[('JHMDBDataset', 'png'), ('UCF101_24Dataset', 'jpg')], ids=['jhmdb', 'ucf101_24'])
def tubes(request, tmp_path):
    """``tubes(content=..., **options)`` builds one of the data sets."""
    kind, suffix = request.param
    write_frames(tmp_path / 'frames' / 'jump' / 'a', f'{{:05d}}.{suffix}', 5)
    write_frames(tmp_path / 'frames' / 'sit' / 'b', f'{{:05d}}.{suffix}', 6)

    def build(content=None, **options):
        (tmp_path / 'GT.pkl').write_bytes(pickle.dumps(content or ground_truth(), protocol=2))
        settings = dict(type=kind, data_root=str(tmp_path), ann_file='GT.pkl', data_prefix=dict(img='frames'))
        return DATASETS.build(settings | dict(pipeline=CLIP) | options)

    build.folder = tmp_path / 'frames'
    build.suffix = suffix
    return build


def test_tube_training_samples(tubes):
    dataset = tubes(pipeline=[*CLIP, dict(type='mmaction.LoadClipFrames')])
    assert [info['img_key'] for info in dataset] == [f'jump/a,{frame:04d}' for frame in range(1, 6)]
    assert (dataset[2]['video_id'], dataset[2]['timestamp'], dataset[2]['key_frame']) == ('jump/a', 3, 2)
    assert dataset[2]['fps'] is None
    assert [round(image.mean() / 2) for image in dataset[2]['imgs']] == [0, 1, 2, 3]
    np.testing.assert_allclose(dataset[2]['gt_bboxes'], [[4, 6, 16, 18]])  # pixels of the frame again
    np.testing.assert_array_equal(dataset[2]['gt_labels'], [[0, 1, 0]])
    assert dataset.metainfo['classes'] == ('jump', 'sit')


def test_tube_test_samples(tubes):
    """All frames of the test videos, those without annotation too; boxes clipped to the image."""
    dataset = tubes(test_mode=True)
    assert [info['timestamp'] for info in dataset] == [1, 2, 3, 4, 5, 6]
    assert [len(info['gt_bboxes']) for info in dataset] == [0, 1, 2, 2, 0, 0]
    assert dataset[0]['gt_bboxes'].shape == (0, 4) and dataset[0]['gt_labels'].shape == (0, 3)
    np.testing.assert_allclose(dataset[2]['gt_bboxes'], [[0, 0, 1, 0.5], [0.25, 0.25, 0.5, 1]])
    np.testing.assert_array_equal(dataset[2]['gt_labels'], [[0, 0, 1], [0, 0, 1]])


def test_tube_splits_and_interval(tubes):
    assert [info['timestamp'] for info in tubes(split=2)] == [2, 3, 4]
    assert [info['timestamp'] for info in tubes(split=2, key_frame_interval=2)] == [2, 4]
    assert len(tubes(split=2, test_mode=True, num_classes=3)) == 5


def test_boxes_outside_of_the_image_are_dropped_and_logged(tubes, log):
    content = ground_truth()
    content['gttubes']['jump/a'][0][0][1, 1:] = [WIDTH + 1, 0, WIDTH + 5, 10]
    dataset = tubes(content, test_mode=True, split=2)
    assert [len(info['gt_bboxes']) for info in dataset] == [1, 0, 1, 1, 1]
    assert any('1 boxes have no area inside the image' in line for line in log)


BAD_TUBE_ARGUMENTS = {
    'split': (dict(split=3), r'GT\.pkl: split must be from 1 to 2, found 3'),
    'num_classes': (dict(num_classes=22), r'the file has 2 classes, so num_classes must be 3.*found 22'),
    'interval in testing': (dict(test_mode=True, key_frame_interval=2), 'key_frame_interval must be .* 1 for testing'),
    'prefix': (dict(data_prefix=dict(video='v')), r'data_prefix must be dict\(img=FRAMES\)'),
}


@pytest.mark.parametrize('options, message', BAD_TUBE_ARGUMENTS.values(), ids=BAD_TUBE_ARGUMENTS)
def test_bad_tube_arguments(tubes, options, message):
    with pytest.raises(ValueError, match=message):
        tubes(**options)


def test_frames_not_as_annotated(tubes):
    (tubes.folder / 'jump' / 'a' / f'00003.{tubes.suffix}').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 1 videos.*jump/a \(1 of 5 frames are missing.*00003'):
        tubes()
    write_frames(tubes.folder / 'jump' / 'more', f'{{:05d}}.{tubes.suffix}', 6)
    (tubes.folder / 'jump' / 'a').rename(tubes.folder / 'jump' / 'old')
    with pytest.raises(FileNotFoundError, match=r'jump/a \(no such folder\).*data_prefix'):
        tubes()
    (tubes.folder / 'jump' / 'more').rename(tubes.folder / 'jump' / 'a')
    with pytest.raises(FileNotFoundError, match=r'jump/a \(more frames than the 5 annotated'):
        tubes()


def _put(*path, value):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


BAD_GROUND_TRUTH = {
    'no field': (lambda content: content.pop('nframes'), "field 'nframes' is missing"),
    'field of another kind': (_put('gttubes', value=[]), "field 'gttubes' is missing or no dict"),
    'video without tubes': (lambda content: content['gttubes'].pop('sit/b'), "gttubes has no entry.*'sit/b'"),
    'video without resolution': (lambda content: content['resolution'].pop('jump/a'), "resolution has no.*'jump/a'"),
    'resolution': (_put('resolution', 'jump/a', value=24), r"resolution\['jump/a'\] must be \(height, width\)"),
    'nframes': (_put('nframes', 'jump/a', value=0), r"nframes\['jump/a'\] must be .* at least 1, found 0"),
    'splits': (_put('train_videos', value=['jump/a']), 'train_videos must hold a list of video names for each split'),
    'number of splits': (_put('train_videos', value=[['jump/a']]), '1 training and 2 test splits'),
    'class index': (_put('gttubes', 'jump/a', value={2: []}), 'class index 2.* has 2 names'),
    'columns': (_put('gttubes', 'jump/a', 0, value=[np.zeros((3, 4))]), r"\['jump/a'\]\[0\]\[0\] must be numbers"),
    'NaN': (_put('gttubes', 'jump/a', 0, value=[tube(1, 2, [0, np.nan, 5, 5])]), 'must be finite.*nan'),
    'frame 0': (_put('gttubes', 'jump/a', 0, value=[tube(0, 2, [0, 0, 5, 5])]), 'whole numbers from 1 to 5.*from 0 to'),
    'frame beyond the end': (_put('gttubes', 'jump/a', 0, value=[tube(4, 6, [0, 0, 5, 5])]), 'from 1 to 5.*to 6'),
    'turned box': (_put('gttubes', 'jump/a', 0, value=[tube(1, 2, [5, 0, 4, 5])]), 'x1 <= x2'),
}


@pytest.mark.parametrize('change, message', BAD_GROUND_TRUTH.values(), ids=BAD_GROUND_TRUTH)
def test_bad_ground_truth(tmp_path, change, message):
    content = ground_truth()
    change(content)
    (tmp_path / 'GT.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r'GT\.pkl: .*' + message):
        read_tube_annotations(tmp_path / 'GT.pkl')


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as the 8-bit strings of Python 2, and numpy under its old module names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        raw = value if isinstance(value, bytes) else value.encode('latin1')
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, 'little') + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text

    def reducer_override(self, value):
        if not isinstance(value, np.ndarray):
            return NotImplemented
        state = (1, value.shape, value.dtype, False, value.tobytes())
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b'b'), state


def test_pickle_of_python_2(tmp_path):
    """The published files are; the bytes of arrays go through latin1 there."""
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(ground_truth())
    data = stream.getvalue().replace(b'numpy._core', b'numpy.core')
    assert b'_codecs' not in data and b'numpy.core' in data
    (tmp_path / 'GT.pkl').write_bytes(data)
    read = read_tube_annotations(tmp_path / 'GT.pkl')
    assert read.classes == ('jump', 'sit') and read.num_frames == {'jump/a': 5, 'sit/b': 6}
    assert read.resolution['sit/b'] == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read.tubes['sit/b'][1][1], tube(3, 4, [8, 6, 16, 24]))


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_this_python(tmp_path, protocol):
    (tmp_path / 'GT.pkl').write_bytes(pickle.dumps(ground_truth(), protocol=protocol))
    assert len(read_tube_annotations(tmp_path / 'GT.pkl').tubes['jump/a'][0][0]) == 5


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickle_runs_no_code(tmp_path):
    content = ground_truth() | dict(extra=Payload(str(tmp_path / 'made')))
    (tmp_path / 'GT.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r'GT\.pkl .*asks for posix\.mkdir'):
        read_tube_annotations(tmp_path / 'GT.pkl')
    assert not (tmp_path / 'made').exists()


def test_truncated_and_absent_pickle(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'GT\.pkl does not exist'):
        read_tube_annotations(tmp_path / 'GT.pkl')
    (tmp_path / 'GT.pkl').write_bytes(pickle.dumps(ground_truth())[:200])
    with pytest.raises(ValueError, match=r'GT\.pkl \(200 bytes\) cannot be read.*Download'):
        read_tube_annotations(tmp_path / 'GT.pkl')

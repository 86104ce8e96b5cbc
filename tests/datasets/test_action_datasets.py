"""AVA, JHMDB and UCF101-24: the samples are those that published models are trained and evaluated on, and wrong files
are refused before work is lost.
"""

from __future__ import annotations

import io
import logging
import os
import pickle

import cv2
import numpy as np
import pytest
from mmaction.registry import DATASETS
from mmengine.logging import MMLogger

from mvbench_plugins.datasets.action.ava_files import read_ava_csv, read_exclusions, read_frame_list, read_label_map
from mvbench_plugins.datasets.action.tubes import read_tube_annotations

WIDTH, HEIGHT = 32, 24
CSV = """\
vid-A,0901,0.1,0.1,0.5,0.5,1,0
vid-A,0902,0.125,0.25,0.5,0.75,2,7
vid-A,0902,0.5,0.25,0.75,1,1,8
vid-A,0902,0.125,0.25,0.5,0.75,4,7
vid-A,0902,0.125,0.25,0.50,0.75,3,9
vid-A,0903,0,0,1,1,,7
vid_B,902,0.2,0.2,0.4,0.4,3,0
vid_B,1799,0.2,0.2,0.4,0.4,3,0
"""
LABEL_MAP = ''.join(f'item {{\n  name: "act {number}"\n  id: {number}\n}}\n' for number in range(1, 5))
CLIP = [dict(type='mmaction.SampleKeyFrameClip', clip_len=4, frame_interval=1)]


def write_frames(folder, template, count):
    """Frame i of the video (from 0) has the grey level 2 i, in file i + 1."""
    folder.mkdir(parents=True)
    for frame in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 2 * frame, np.uint8)
        cv2.imwrite(str(folder / template.format(frame + 1)), image)


def write_video(path, count, fps):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (WIDTH, HEIGHT))
    for frame in range(count):
        writer.write(np.full((HEIGHT, WIDTH, 3), 4 * frame, np.uint8))
    writer.release()


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """Frames of four seconds of vid-A and three of vid_B."""
    root = tmp_path_factory.mktemp('ava') / 'frames'
    write_frames(root / 'vid-A', 'vid-A_{:06d}.jpg', 120)
    write_frames(root / 'vid_B', 'vid_B_{:06d}.jpg', 90)
    return root


@pytest.fixture
def ava(tmp_path, frames):
    """``ava(csv=..., label_map=..., **options)`` builds a data set of these files."""

    def build(csv=CSV, label_map=LABEL_MAP, **options):
        (tmp_path / 'ava.csv').write_text(csv)
        (tmp_path / 'actions.pbtxt').write_text(label_map)
        settings = dict(
            type='AVAKeyFrameDataset',
            data_root=str(tmp_path),
            ann_file='ava.csv',
            data_prefix=dict(img=str(frames)),
            label_file='actions.pbtxt',
            num_classes=5,
            pipeline=CLIP,
        )
        return DATASETS.build(settings | options)

    return build


@pytest.fixture
def log():
    """Lines that the data set logged."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, handler = MMLogger.get_current_instance(), Keep(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


# ---- AVA: what a sample is


def test_key_frames_and_persons(ava):
    dataset = ava()
    assert [info['img_key'] for info in dataset] == ['vid-A,0902', 'vid-A,0903', 'vid_B,0902']
    first = dataset[0]
    assert (first['video_id'], first['timestamp'], first['key_frame'], first['fps']) == ('vid-A', 902, 60, 30)
    assert first['total_frames'] == 120
    # Rows 2 and 4 are one person of two actions; row 5 has equal numbers in another text: another person.
    np.testing.assert_array_equal(
        first['gt_bboxes'], np.float32([[0.125, 0.25, 0.5, 0.75], [0.5, 0.25, 0.75, 1], [0.125, 0.25, 0.5, 0.75]])
    )
    np.testing.assert_array_equal(first['gt_labels'], [[0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    assert first['gt_bboxes'].dtype == first['gt_labels'].dtype == np.float32
    np.testing.assert_array_equal(dataset[1]['gt_labels'], np.zeros((1, 5)))  # a person without action
    assert dataset.metainfo['classes'] == ('act 1', 'act 2', 'act 3', 'act 4')


def test_frames_are_those_of_the_second(ava):
    """Second 902 is frame 60 from 0, file 61; the stock dataset and sampler read file 62."""
    sample = ava(pipeline=[*CLIP, dict(type='mmaction.LoadClipFrames')])[0]
    assert [round(image.mean() / 2) for image in sample['imgs']] == [58, 59, 60, 61]
    np.testing.assert_allclose(sample['gt_bboxes'][0], [4, 6, 16, 18])


def test_frame_list(ava, tmp_path):
    lines = [
        f'{video} {number} {frame} {video}/{video}_{frame + 1:06d}.jpg ""'
        for number, (video, count) in enumerate([('vid-A', 120), ('vid_B', 90)])
        for frame in range(count)
    ]
    header = 'original_vido_id video_id frame_id path labels'
    (tmp_path / 'list.csv').write_text('\n'.join([header, *lines]) + '\n')
    for listed, counted in zip(ava(frame_list='list.csv'), ava(), strict=True):
        for key in ('frame_dir', 'filename_tmpl', 'start_index', 'total_frames'):
            assert listed[key] == counted[key]
        np.testing.assert_array_equal(listed['frame_inds'], counted['frame_inds'])


def test_frame_list_with_other_numbers(tmp_path):
    """Where numbers begin and how they are written comes from the list."""
    (tmp_path / 'list.csv').write_text('v 0 0 sub/v/img_00007.jpg ""\nv 0 1 sub/v/img_00008.jpg ""\n')
    listed = read_frame_list(tmp_path / 'list.csv')['v']
    assert (listed.folder, listed.template.format(9), listed.first, listed.count) == ('sub/v', 'img_00009.jpg', 7, 2)


def test_layout_of_mmaction2(ava, tmp_path):
    write_frames(tmp_path / 'rawframes' / 'vid-A', 'img_{:05d}.jpg', 100)
    csv = 'vid-A,0902,0.1,0.1,0.5,0.5,1,0\n'
    pipeline = [*CLIP, dict(type='mmaction.LoadClipFrames')]
    dataset = ava(csv, data_prefix=dict(img='rawframes'), filename_tmpl='img_{:05d}.jpg', pipeline=pipeline)
    assert dataset[0]['total_frames'] == 100
    assert round(dataset[0]['imgs'][2].mean() / 2) == 60


@pytest.mark.parametrize('fps', [10, 15])
def test_video_files(ava, tmp_path, fps):
    """The same moment, whatever the frame rate of the file."""
    write_video(tmp_path / 'videos' / 'vid-A.mp4', 4 * fps, fps)
    pipeline = [dict(type='mmaction.OpenVideo'), *CLIP, dict(type='mmaction.DecodeVideoClip')]
    dataset = ava('vid-A,0902,0.1,0.1,0.5,0.5,1,0\n', data_prefix=dict(video='videos'), pipeline=pipeline)
    # mp4v darkens these frames by up to 3 levels
    assert round((dataset[0]['imgs'][2].mean() + 2) / 4) == 2 * fps


def test_excluded_key_frames(ava, tmp_path):
    (tmp_path / 'excluded.csv').write_text('vid-A,0902\nvid_B,0999\n')
    assert [info['img_key'] for info in ava(exclude_file='excluded.csv')] == ['vid-A,0903', 'vid_B,0902']


def test_custom_classes(ava):
    """Ids become contiguous; whoever does nothing else stays, as a person without action."""
    dataset = ava(custom_classes=[4, 3], num_classes=3)
    np.testing.assert_array_equal(dataset[0]['gt_labels'], [[0, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert dataset.metainfo['classes'] == ('act 4', 'act 3')


def test_unnamed_actions_are_used_and_logged(ava, log):
    """AVA's label map names 60 of the 80 annotated actions."""
    dataset = ava(label_map='label {\n  name: "act 1"\n  label_id: 1\n}\n')
    assert dataset[0]['gt_labels'].sum() == 4
    assert dataset.metainfo['classes'] == ('act 1', 'action 2', 'action 3', 'action 4')
    assert any('5 rows have actions' in line and '[2, 3, 4]' in line for line in log)


def test_base_dataset_arguments(ava):
    lazy = ava(lazy_init=True, indices=2)
    assert lazy.metainfo['classes'][0] == 'act 1'
    lazy.full_init()
    assert len(lazy) == 2
    assert lazy.get_subset([1])[0]['img_key'] == 'vid-A,0903'
    assert ava(serialize_data=False)[2]['img_key'] == 'vid_B,0902'


# ---- AVA: what is wrong is said at the start

ROW = 'vid-A,0903,0,0,1,1,1,0'
BAD_ROWS = {
    'seven columns': ('vid-A,0903,0,0,1,1,1', 'found 7 columns, expected 8'),
    'nine columns': (ROW + ',1', 'found 9 columns'),
    'box beyond the image': ('vid-A,0903,0.2,0.2,1.2,0.5,1,0', r"in \[0, 1\], found '1.2'"),
    'box left of the image': ('vid-A,0903,-0.1,0.2,0.3,0.5,1,0', r"found '-0.1'"),
    'pixels': ('vid-A,0903,10,20,30,40,1,0', r"fractions of the image in \[0, 1\], found '10'"),
    'NaN': ('vid-A,0903,0,nan,1,1,1,0', "found 'nan'"),
    'no number': ('vid-A,0903,0,x,1,1,1,0', "found 'x'"),
    'turned box': ('vid-A,0903,0.5,0.1,0.4,0.2,1,0', 'x1 <= x2'),
    'fraction of a second': ('vid-A,903.5,0,0,1,1,1,0', "second must be a whole number, found '903.5'"),
    'action beyond num_classes': ('vid-A,0903,0,0,1,1,5,0', 'one of the 4 known ids, found 5.*num_classes'),
    'action 0': ('vid-A,0903,0,0,1,1,0,0', 'known ids, found 0'),
    'action name': ('vid-A,0903,0,0,1,1,sit,0', "action_id must be a whole number or empty, found 'sit'"),
    'detections': ('vid-A,0903,0,0,1,1,1,0.93', "person_id.*found '0.93' .is this a file of detections"),
}


def test_row_of_a_box_without_area_is_let_through(tmp_path):
    """Thin boxes are lines when they are written with three decimals; such rows must not stop the official files."""
    path = tmp_path / 'ava.csv'
    path.write_text('vid-A,0903,0.4,0.1,0.4,0.2,1,0\n')
    assert read_ava_csv(path).boxes.tolist() == [[0.4, 0.1, 0.4, 0.2]]


@pytest.mark.parametrize('row, message', BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row(ava, row, message):
    with pytest.raises(ValueError, match=r'ava\.csv:3: .*' + message):
        ava(f'{ROW}\n\n{row}\n{ROW}\n')


@pytest.mark.parametrize(
    'content, message',
    [
        ('video_id,timestamp,x1,y1,x2,y2,action,person\n' + ROW, r'ava\.csv:1: found a header'),
        ('', r'ava\.csv: the file has no rows, expected video,second'),
        ('vid-A,0901,0,0,1,1,1,0\n', r'ava\.csv: no key frame to use.*902 to 1798'),
    ],
    ids=['header', 'empty', 'nothing in the annotated range'],
)
def test_bad_csv(ava, content, message):
    with pytest.raises(ValueError, match=message):
        ava(content)


def test_byte_order_mark_and_line_ends_of_windows(tmp_path):
    (tmp_path / 'a.csv').write_bytes(b'\xef\xbb\xbf' + CSV.replace('\n', '\r\n').encode())
    rows = read_ava_csv(tmp_path / 'a.csv')
    assert rows.videos[0] == 'vid-A' and len(rows) == 8
    assert rows.actions.tolist() == [1, 2, 1, 4, 3, 0, 3, 3]


@pytest.mark.parametrize(
    'text, message',
    [
        ('vid-A,0902\nvid-A,0.5,0.2\n', r'x\.csv:2: expected video,second'),
        ('vid-A,9x\n', r'x\.csv:1: expected video,second with a whole second'),
    ],
)
def test_bad_exclusions(tmp_path, text, message):
    (tmp_path / 'x.csv').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_exclusions(tmp_path / 'x.csv')


def test_label_map_spellings(tmp_path):
    """Both spellings of AVA's own files; names with the other kind of quotation mark in them."""
    path = tmp_path / 'map.pbtxt'
    path.write_text(
        'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\n# note {\n'
        'label {\n  name: \'say "hi"\'\n  label_id: 12\n  label_type: PERSON_MOVEMENT\n}\n'
        'item { id: 3 name: "" }\n'
    )
    assert read_label_map(path) == {1: 'bend/bow (at the waist)', 12: 'say "hi"', 3: ''}


BAD_LABEL_MAPS = {
    'no id': ('item {\n  name: "a"\n}\n', r':1: expected name.*and id'),
    'twice': (LABEL_MAP + 'item {\n name: "x"\n id: 2\n}\n', ':17: id 2 .*only once'),
    'id 0': ('item { name: "a" id: 0 }', ':1: id 0 must be at least 1'),
    'truncated': (LABEL_MAP[:-5], ': expected items such as'),
    'empty': ('', ': expected items'),
    'a csv': (CSV, ': expected items.*vid-A'),
}


@pytest.mark.parametrize('text, message', BAD_LABEL_MAPS.values(), ids=BAD_LABEL_MAPS)
def test_bad_label_map(ava, text, message):
    with pytest.raises(ValueError, match=r'actions\.pbtxt' + message):
        ava(label_map=text)


BAD_ARGUMENTS = {
    'classes beyond num_classes': (dict(num_classes=4), r'actions\.pbtxt: action ids \[4\].*set it to 5'),
    'custom class unknown': (dict(custom_classes=[9], num_classes=2), r'\[9\] do not fit.*in the label map'),
    'custom classes and num_classes': (dict(custom_classes=[1, 2]), 'custom_classes must be 4 different ids'),
    'custom class 0': (dict(custom_classes=[0, 1], num_classes=3), 'different ids from 1 on'),
    'missing': (dict(missing='ignore'), "missing must be 'error' or 'skip', found 'ignore'"),
    'two prefixes': (dict(data_prefix=dict(img='a', video='b')), r'data_prefix must be dict\(img=FRAMES\) or'),
    'template of C': (dict(filename_tmpl='img_%05d.jpg'), "filename_tmpl 'img_%05d.jpg' must be a format string"),
}


@pytest.mark.parametrize('options, message', BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(ava, options, message):
    with pytest.raises(ValueError, match=message):
        ava(**options)


@pytest.mark.parametrize('option', ['ann_file', 'exclude_file', 'label_file', 'frame_list'])
def test_absent_files(ava, option):
    with pytest.raises(FileNotFoundError, match=r'absent\.txt does not exist: check data_root'):
        ava(**{option: 'absent.txt'})


MORE = CSV + 'gone-1,0902,0,0,1,1,1,0\ngone-2,0902,0,0,1,1,1,0\ngone-2,0903,0,0,1,1,1,0\nvid_B,0903,0,0,1,1,1,0\n'


def test_missing_videos_end_the_run(ava):
    expected = (
        r'ava\.csv: 2 of 4 videos are missing in .*gone-1, gone-2; 1 key frames.*vid_B,0903.*prepare_data\.py ava'
    )
    with pytest.raises(FileNotFoundError, match=expected):
        ava(MORE)


def test_missing_videos_skipped(ava, log):
    dataset = ava(MORE, missing='skip')
    assert [info['img_key'] for info in dataset] == ['vid-A,0902', 'vid-A,0903', 'vid_B,0902']
    assert any('2 of 4 videos are missing' in line and '4 of 7 key frames are left out' in line for line in log)


def test_no_video_at_all(ava):
    """Nothing to train on is an error, also for 'skip'."""
    with pytest.raises(FileNotFoundError, match='2 of 2 videos are missing'):
        ava(data_prefix=dict(img='elsewhere'), missing='skip')


def test_video_not_in_the_frame_list(ava, tmp_path):
    (tmp_path / 'list.csv').write_text('vid_B 0 0 vid_B/vid_B_000001.jpg ""\n')
    with pytest.raises(FileNotFoundError, match=r'1 of 2 videos are missing in .*list\.csv or in .*vid-A'):
        ava(frame_list='list.csv')


@pytest.mark.parametrize(
    'text, message',
    [
        ('v 0 0 v/v_000001.jpg ""\nv,0,1\n', r'list\.csv:2: expected original_vido_id'),
        ('v 0 0 v/v_000001.jpg ""\nv 0 1 v/v_000003.jpg ""\n', r'list\.csv: the 2 frames of video v are not numbered'),
    ],
    ids=['columns', 'hole'],
)
def test_bad_frame_list(tmp_path, text, message):
    (tmp_path / 'list.csv').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_frame_list(tmp_path / 'list.csv')


def test_short_and_broken_video_files(ava, tmp_path):
    write_video(tmp_path / 'videos' / 'vid-A.mp4', 25, 10)
    csv = 'vid-A,0902,0,0,1,1,1,0\nvid-A,0903,0,0,1,1,1,0\n'
    with pytest.raises(FileNotFoundError, match='1 key frames lie outside of their videos: vid-A,0903'):
        ava(csv, data_prefix=dict(video='videos'))
    (tmp_path / 'videos' / 'vid-A.mp4').write_bytes(b'')
    with pytest.raises(ValueError, match=r'vid-A\.mp4 \(0 bytes\) cannot be read'):
        ava(csv, data_prefix=dict(video='videos'), missing='skip')


# ---- JHMDB and UCF101-24


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

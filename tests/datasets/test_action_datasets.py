"""AVA: samples are those of published models; wrong files are refused before work is lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from action_frames import CLIP, HEIGHT, WIDTH, write_frames
from mmaction.registry import DATASETS

from mvbench_plugins.datasets.action.ava_files import read_ava_csv, read_exclusions, read_frame_list, read_label_map

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

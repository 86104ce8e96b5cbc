"""AVA in files of one second: the clips of the published loader, and the preparation of the files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmaction.registry import DATASETS, TRANSFORMS

from mvbench_plugins.datasets.action.prepare import prepare_ava_clips
from mvbench_plugins.datasets.action.second_clips import second_clip_indices

SIZE = (32, 24)  # width, height


@pytest.mark.parametrize(
    'num_frames, clip_len, interval, offset, want',
    [
        (100, 64, 1, None, list(range(18, 82))),
        (100, 32, 2, None, list(range(18, 82, 2))),
        (100, 16, 4, None, list(range(19, 83, 4))),  # (4 - 1) // 2 later
        (100, 16, 4, 0, list(range(18, 82, 4))),
        (100, 16, 4, 3, list(range(21, 85, 4))),
        (96, 16, 4, None, list(range(17, 81, 4))),
        (50, 16, 4, None, [0, 0, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 49, 49]),
        (50, 64, 1, None, [0] * 7 + list(range(50)) + [49] * 7),
    ],
)
def test_indices(num_frames, clip_len, interval, offset, want):
    assert second_clip_indices(num_frames, clip_len, interval, offset).tolist() == want


def write_video(path, levels, fps=25, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()


def frames_shown(images):
    """Numbers of the frames, which are of grey level 5 i; the codec darkens by up to 4 levels."""
    return [round((image.mean() + 2) / 5) for image in images]


def load(folder, second=902, **options):
    transform = TRANSFORMS.build(dict(type='mmaction.LoadSecondClips', **options))
    box = np.array([[0.25, 0.5, 0.5, 1.0]], np.float32)
    return transform(dict(clip_dir=str(folder), timestamp=second, gt_bboxes=box[:0], proposals=box))


@pytest.fixture
def clips(tmp_path):
    """Five files around second 902, ten frames each: frame i of the first has the level 5 i, and so on."""
    for number, second in enumerate(range(900, 905)):
        write_video(tmp_path / 'v' / f'{second}.mp4', [5 * (10 * number + frame) for frame in range(10)])
    return tmp_path / 'v'


def test_clip_across_files(clips):
    """Second 902 begins at frame 20. A span of 24 takes two files on either side: frames 0 to 39."""
    results = load(clips, clip_len=8, frame_interval=3)
    start = (40 - 24) // 2 + 1
    assert frames_shown(results['imgs']) == list(range(start, start + 24, 3))
    assert results['img_shape'] == results['original_shape'] == (24, 32)
    assert (results['clip_len'], results['num_clips']) == (8, 1)
    np.testing.assert_allclose(results['proposals'], [[8, 12, 16, 24]])
    assert results['gt_bboxes'].shape == (0, 4)


def test_clip_within_two_files(clips):
    assert frames_shown(load(clips, clip_len=4, frame_interval=2)['imgs']) == [16, 18, 20, 22]
    assert frames_shown(load(clips, clip_len=4, frame_interval=2, offset=1)['imgs']) == [17, 19, 21, 23]


def test_sides_are_cut_to_the_shorter(clips):
    """A file of 7 frames before: as many are taken after, the boundary stays in the middle."""
    write_video(clips / '901.mp4', [5 * frame for frame in range(13, 20)])
    results = load(clips, clip_len=10, frame_interval=1)
    assert frames_shown(results['imgs']) == list(range(15, 25))
    # No file follows on the left: the first frame is repeated.
    (clips / '900.mp4').unlink()
    assert frames_shown(load(clips, clip_len=18, frame_interval=1)['imgs']) == [13, 13, *range(13, 27), 26, 26]


def test_right_side_is_the_shorter(clips):
    """Of the ten frames before, the last six are taken."""
    write_video(clips / '902.mp4', [5 * frame for frame in range(20, 26)])
    assert frames_shown(load(clips, clip_len=10, frame_interval=1)['imgs']) == list(range(15, 25))
    # Nor does a moved clip reach further.
    assert frames_shown(load(clips, clip_len=3, frame_interval=4, offset=-2)['imgs']) == [14, 16, 20]


def test_jitter(clips):
    np.random.seed(0)
    firsts = {frames_shown(load(clips, clip_len=2, frame_interval=4, jitter=True)['imgs'])[0] for _ in range(40)}
    assert firsts == {16, 17, 18, 19}
    with pytest.raises(ValueError, match='jitter draws the offset'):
        load(clips, clip_len=2, frame_interval=4, jitter=True, offset=1)


def test_missing_and_broken_files(clips):
    with pytest.raises(FileNotFoundError, match=r'899\.mp4 does not exist'):
        load(clips, second=900, clip_len=4, frame_interval=2)
    (clips / '901.mp4').write_bytes(b'no video')
    with pytest.raises(ValueError, match=r'901\.mp4 cannot be decoded'):
        load(clips, clip_len=4, frame_interval=2)
    write_video(clips / '901.mp4', range(10), size=(64, 24))
    with pytest.raises(ValueError, match=r'902\.mp4 has frames of \(24, 32\).*of \(24, 64\)'):
        load(clips, clip_len=4, frame_interval=2)


# ---- preparation


@pytest.fixture
def ava(tmp_path):
    """Two videos of 5 s at 15 frames per second from second 900 on, and one that is missing."""
    folder = tmp_path / 'annotations'
    folder.mkdir()
    (folder / 'ava_train_v2.2.csv').write_text('a,0902,0.1,0.1,0.5,0.5,1,0\na,0903,0.1,0.1,0.5,0.5,1,0\n')
    (folder / 'ava_val_v2.2.csv').write_text('b,0902,0.1,0.1,0.5,0.5,,0\nb,0902,0.2,0.1,0.5,0.5,1,1\n')
    (folder / 'ava_val_excluded_timestamps_v2.2.csv').write_text('')
    (folder / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt').write_text('item {\n  name: "x"\n  id: 1\n}\n')
    for video in 'ab':
        write_video(tmp_path / 'videos' / f'{video}.mp4', [3 * frame for frame in range(75)], fps=15, size=(64, 48))
    return tmp_path


def test_preparation(ava, run):
    command = ('ava_clips', '--root', ava, '--videos', ava / 'videos', '--short-side', 24)
    status, printed = run(*command)
    assert status == 0 and 'nothing is missing' in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if ' of ' in line}
    assert rows == {'train': '1 of 1 2 of 2 2 2'.split(), 'val': '1 of 1 1 of 1 2 1'.split()}
    folder = ava / 'clips' / 'trainval' / 'a'
    assert sorted(path.name for path in folder.iterdir()) == [f'{second}.mp4' for second in range(900, 905)]
    capture = cv2.VideoCapture(str(folder / '902.mp4'))
    assert [capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)] == [25, 25]
    assert [capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)] == [32, 24]
    # The frames nearest in time: second 902 begins at frame 30; the frame after 10 / 25 s is number 36.
    pictures = [capture.read()[1].mean() for _ in range(11)]
    assert pictures[0] == pytest.approx(90, abs=6) and pictures[10] - pictures[0] == pytest.approx(18, abs=2)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_whole_films(ava):
    """Second 902 of a whole film is beyond the end of five seconds."""
    report = prepare_ava_clips(ava, ava / 'videos', full_length=True)
    assert len(report.missing) == 2 and all('ends before second 895' in line for line in report.missing)
    assert not (ava / 'clips' / 'trainval' / 'a').exists()


def test_what_is_missing(ava, run):
    (ava / 'videos' / 'b.mp4').write_bytes((ava / 'videos' / 'b.mp4').read_bytes()[:300])
    assert run('ava_clips', '--root', ava, '--videos', ava / 'videos')[0] == 1
    folder = ava / 'clips' / 'trainval'
    (folder / 'a' / '901.mp4').write_bytes(b'')
    (folder / 'a' / '904.mp4').unlink()
    status, printed = run('ava_clips', '--root', ava)
    assert status == 1 and '0 of 2' in printed
    assert (ava / 'missing_ava_clips.txt').read_text().splitlines() == [
        f'train: {folder}/a/901.mp4: inside of clips',
        f'train: {folder}/a/904.mp4: inside of clips',
        f'val: video b: no clips in {folder}/b, and no video file to cut them from',
    ]


def test_a_damaged_video_leaves_nothing(ava):
    content = (ava / 'videos' / 'a.mp4').read_bytes()
    (ava / 'videos' / 'a.mp4').write_bytes(content[: len(content) // 3])
    report = prepare_ava_clips(ava, ava / 'videos')
    assert len(report.missing) == 1 and report.missing[0].startswith('train: video a: video')
    assert [path.name for path in (ava / 'clips' / 'trainval').iterdir()] == ['b']


def test_data_set_of_clips(ava):
    """From the tool to the clip; a key frame with no file before it is refused at the start."""
    prepare_ava_clips(ava, ava / 'videos')
    settings = dict(
        type='AVAPersonDataset',
        data_root=str(ava),
        ann_file='annotations/ava_train_v2.2.csv',
        data_prefix=dict(clips='clips/trainval'),
        num_classes=2,
        pipeline=[dict(type='mmaction.LoadSecondClips', clip_len=16, frame_interval=4)],
    )
    dataset = DATASETS.build(settings)
    assert [info['img_key'] for info in dataset] == ['a,0902', 'a,0903']
    # Second 902 is frame 30 of 15 per second; the clip begins 31 frames of 25 per second before it. Twice encoded.
    levels = [image.mean() for image in dataset[0]['imgs']]
    assert levels == pytest.approx([3 * (30 + (4 * step - 31) * 0.6) for step in range(16)], abs=7)
    np.testing.assert_allclose(dataset[0]['proposals'], [[6.4, 4.8, 32, 24]], rtol=1e-6)
    (ava / 'clips' / 'trainval' / 'a' / '901.mp4').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 key frames lie outside of their videos: a,0902'):
        DATASETS.build(settings)
    assert [info['img_key'] for info in DATASETS.build(settings | dict(missing='skip'))] == ['a,0903']
    with pytest.raises(FileNotFoundError, match=r'1 of 1 videos are missing in .*nowhere \(VIDEO/SECOND\.mp4\)'):
        DATASETS.build(settings | dict(data_prefix=dict(clips='nowhere')))

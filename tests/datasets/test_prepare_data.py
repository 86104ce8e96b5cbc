"""tools/prepare_data.py: frames come out complete or not at all, and what is missing is counted and listed."""

from __future__ import annotations

import pickle
import threading

import cv2
import numpy as np
import pytest
from mmaction.registry import DATASETS

from mvbench_plugins.datasets.action.ava_files import read_frame_list
from mvbench_plugins.datasets.action.prepare import prepare_ava, prepare_tubes
from mvbench_plugins.datasets.action.prepare.extract import Extraction, extract_all, extract_frames

SIZE = (32, 24)  # width, height


def write_video(path, count, fps, codec='mp4v', size=SIZE):
    """Frame i is of grey level 4 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    for frame in range(count):
        writer.write(np.full((size[1], size[0], 3), 4 * frame % 256, np.uint8))
    writer.release()


def frame_shown(path):
    """Number of the frame that an image shows; the codec darkens by up to 3 levels."""
    return round((cv2.imread(str(path)).mean() + 2) / 4)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ava(tmp_path):
    """AVA with two training videos and one of validation, 4 s each at 15 frames per second."""
    folder = tmp_path / 'annotations'
    folder.mkdir()
    train = [
        f'{video},{second},0.1,0.1,0.5,0.5,{action},0'
        for video, second, action in [
            ('a', '0902', 1),
            ('a', '0902', 2),
            ('a', '0903', 1),
            ('b', '0902', 1),
            ('b', '0901', 1),
        ]
    ]
    (folder / 'ava_train_v2.2.csv').write_text('\n'.join(train) + '\n')
    (folder / 'ava_val_v2.2.csv').write_text('c,0902,0.1,0.1,0.5,0.5,,0\nc,0902,0.2,0.1,0.5,0.5,1,1\n')
    (folder / 'ava_val_excluded_timestamps_v2.2.csv').write_text('c,0950\n')
    (folder / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt').write_text('item {\n  name: "x"\n  id: 1\n}\n')
    for video in 'abc':
        write_video(tmp_path / 'videos' / f'{video}.mp4', 60, 15)
    return tmp_path


def test_ava_from_videos(ava, run):
    status, printed = run('ava', '--root', ava, '--videos', ava / 'videos', '--workers', 2)
    assert status == 0
    assert names(ava / 'frames' / 'a') == [f'a_{number:06d}.jpg' for number in range(1, 121)]
    # 30 per second out of 15: each frame twice, in the rounding of the clip sampler
    assert [frame_shown(ava / 'frames' / 'a' / f'a_{number:06d}.jpg') for number in (1, 2, 3, 61)] == [0, 1, 1, 30]
    listed = read_frame_list(ava / 'frame_lists' / 'train.csv')
    assert [(video, frames.count) for video, frames in listed.items()] == [('a', 120), ('b', 120)]
    first, second = (ava / 'frame_lists' / 'train.csv').read_text().splitlines()[:2]
    assert first == 'original_vido_id video_id frame_id path labels' and second == 'a 0 0 a/a_000001.jpg ""'
    cells = [line.split() for line in printed.splitlines()]
    assert '2 of 2 3 of 3 3 4 0'.split() in [line[1:] for line in cells if line[:1] == ['train']]
    assert '1 of 1 1 of 1 2 1 0'.split() in [line[1:] for line in cells if line[:1] == ['val']]
    assert 'nothing is missing' in printed and not (ava / 'missing_ava.txt').exists()


def test_clips_of_frames_and_of_videos_are_equal(ava):
    """The same training data, whichever way it is read."""
    prepare_ava(ava, ava / 'videos')
    settings = dict(
        type='AVAKeyFrameDataset', data_root=str(ava), ann_file='annotations/ava_train_v2.2.csv', num_classes=3
    )
    clip = dict(type='mmaction.SampleKeyFrameClip', clip_len=8, frame_interval=5)
    frames = DATASETS.build(
        settings | dict(frame_list='frame_lists/train.csv', pipeline=[clip, dict(type='mmaction.LoadClipFrames')])
    )
    opened = [dict(type='mmaction.OpenVideo'), clip, dict(type='mmaction.DecodeVideoClip')]
    videos = DATASETS.build(settings | dict(data_prefix=dict(video='videos'), pipeline=opened))
    for one, other in zip(frames, videos, strict=True):
        difference = np.array(one['imgs'], float) - np.array(other['imgs'], float)
        assert np.abs(difference).max() <= 3  # neighbouring frames differ by 4


def test_second_run_touches_nothing(ava):
    prepare_ava(ava, ava / 'videos')
    files = [ava / 'frames' / 'a' / 'a_000001.jpg', ava / 'frame_lists' / 'train.csv']
    times = [path.stat().st_mtime_ns for path in files]
    report = prepare_ava(ava, ava / 'videos')
    assert [path.stat().st_mtime_ns for path in files] == times
    assert not report.missing and not report.notes


def test_interrupted_run_goes_on(ava):
    """What a killed run left of a video is not taken for the video."""
    prepare_ava(ava, ava / 'videos')
    (ava / 'frames' / 'b').rename(ava / 'frames' / 'b.part')
    (ava / 'frames' / 'b.part' / 'b_000120.jpg').unlink()
    report = prepare_ava(ava)
    assert report.missing == [f'train: video b: no frames in {ava}/frames/b, and no video file to extract them from']
    assert not prepare_ava(ava, ava / 'videos').missing
    assert names(ava / 'frames') == ['a', 'b', 'c'] and len(names(ava / 'frames' / 'b')) == 120


def test_missing_files_are_counted_and_listed(ava, run):
    (ava / 'videos' / 'c.mp4').unlink()
    prepare_ava(ava, ava / 'videos')
    (ava / 'frames' / 'a' / 'a_000091.jpg').write_bytes(b'')  # the key frame of 903
    (ava / 'frames' / 'a' / 'a_000050.jpg').unlink()  # inside of clips
    for number in range(61, 121):  # the end of b, with the key frame of 902
        (ava / 'frames' / 'b' / f'b_{number:06d}.jpg').unlink()
    status, printed = run('ava', '--root', ava)
    assert status == 1
    assert (ava / 'missing_ava.txt').read_text().splitlines() == [
        f'train: {ava}/frames/a/a_000050.jpg: a frame inside of clips',
        f'train: {ava}/frames/a/a_000091.jpg: key frame a,0903',
        f'train: {ava}/frames/b/b_000061.jpg: key frame b,0902',
        f'val: video c: no frames in {ava}/frames/c, and no video file to extract them from',
    ]
    assert f'missing or wrong: 4, all listed in {ava}/missing_ava.txt' in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if ' of ' in line}
    assert rows['train'] == '2 of 2 1 of 3 3 4 3'.split()
    assert rows['val'] == '0 of 1 0 of 1 2 1 0'.split()
    # a video with holes is not listed: later frames would be taken for earlier ones
    assert list(read_frame_list(ava / 'frame_lists' / 'train.csv')) == ['b']


def test_list_of_missing_files_goes_when_they_are_there(ava):
    report = prepare_ava(ava)
    assert len(report.missing) == 3
    report.finish()
    assert (ava / 'missing_ava.txt').exists()
    prepare_ava(ava, ava / 'videos').finish()
    assert not (ava / 'missing_ava.txt').exists()


def test_broken_video_does_not_stop_the_others(ava):
    path = ava / 'videos' / 'a.mp4'
    path.write_bytes(path.read_bytes()[:500])
    report = prepare_ava(ava, ava / 'videos')
    assert len(report.missing) == 1 and 'train: video a: video' in report.missing[0]
    assert 'a.mp4 (500 bytes) cannot be read' in report.missing[0]
    assert names(ava / 'frames') == ['b', 'c']


def test_full_length_videos(ava):
    """Second 900 of a film is the first frame; what comes after second 1801 is left out."""
    for video in 'abc':
        (ava / 'videos' / f'{video}.mp4').unlink()
        write_video(ava / 'videos' / f'{video}.avi', 904, 1, 'MJPG')
    prepare_ava(ava, ava / 'videos', full_length=True)
    assert names(ava / 'frames' / 'a')[-1] == 'a_000120.jpg'  # 904 s
    assert frame_shown(ava / 'frames' / 'a' / 'a_000061.jpg') == 902 % 64


def test_short_film(ava):
    report = prepare_ava(ava, ava / 'videos', full_length=True)
    assert 'ends before second 900; is it cut already?' in report.missing[0]


def test_short_side(ava):
    write_video(ava / 'videos' / 'a.mp4', 60, 15, size=(64, 48))
    prepare_ava(ava, ava / 'videos', short_side=30)
    assert cv2.imread(str(ava / 'frames' / 'a' / 'a_000001.jpg')).shape == (30, 40, 3)
    assert cv2.imread(str(ava / 'frames' / 'b' / 'b_000001.jpg')).shape == (24, 32, 3)  # smaller already


def test_version_and_folder_of_annotations(ava):
    for path in list((ava / 'annotations').iterdir()):
        path.rename(path.with_name(path.name.replace('2.2', '2.1')))
    (ava / 'annotations').rename(ava / 'other')
    assert not prepare_ava(ava, ava / 'videos', version='2.1', annotations=ava / 'other').missing


def test_missing_annotation_files(ava, run):
    (ava / 'annotations' / 'ava_val_v2.2.csv').unlink()
    (ava / 'annotations' / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt').unlink()
    status, _ = run('ava', '--root', ava)
    assert 'annotation files are missing' in status and 'ava_val_v2.2.csv' in status
    assert 'ava_action_list_v2.2' in status and '--annotations' in status


def test_folder_of_videos_must_exist(ava):
    with pytest.raises(FileNotFoundError, match='--videos nowhere is no folder'):
        prepare_ava(ava, 'nowhere')


# ---- extraction


def test_truncated_video_leaves_nothing(tmp_path):
    """An avi can be read up to where it ends; its header tells of more."""
    write_video(tmp_path / 'v.avi', 60, 15, 'MJPG')
    content = (tmp_path / 'v.avi').read_bytes()
    (tmp_path / 'v.avi').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r'v\.avi ends after \d\d of 60 frames'):
        extract_frames(Extraction(tmp_path / 'v.avi', tmp_path / 'v', '{:05d}.jpg'))
    assert names(tmp_path) == ['v.avi']


def test_end_of_the_range(tmp_path):
    write_video(tmp_path / 'v.mp4', 60, 25)
    job = Extraction(tmp_path / 'v.mp4', tmp_path / 'v', '{:05d}.jpg', fps=30, start=1, max_frames=20)
    assert extract_frames(job) == 20
    shown = [frame_shown(tmp_path / 'v' / f'{number + 1:05d}.jpg') for number in range(20)]
    assert shown == [int(25 + number * 25 / 30 + 0.5) for number in range(20)]


def test_stopped_extraction_leaves_nothing(tmp_path):
    write_video(tmp_path / 'v.mp4', 30, 15)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        extract_frames(Extraction(tmp_path / 'v.mp4', tmp_path / 'v', '{:05d}.jpg'), stop)
    assert names(tmp_path) == ['v.mp4']


def test_unwritable_disk_ends_the_run(tmp_path):
    """Unlike a broken video, it would fail all others too."""
    write_video(tmp_path / 'v.mp4', 30, 15)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError):
        extract_all([Extraction(tmp_path / 'v.mp4', tmp_path / 'file' / 'v', '{:05d}.jpg')], 1, extract_frames)


# ---- JHMDB and UCF101-24


@pytest.fixture(
    params=[('jhmdb', 'JHMDB-GT.pkl', 'Frames', 'png'), ('ucf101_24', 'UCF101v2-GT.pkl', 'rgb-images', 'jpg')]
)
def tubes(request, tmp_path):
    name, ann_file, folder, suffix = request.param
    boxes = np.array([[frame, 1, 1, 9, 9] for frame in (2, 3)], np.float32)
    content = dict(
        labels=['jump', 'sit'],
        gttubes={'jump/a': {0: [boxes, boxes]}, 'sit/b': {1: [boxes]}},
        nframes={'jump/a': 30, 'sit/b': 20},
        train_videos=[['jump/a']],
        test_videos=[['sit/b']],
        resolution={'jump/a': (24, 32), 'sit/b': (24, 32)},
    )
    (tmp_path / ann_file).write_bytes(pickle.dumps(content, protocol=2))
    write_video(tmp_path / 'videos' / 'jump' / 'a.avi', 30, 15, 'MJPG')
    write_video(tmp_path / 'videos' / 'b.avi', 20, 15, 'MJPG')  # without folder of its class
    return tmp_path, name, tmp_path / folder, suffix


def test_tubes_from_videos(tubes, run):
    root, name, frames, suffix = tubes
    status, printed = run(name, '--root', root, '--videos', root / 'videos')
    assert status == 0
    assert names(frames / 'jump' / 'a') == [f'{number:05d}.{suffix}' for number in range(1, 31)]
    assert frame_shown(frames / 'jump' / 'a' / f'00011.{suffix}') == 10
    rows = [line.split() for line in printed.splitlines() if ' of ' in line]
    # training counts annotated frames, testing all
    assert rows == ['train 1 1 of 1 2 of 2 4'.split(), 'test 1 1 of 1 20 of 20 2'.split()]


def test_tubes_missing_and_wrong_frames(tubes):
    root, name, frames, suffix = tubes
    write_video(root / 'videos' / 'jump' / 'a.avi', 31, 15, 'MJPG')
    prepare_tubes(name, root, root / 'videos')
    (frames / 'sit' / 'b' / f'00007.{suffix}').unlink()
    report = prepare_tubes(name, root)
    assert report.missing == [
        f'{frames}/jump/a: more frames than the 30 annotated: another frame rate?',
        f'{frames}/sit/b: 1 of 20 frames are missing, the first is 00007.{suffix}',
    ]
    assert [row['clips (key frames)'] for row in report.rows] == ['0 of 2', '0 of 20']


def test_tubes_broken_video(tubes):
    root, name, frames, _ = tubes
    (root / 'videos' / 'b.avi').write_bytes(b'no video')
    report = prepare_tubes(name, root, root / 'videos')
    assert len(report.missing) == 1 and 'b.avi (8 bytes) cannot be read' in report.missing[0]
    assert not (frames / 'sit' / 'b').exists()


def test_tubes_without_annotations(tmp_path, run):
    status, _ = run('jhmdb', '--root', tmp_path)
    assert 'error' in status and 'JHMDB-GT.pkl does not exist' in status

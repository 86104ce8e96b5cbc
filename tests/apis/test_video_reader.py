"""Videos of every kind: what is read, and one clear message for what cannot be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_action_detector import moving_box, write_video

from mvbench_plugins.apis import video_reader
from mvbench_plugins.apis.video_reader import open_video


class FakeCamera:
    """Stands for ``cv2.VideoCapture(0)``: three frames, and no frame rate."""

    released = 0

    def __init__(self, index: int) -> None:
        self.left = 3
        self.there = index == 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.there

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.zeros((4, 6, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        FakeCamera.released += 1


def save_frames(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((8, 12, 3), number, np.uint8))
    return folder


def test_file_tells_rate_size_and_length_and_is_read_once(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 20, fps=12.5)
    with open_video(path) as video:
        assert (video.name, video.fps, video.size, video.num_frames, video.live) == ('a', 12.5, (160, 96), 20, False)
        frames = list(video)
    assert video.num_read == len(frames) == 20
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - moving_box(number)[0]).mean() < 4
    assert open_video(str(path), fps=24).fps == 24


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    folder = save_frames(tmp_path / 'f', *(f'img_{number}.png' for number in range(8, 12)))
    (folder / 'notes.txt').write_text('no frame')
    video = open_video(folder)
    assert (video.fps, video.size, video.num_frames) == (30, (12, 8), 4)
    assert [frame[0, 0, 0] for frame in video] == [0, 1, 2, 3]


def test_gap_in_the_numbers_is_told(tmp_path):
    folder = save_frames(tmp_path / 'f', '01.png', '02.png', '05.png', '06.png', '08.png')
    with pytest.warns(UserWarning, match='frames are missing between number 2 and 5, and in 1 other'):
        open_video(folder)


def test_every_tenth_frame_is_no_gap(tmp_path, recwarn):
    assert open_video(save_frames(tmp_path / 'f', '00.png', '10.png', '20.png', '30.png')).num_frames == 4
    assert not recwarn.list


def test_camera_is_live_and_freed(monkeypatch):
    monkeypatch.setattr(video_reader.cv2, 'VideoCapture', FakeCamera)
    before = FakeCamera.released
    with open_video(0) as camera:
        assert (camera.live, camera.num_frames, camera.fps) == (True, None, 30)
        next(iter(camera))
    assert FakeCamera.released == before + 1
    with pytest.raises(ValueError, match='camera 3 cannot be opened'):
        open_video(3)


def test_damaged_file_is_told(tmp_path):
    path = write_video(tmp_path / 'a.avi', 100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    video = open_video(path)
    video.num_frames = 100  # an mp4's header tells this; a cut mp4 has none
    with pytest.warns(UserWarning, match=r'a.avi: decoding ended at frame \d\d of 100; the file may be damaged'):
        assert len(list(video)) < 95


def test_frames_of_another_size_or_broken_ones_are_refused(tmp_path):
    folder = save_frames(tmp_path / 'f', '1.png', '2.png', '3.png')
    cv2.imwrite(str(folder / '2.png'), np.zeros((8, 14, 3), np.uint8))
    with pytest.raises(ValueError, match=r'frame 1 .* has 14 x 8 pixels, the first has 12 x 8'):
        list(open_video(folder))
    (folder / '2.png').write_bytes(b'not an image')
    with pytest.raises(ValueError, match=r'2\.png \(12 bytes\) cannot be decoded'):
        list(open_video(folder))


def test_folders_without_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match='holds no image'):
        open_video(tmp_path)
    write_video(tmp_path / 'a.mp4', 2)
    with pytest.raises(ValueError, match=r'holds 1 videos such as a\.mp4: give one of them'):
        open_video(tmp_path)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('empty.mp4', b'', r'empty\.mp4 \(0 bytes\) cannot be decoded'),
        ('text.mp4', b'no video' * 100, r'text\.mp4 \(800 bytes\) cannot be decoded'),
        ('image.png', None, r'image\.png is an image: expected a video file, or the folder'),
    ],
)
def test_files_that_are_no_video_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_video(path)


def test_video_without_frames_is_refused(tmp_path):
    # a header and nothing behind it
    writer = cv2.VideoWriter(str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 30, (16, 16))
    writer.release()
    with pytest.raises(ValueError, match=r'a\.avi .*(no frame that can be decoded|cannot be decoded)'):
        open_video(tmp_path / 'a.avi')


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        ('missing.mp4', FileNotFoundError, 'video missing.mp4 does not exist'),
        (-1, ValueError, 'camera -1 cannot be opened'),
        (True, TypeError, 'cannot read a video from bool'),
        (['a.mp4', 'b.mp4'], TypeError, 'from list.*One video per call'),
        (np.zeros((4, 4, 3), np.uint8), ValueError, r'shape \(4, 4, 3\) and type uint8, expected uint8 \[t, h, w, 3\]'),
        (np.zeros((2, 4, 4, 3), np.float32), ValueError, 'type float32'),
        (np.zeros((2, 3, 4, 4), np.uint8), ValueError, r'\(2, 3, 4, 4\)'),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, 'at least one frame'),
    ],
)
def test_other_sources_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        open_video(source)


@pytest.mark.parametrize('fps', [0, -5, float('nan'), float('inf')])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(ValueError, match='fps: found'):
        open_video(np.zeros((2, 4, 4, 3), np.uint8), fps)

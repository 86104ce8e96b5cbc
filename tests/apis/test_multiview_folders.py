"""Folders with calibration files: the same numbers as nuScenes' own, and what is said of wrong ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet3d.registry import DATASETS
from mmengine.dataset import Compose
from multiview_world import SCENE, oracle_config

import mvbench_plugins.sparsebev  # noqa: F401  registers
from mvbench_plugins.apis.multiview_calibration import LIDAR2EGO
from mvbench_plugins.apis.multiview_frames import FolderFrames, MultiViewFrame, NuScenesFrames
from mvbench_plugins.sparsebev.frames import CAMERAS

pytestmark = pytest.mark.usefixtures('scope_3d')
KEY = 3  # every third frame of the toy drive is a key frame


@pytest.fixture(scope='module')
def drive(write_drive, tmp_path_factory) -> Path:
    """All ten frames of a scene, at 6 Hz."""
    return write_drive(tmp_path_factory.mktemp('drives') / 'drive')


@pytest.fixture
def frame(drive, tmp_path) -> Path:
    """A single frame, to be spoiled."""
    return Path(shutil.copytree(drive / 'frame 4', tmp_path / 'frame'))


@pytest.fixture
def scene(toy_multiview) -> NuScenesFrames:
    return NuScenesFrames(DATASETS.build(oracle_config(toy_multiview).test_dataloader.dataset), [SCENE])


@pytest.fixture
def pipeline(toy_multiview) -> Compose:
    return Compose(oracle_config(toy_multiview).test_dataloader.dataset.pipeline)


def edit(frame: Path, change: Callable[[dict], object]) -> None:
    path = frame / 'calibration.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def assert_same_input(pipeline: Compose, ours: MultiViewFrame, theirs: MultiViewFrame) -> None:
    """Same images, projections and times in the model's input; paths and tokens differ."""
    ours, theirs = (pipeline(dict(each.results)) for each in (ours, theirs))
    assert (ours['inputs']['img'] == theirs['inputs']['img']).all()
    ours, theirs = ours['data_samples'], theirs['data_samples']
    np.testing.assert_allclose(ours.lidar2img, theirs.lidar2img, rtol=1e-7, atol=1e-6)
    assert np.array_equal(ours.img_timestamp, theirs.img_timestamp)
    assert ours.box_type_3d == theirs.box_type_3d and ours.box_mode_3d == theirs.box_mode_3d


def test_drive_gives_the_model_what_nuscenes_gives(drive, scene, pipeline):
    frames = FolderFrames(drive)
    assert [frame.name for frame in frames] == [f'frame {number}' for number in range(1, 11)]
    assert frames.rate == pytest.approx(6, rel=1e-4) and frames.key_interval == KEY and frames.sequential
    for number, sample in enumerate(scene):
        assert_same_input(pipeline, frames[number * KEY], sample)
        np.testing.assert_allclose(frames[number * KEY].lidar2img, sample.lidar2img, rtol=1e-7, atol=1e-6)


def test_a_slow_drive_steps_from_frame_to_frame(write_drive, tmp_path, scene, pipeline):
    frames = FolderFrames(write_drive(tmp_path / 'slow', every=KEY))
    assert len(frames) == 4 and frames.key_interval == 1
    for ours, theirs in zip(frames, scene, strict=True):
        assert_same_input(pipeline, ours, theirs)


def test_single_frame_finds_its_history_in_sub_folders_or_in_a_list(drive, frame, scene, pipeline, tmp_path):
    others = [drive / f'frame {number}' for number in (1, 2, 3)]
    for given in (others, others[::-1]):
        frames = FolderFrames(frame, history=given)
        assert len(frames) == 1 and not frames.sequential
        assert_same_input(pipeline, frames[0], scene[1])
    for other in others:
        shutil.copytree(other, frame / other.name)
    (frame / 'notes').mkdir()
    assert_same_input(pipeline, FolderFrames(frame)[0], scene[1])


def test_single_frame_needs_neither_time_nor_place(frame, scene):
    def strip(content: dict) -> None:
        del content['timestamp'], content['ego2global']
        for entry in content['cameras'].values():
            del entry['timestamp'], entry['ego2global']

    edit(frame, strip)
    (found,) = FolderFrames(frame)
    assert found.timestamp == 0 and found.results['past'] == found.results['future'] == []
    # the toy car moves by less than 0.4 m until the last camera has fired
    centre = np.array([0.0, 20.0, 0.0, 1.0])
    for ours, theirs in zip(found.lidar2img, scene[1].lidar2img):
        (u, v), (x, y) = ((projected[:2] / projected[2]) for projected in (ours @ centre, theirs @ centre))
        assert np.hypot(u - x, v - y) < 6


def test_pose_may_be_told_from_the_lidar_and_the_lidar_be_that_of_nuscenes(frame):
    edit(frame, lambda content: content.pop('lidar2ego'))
    expected = FolderFrames(frame)[0].lidar2img
    assert np.array_equal(np.array(LIDAR2EGO)[:3, 3], [0.94, 0, 1.84])

    def to_lidar(content: dict) -> None:
        for entry in content['cameras'].values():
            entry['cam2lidar'] = (np.linalg.inv(LIDAR2EGO) @ entry.pop('cam2ego')).tolist()

    edit(frame, to_lidar)
    np.testing.assert_allclose(FolderFrames(frame)[0].lidar2img, expected, rtol=1e-9, atol=1e-9)
    ahead = expected[0] @ (0.0, 10.0, 0.0, 1.0)  # what lies ahead in LiDAR axes is in the middle of the front camera
    assert ahead[2] > 5 and 50 < ahead[0] / ahead[2] < 78


def set_camera(**fields: object) -> Callable[[dict], None]:
    return lambda content: content['cameras']['CAM_BACK'].update(fields)


def invert(content: dict) -> None:
    entry = content['cameras']['CAM_FRONT']
    entry['cam2ego'] = np.linalg.inv(entry['cam2ego']).tolist()


def exchange(content: dict) -> None:
    cameras = content['cameras']
    cameras['CAM_FRONT_LEFT'], cameras['CAM_FRONT_RIGHT'] = cameras['CAM_FRONT_RIGHT'], cameras['CAM_FRONT_LEFT']


SKEW = np.diag([1.0, 1.0, 2.0, 1.0]).tolist()
MIRROR = np.diag([1.0, -1.0, 1.0, 1.0]).tolist()


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda content: content.pop('cameras'), r'calibration\.json: cameras is missing'),
        (lambda content: content['cameras'].pop('CAM_BACK'), r'cameras: found .*, but not CAM_BACK; expected all'),
        (set_camera(image='gone.jpg'), r'CAM_BACK\.image: .*gone\.jpg does not exist'),
        (set_camera(image='calibration.json'), r'CAM_BACK\.image: .* is not a picture'),
        (set_camera(intrinsics=[[0, 0, 60], [0, 90, 30], [0, 0, 1]]), r'CAM_BACK\.intrinsics: found .*expected \[\[fx'),
        (set_camera(intrinsics=[1, 2]), r'CAM_BACK\.intrinsics: found \[1, 2\], expected'),
        (
            set_camera(intrinsics=[[-90, 0, 60], [0, 90, 30], [0, 0, 1]]),
            r'CAM_BACK\.intrinsics: found .*fx and fy above 0',
        ),
        (set_camera(cam2ego=SKEW), r'CAM_BACK\.cam2ego: .* or no pose; expected a rigid pose .* with a rotation R'),
        (set_camera(cam2ego=MIRROR), r'CAM_BACK\.cam2ego: .* a reflection or no pose; expected a rigid pose'),
        (set_camera(cam2ego=[[1, 0], [0, 1]]), r'CAM_BACK\.cam2ego: found .*expected a rigid pose'),
        (set_camera(cam2lidar=np.eye(4).tolist()), r'CAM_BACK: found cam2ego and cam2lidar, expected one'),
        (set_camera(timestamp='noon'), r"CAM_BACK\.timestamp: found 'noon', expected seconds"),
        (lambda content: content.update(timestamp=1.5e15), r'timestamp: found 1\.5e\+15, expected seconds .*micro'),
        (lambda content: content.update(ego2global=SKEW), r'ego2global: .* singular, a reflection or no pose'),
        (lambda content: content.update(lidar2ego=None), r'lidar2ego: found None, expected a rigid pose'),
        (invert, r'CAM_FRONT: by its pose it looks .* inverted'),
        (exchange, r'CAM_FRONT_RIGHT: by its pose it looks 5\d degrees to the left .* about -55.*exchanged'),
    ],
)
def test_wrong_calibration_is_refused_with_file_and_field(frame, change, expected):
    edit(frame, change)
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as error:
        FolderFrames(frame)
    assert str(frame / 'calibration.json') in str(error.value)


def test_broken_json_and_folders_without_frames_are_refused(frame, tmp_path):
    (frame / 'calibration.json').write_text('{"cameras": ')
    with pytest.raises(ValueError, match=r'calibration\.json: not a JSON file: .*line 1'):
        FolderFrames(frame)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='found calibration.json neither there nor in a sub-folder'):
        FolderFrames(tmp_path / 'empty')


def test_pictures_of_different_size_are_refused(frame):
    cv2.imwrite(str(frame / 'cam_back.jpg'), np.zeros((36, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r'CAM_BACK\.image: .* is 64 x 36 pixels, expected 128 x 72'):
        FolderFrames(frame)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda content: content.update(timestamp=1.0), r'timestamp goes backwards: found 1\.000000 s, after 15\d+'),
        (lambda content: content.pop('timestamp'), r'timestamp missing: needed to bring several frames together'),
        (lambda content: content.pop('ego2global'), r'ego2global missing: needed'),
    ],
)
def test_frames_of_a_drive_must_fit_together(drive, tmp_path, change, expected):
    copy = Path(shutil.copytree(drive, tmp_path / 'drive'))
    edit(copy / 'frame 10', change)
    with pytest.raises(ValueError, match=rf'frame 10.calibration\.json: {expected}'):
        FolderFrames(copy)


def test_frames_of_a_drive_must_have_one_size(drive, tmp_path):
    copy = Path(shutil.copytree(drive, tmp_path / 'drive'))
    for camera in CAMERAS:
        cv2.imwrite(str(copy / 'frame 10' / f'{camera.lower()}.jpg'), np.zeros((36, 64, 3), np.uint8))
    with pytest.raises(ValueError, match='frame 10: pictures are 64 x 36 pixels, expected 128 x 72'):
        FolderFrames(copy)


def test_a_folder_without_calibration_in_a_drive_and_a_history_of_a_drive_are_refused(drive, tmp_path):
    copy = Path(shutil.copytree(drive, tmp_path / 'drive'))
    (copy / 'frame 7' / 'calibration.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'frame 7.calibration\.json does not exist'):
        FolderFrames(copy)
    with pytest.raises(ValueError, match='history: .* is a drive, whose frames have their own past'):
        FolderFrames(drive, history=[])

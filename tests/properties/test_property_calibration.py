"""Folders of six cameras: a calibration that was written is read, a damaged one is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings
from PIL import Image

from mvbench_plugins.apis.multiview_calibration import CALIBRATION, CalibratedFrame, read_calibrated_frame
from mvbench_plugins.sparsebev.frames import CAMERAS, are_intrinsics, are_poses

HEADINGS = dict(zip(CAMERAS, (0, -55, 55, 180, 110, -110), strict=True))


def _pose(heading: float, position: tuple[float, float, float] = (0.0, 0.0, 1.5)) -> list[list[float]]:
    """A camera that looks into a direction, in degrees to the left of straight ahead."""
    cos, sin = np.cos(np.radians(heading)), np.sin(np.radians(heading))
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = (sin, -cos, 0), (0, 0, -1), (cos, sin, 0), position
    return pose.tolist()


def _content(time: float = 12.5, turn: float = 0.0, focal: float = 20.0) -> dict:
    return {
        'timestamp': time,
        'ego2global': np.eye(4).tolist(),
        'cameras': {
            camera: {
                'image': f'{camera}.png',
                'intrinsics': [[focal, 0, 16], [0, focal, 9], [0, 0, 1]],
                'cam2ego': _pose(heading + turn),
                'timestamp': time + 0.01,
            }
            for camera, heading in HEADINGS.items()
        },
    }


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('cameras')
    for camera in CAMERAS:
        Image.new('RGB', (32, 18)).save(folder / f'{camera}.png')
    return folder


def _check(frame: CalibratedFrame) -> None:
    assert are_poses(frame.cameras.cam2global).all() and are_poses(frame.lidar2global)
    assert are_intrinsics(frame.cameras.cam2img).all() and np.isfinite(frame.cameras.timestamps).all()
    assert all(Path(path).is_file() for path in frame.cameras.img_paths)


@given(st.floats(0, 1e10), st.floats(-20, 20), st.floats(1, 1e4))
def test_calibrations_come_back(folder, time, turn, focal):
    content = _content(time, turn, focal)
    (folder / CALIBRATION).write_text(json.dumps(content))
    frame = read_calibrated_frame(folder)
    _check(frame)
    cameras = content['cameras']
    assert frame.timestamp == time and frame.size == (18, 32)
    assert np.array_equal(frame.cameras.cam2img, [cameras[camera]['intrinsics'] for camera in CAMERAS])
    assert np.allclose(frame.cameras.cam2global, [cameras[camera]['cam2ego'] for camera in CAMERAS])


@settings(max_examples=400)
@given(damaged_tree(_content()))
def test_damaged_calibrations_are_read_or_refused(folder, content):
    path = folder / CALIBRATION
    path.write_text(json.dumps(content))
    frame = answer(lambda: read_calibrated_frame(folder), path)
    if frame is not None:
        _check(frame)


@given(damaged_bytes(json.dumps(_content()).encode()))
def test_damaged_bytes_are_read_or_refused(folder, content):
    path = folder / CALIBRATION
    path.write_bytes(content)
    frame = answer(lambda: read_calibrated_frame(folder), path)
    if frame is not None:
        _check(frame)


@pytest.mark.parametrize('text', ['[' * 10**5, '{"cameras": ' + '9' * 10**5 + '}', '\ufeff{}', 'null'])
def test_text_that_json_chokes_on_is_refused(folder, text):
    path = folder / CALIBRATION
    path.write_text(text, encoding='utf-8')
    assert answer(lambda: read_calibrated_frame(folder), path) is None


@given(data=st.data())
def test_damaged_pictures_are_read_or_refused(folder, tmp_path_factory, data):
    other = tmp_path_factory.mktemp('damaged')
    for camera in CAMERAS:
        (other / f'{camera}.png').symlink_to(folder / f'{camera}.png')
    damaged = other / f'{CAMERAS[2]}.png'
    content = data.draw(damaged_bytes(damaged.read_bytes()))
    damaged.unlink()
    damaged.write_bytes(content)
    (other / CALIBRATION).write_text(json.dumps(_content()))
    frame = answer(lambda: read_calibrated_frame(other), damaged)
    if frame is not None:
        _check(frame)

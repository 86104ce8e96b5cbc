"""Tables of nuScenes that are damaged or lack something, and what reading them costs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from mvbench_plugins.sparsebev import sweeps
from mvbench_plugins.sparsebev.nuscenes_tables import NuScenesTables


def change(channel: str, **fields):
    """Change the first picture of a key frame that a camera took."""

    def edit(records: list[dict]) -> None:
        next(each for each in records if f'samples/{channel}/' in each['filename']).update(fields)

    return edit


def change_lens(**fields):
    """Change the first calibration of a camera."""

    def edit(records: list[dict]) -> None:
        next(each for each in records if each['camera_intrinsic']).update(fields)

    return edit


def swap_times(records: list[dict]) -> None:
    """The time of the last picture before that of the one before it."""
    last = next(each for each in records if '__CAM_BACK__' in each['filename'] and not each['next'])
    last['timestamp'] -= 300_000


@pytest.mark.parametrize(
    ('table', 'edit', 'words'),
    [
        ('calibrated_sensor', change_lens(camera_intrinsic=[[80, 0, 80], [0, 0, 45], [0, 0, 1]]), ('singular', 'CAM_')),
        ('calibrated_sensor', change_lens(rotation=[0, 0, 0, 0]), ('singular', 'quaternion')),
        ('ego_pose', lambda records: records[1].update(rotation=[1, 1, 0, 0]), ('ego_pose.json', 'quaternion')),
        ('sample_data', swap_times, ('sample_data.json', 'timestamp goes backwards', 'restore')),
        ('sample', lambda records: records[1].update(timestamp=1), ('sample.json', 'timestamp goes backwards')),
        ('sample_data', change('CAM_BACK', width=80), ('(90, 80)', 'expected (90, 160)')),
        ('sample_data', change('CAM_BACK', is_key_frame=False), ('no key frame of CAM_BACK', 'scene-')),
        ('sample_data', change('CAM_BACK', ego_pose_token='lost'), ("'lost'", 'ego_pose.json')),
        ('scene', lambda records: [each.update(name='scene-9999') for each in records], ('no scene', "'train'")),
        ('sample', lambda records: records.clear(), ('sample.json', 'no records')),
    ],
)
def test_bad_tables_are_refused(doctor, tmp_path, run_tool, table, edit, words):
    root = doctor(**{table: edit})
    with pytest.raises(SystemExit) as error:
        run_tool('--root-path', root, '--out-dir', tmp_path)
    assert all(word in str(error.value) for word in ('error', *words)), error.value
    assert not list(tmp_path.glob('*.pkl'))


def test_categories_that_nuscenes_does_not_have_are_told(doctor, tmp_path, run_tool, monkeypatch):
    """Others than the ten classes are no mistake; boxes of a misspelt one would be missed by nobody but the model."""

    def misspell(records: list[dict]) -> None:
        records[0]['name'], records[1]['name'] = 'vehicle.cars', 'animal'

    told = []
    monkeypatch.setattr(sweeps, 'print_log', lambda text, *_: told.append(text))
    run_tool('--root-path', doctor(category=misspell), '--out-dir', tmp_path)
    (line,) = told
    assert "category.json: 'vehicle.cars' is no category of nuScenes" in line and "mean 'vehicle.car'?" in line


def test_missing_and_damaged_tables_are_named(doctor, tmp_path, run_tool):
    root = doctor()
    (root / 'v1.0-trainval' / 'ego_pose.json').write_text('[{"token": ')
    with pytest.raises(SystemExit, match='ego_pose.json: not valid JSON'):
        run_tool('--root-path', root, '--out-dir', tmp_path)
    (root / 'v1.0-trainval' / 'ego_pose.json').unlink()
    with pytest.raises(SystemExit, match='ego_pose.json: table not found.*--version'):
        run_tool('--root-path', root, '--out-dir', tmp_path)


@pytest.mark.parametrize(
    ('table', 'field'),
    [
        ('scene', 'first_sample_token'),
        ('sample', 'prev'),
        ('sensor', 'channel'),
        ('calibrated_sensor', 'camera_intrinsic'),
        ('sample_data', 'height'),
        ('ego_pose', 'rotation'),
        ('category', 'name'),
        ('instance', 'category_token'),
        ('sample_annotation', 'num_radar_pts'),
    ],
)
def test_records_that_lack_a_field_are_named(doctor, tmp_path, run_tool, table, field):
    def lose(records: list[dict]) -> None:
        records[1].pop(field)
        records[1]['token'] = 'this one'

    with pytest.raises(SystemExit, match=rf'{table}\.json: record this one: found no {field}; download'):
        run_tool('--root-path', doctor(**{table: lose}), '--out-dir', tmp_path)


@pytest.mark.parametrize('content', ['{"token": "a"}', '["a"]', '[]'])
def test_tables_that_hold_no_records_are_refused(doctor, tmp_path, run_tool, content):
    root = doctor()
    (root / 'v1.0-trainval' / 'sample.json').write_text(content)
    with pytest.raises(SystemExit, match=r'sample\.json: .*found no .*download the table again'):
        run_tool('--root-path', root, '--out-dir', tmp_path)


def test_tables_are_looked_for_before_any_is_read(doctor, tmp_path, run_tool):
    root = doctor()
    (root / 'v1.0-trainval' / 'scene.json').write_text('[')
    (root / 'v1.0-trainval' / 'sample_annotation.json').unlink()
    with pytest.raises(SystemExit, match=r'sample_annotation\.json: table not found'):
        run_tool('--root-path', root, '--out-dir', tmp_path)


def test_records_of_other_sensors_take_no_memory(doctor, toy_root):
    """More than half of the 2.6 million files of the real data set, each with a pose, are of radars and the LiDAR."""
    count = 20_000

    def add_radar(records: list[dict]) -> None:
        radar = {**next(each for each in records if '__LIDAR_TOP__' in each['filename']), 'is_key_frame': False}
        records += [{**radar, 'token': f'{i:032}', 'ego_pose_token': f'{i:032}'} for i in range(count)]

    def add_poses(records: list[dict]) -> None:
        records += [{**records[0], 'token': f'{i:032}', 'translation': [i + 0.5, i / 3, 0]} for i in range(count)]

    def read(root: Path) -> tuple[int, int]:
        """Bytes that stay, and at most."""
        tracemalloc.start()
        try:
            tables = NuScenesTables(root, 'v1.0-trainval')
            assert len(tables.files) > 100
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    root = doctor(sample_data=add_radar, ego_pose=add_poses)
    text = max(path.stat().st_size for path in (root / 'v1.0-trainval').iterdir())
    (before, most_before), (stays, most) = read(toy_root), read(root)
    assert stays < before + 0.1 * text
    assert most < most_before + 2.5 * text  # the text as bytes and as characters; all records at once take 4 times

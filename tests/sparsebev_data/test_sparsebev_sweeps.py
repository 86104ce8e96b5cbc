"""The info files: what mmdet3d's own converter writes, and the camera sets that the devkit's links lead to."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import mmdet3d
import mmengine
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils import splits
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from mvbench_plugins.sparsebev.dataset import MultiFrameNuScenesDataset
from mvbench_plugins.sparsebev.frames import CAMERAS
from mvbench_plugins.sparsebev.nuscenes_tables import NuScenesTables
from mvbench_plugins.sparsebev.official_sweeps import convert_infos
from mvbench_plugins.sparsebev.sweeps import key_interval, sample_info, write_infos

NAMES = {split: f'nuscenes_multiview_infos_{split}.pkl' for split in ('train', 'val')}


def stock_converter(name: str):
    """A module of the data set converters that come with mmdet3d."""
    path = Path(mmdet3d.__file__).parent / '.mim' / 'tools' / 'dataset_converters' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_holds(got: object, want: object, place: str) -> None:
    """Everything in ``want`` is in ``got``, numbers up to the float32 of mmdet3d's poses."""
    if isinstance(want, dict):
        for key, value in want.items():
            assert_holds(got[key], value, f'{place}.{key}')
    elif isinstance(want, list) and want and isinstance(want[0], dict):
        assert len(got) == len(want), place
        for i, value in enumerate(want):
            assert_holds(got[i], value, f'{place}[{i}]')
    elif isinstance(want, str):
        assert got == want, place
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=2e-5, err_msg=place)


def unusual_annotations(records: list[dict]) -> None:
    """Alone in time, so without velocity; not touched by any point; seen by radar only."""
    records[0].update(prev='', next='')
    records[1].update(num_lidar_pts=0, num_radar_pts=0)
    records[2].update(num_lidar_pts=0, num_radar_pts=3)


def no_class(records: list[dict]) -> None:
    records[3]['name'] = 'animal'


def long_gap(records: list[dict]) -> None:
    """More time before the last key frame of the first scene than a velocity is taken over."""
    records[2]['timestamp'] += 2_200_000


@pytest.mark.filterwarnings('ignore:img_intersection is not an object')  # a box that a corner of the image cuts
def test_annotations_and_calibration_are_those_of_the_stock_converter(doctor, tmp_path, monkeypatch):
    root = doctor(sample_annotation=unusual_annotations, category=no_class, sample=long_gap)
    write_infos(root, 'v1.0-trainval', tmp_path, 'ours')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'nuscenes').symlink_to(root)
    monkeypatch.chdir(tmp_path)  # update_infos_to_v2 looks for the tables in ./data/nuscenes only
    (tmp_path / 'stock').mkdir()
    stock_converter('nuscenes_converter').create_nuscenes_infos('data/nuscenes', 'stock', version='v1.0-trainval')
    seen = []
    for split, samples in (('train', 6), ('val', 3)):
        stock_converter('update_infos_to_v2').update_pkl_infos(
            'nuscenes', out_dir='stock', pkl_path=f'data/nuscenes/stock_infos_{split}.pkl'
        )
        stock = mmengine.load(f'stock/stock_infos_{split}.pkl')
        ours = mmengine.load(f'ours_infos_{split}.pkl')
        assert stock['metainfo'].items() <= {**ours['metainfo'], 'categories': stock['metainfo']['categories']}.items()
        assert ours['metainfo']['categories']['animal'] == -1
        assert len(ours['data_list']) == len(stock['data_list']) == samples
        for got, want in zip(ours['data_list'], stock['data_list'], strict=True):
            want.pop('cam_instances')
            want.pop('lidar_sweeps', None)
            assert_holds(got, want, want['token'])
            seen += got['instances']
    # The unusual ones were among them.
    assert {-1, *range(10)} >= {each['bbox_label_3d'] for each in seen} > {-1}
    assert 0 < sum(not each['bbox_3d_isvalid'] for each in seen) < len(seen)
    assert any(each['bbox_3d_isvalid'] and each['num_lidar_pts'] == 0 for each in seen)
    without_velocity = np.isnan([each['velocity'] for each in seen]).all(1)
    assert 10 < without_velocity.sum() < len(seen) / 2


def test_camera_sets_are_those_before_the_key_frame(info_dir, nusc):
    for name, scenes in ((NAMES['train'], 2), (NAMES['val'], 1)):
        content = mmengine.load(info_dir / name)
        assert content['metainfo']['key_interval'] == 3 and tuple(content['metainfo']['image_size']) == (90, 160)
        assert content['metainfo']['version'] == 'v1.0-trainval'
        infos = content['data_list']
        assert [info['sample_idx'] for info in infos] == list(range(3 * scenes))
        assert [len(info['camera_sweeps']) for info in infos] == [0, 2, 2] * scenes
        assert np.all(np.diff([info['timestamp'] for info in infos]) > 0)
        for info in infos:
            sample = nusc.get('sample', info['token'])
            assert info['scene_token'] == sample['scene_token']
            for camera in CAMERAS:
                record = nusc.get('sample_data', sample['data'][camera])
                assert record['filename'] == f'samples/{camera}/{info["images"][camera]["img_path"]}'
                assert_is_of(nusc, info['images'][camera], record)
                for sweep in info['camera_sweeps']:
                    record = nusc.get('sample_data', record['prev'])
                    assert sweep[camera]['img_path'] == record['filename'] and not record['is_key_frame']
                    assert_is_of(nusc, sweep[camera], record)


def assert_is_of(nusc: NuScenes, entry: dict, record: dict) -> None:
    mount = nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
    poses = [
        transform_matrix(each['translation'], Quaternion(each['rotation']))
        for each in (nusc.get('ego_pose', record['ego_pose_token']), mount)
    ]
    np.testing.assert_allclose(entry['cam2global'], poses[0] @ poses[1], atol=1e-9)
    np.testing.assert_array_equal(entry['cam2img'], mount['camera_intrinsic'])
    assert entry['timestamp'] == pytest.approx(record['timestamp'] / 1e6, abs=1e-6)


@pytest.mark.parametrize(
    ('version', 'split_names', 'samples'),
    [
        ('v1.0-test', [*splits.test[:3]], {'test': 9}),
        ('v1.0-mini', [*splits.mini_val[:1], *splits.mini_train[:2]], {'mini_train': 6, 'mini_val': 3}),
    ],
)
def test_other_versions_have_their_own_splits(doctor, tmp_path, run_tool, version, split_names, samples):
    def rename(records: list[dict]) -> None:
        for record, name in zip(records, split_names, strict=True):
            record['name'] = name

    edits = {'scene': rename}
    if version == 'v1.0-test':
        edits |= {name: lambda records: records.clear() for name in ('instance', 'sample_annotation')}
    root = doctor(**edits)
    (root / 'v1.0-trainval').rename(root / version)
    run_tool('--root-path', root, '--version', version, '--extra-tag', 'tag')
    for split, number in samples.items():
        path = root / f'tag_infos_{split}.pkl'
        infos = mmengine.load(path)['data_list']
        assert len(infos) == number and all(bool(info['instances']) != (split == 'test') for info in infos)
        dataset = MultiFrameNuScenesDataset(data_root=str(root), ann_file=path.name, test_mode=True)
        assert dataset.metainfo['version'] == version
        assert len(dataset.get_data_info(2)['past']) == 6


def test_the_last_set_is_repeated_where_a_camera_has_no_more(toy_root):
    tables = NuScenesTables(toy_root, 'v1.0-trainval')
    assert key_interval(tables) == 3
    second = next(sample for sample in tables.samples.values() if sample['prev'])
    keys = {channel: tables.files[token] for channel, token in tables.key_files[second['token']].items()}
    tables.earlier_files(keys['CAM_BACK'], 2)[1]['prev'] = ''  # one camera that started late
    sets = sample_info(tables, second, 4)['camera_sweeps']
    assert len(sets) == 4 and sets[2] == sets[3] == sets[1] != sets[0]


def test_finished_files_are_kept_and_replaced_on_request(toy_root, tmp_path, run_tool, capsys):
    arguments = ('--root-path', toy_root, '--out-dir', tmp_path)
    (tmp_path / NAMES['train']).write_bytes(b'mine')
    run_tool(*arguments)
    assert f'{tmp_path / NAMES["val"]}: 3 samples' in capsys.readouterr().out
    assert (tmp_path / NAMES['train']).read_bytes() == b'mine'
    run_tool(*arguments)
    assert 'left as they are' in capsys.readouterr().out
    run_tool(*arguments, '--overwrite')
    assert f'{tmp_path / NAMES["train"]}: 6 samples' in capsys.readouterr().out
    assert mmengine.load(tmp_path / NAMES['train'])['data_list']
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES.values())


def test_an_interrupted_run_leaves_no_half_file(toy_root, tmp_path, run_tool, monkeypatch):
    def interrupted(content, file, *_):
        Path(file).write_bytes(pickle.dumps(content)[:1000])
        raise KeyboardInterrupt

    arguments = ('--root-path', toy_root, '--out-dir', tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(mmengine, 'dump', interrupted)
        with pytest.raises(SystemExit, match='interrupted'):
            run_tool(*arguments)
    assert not set(NAMES.values()) & {path.name for path in tmp_path.iterdir()}
    run_tool(*arguments)
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES.values())


def test_missing_images_are_listed_and_counted(toy_root, nusc, tmp_path, run_tool):
    root = tmp_path / 'part'
    root.mkdir()
    for part in ('v1.0-trainval', 'samples'):
        (root / part).symlink_to(toy_root / part)
    for camera in CAMERAS[1:]:
        (root / 'sweeps' / camera).mkdir(parents=True)
        for path in (toy_root / 'sweeps' / camera).iterdir():
            (root / 'sweeps' / camera / path.name).symlink_to(path)
    gone = sorted((root / 'sweeps' / 'CAM_BACK').iterdir())[0]
    gone.unlink()
    with pytest.raises(SystemExit, match='13 of 126 images are missing.*sweeps of all cameras'):
        run_tool('--root-path', root, '--out-dir', tmp_path)
    listed = (tmp_path / 'nuscenes_multiview_missing_images.txt').read_text().split()
    fronts = {each['filename'] for each in nusc.sample_data if each['filename'].startswith('sweeps/CAM_FRONT/')}
    assert set(listed) == fronts | {f'sweeps/CAM_BACK/{gone.name}'} and len(listed) == 13
    assert not list(tmp_path.glob('*.pkl'))


def official_infos(root: Path, split: str, nusc: NuScenes) -> dict:
    """What the official code makes of mmdet3d's infos, as its description says."""
    scenes = {each['token'] for each in nusc.scene if each['name'] in ('scene-0041', 'scene-0042')}
    both = stock_converter('nuscenes_converter')._fill_trainval_infos(nusc, scenes, set())
    infos = both[split == 'val']

    def image(record: dict) -> dict:
        mount = nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
        pose = nusc.get('ego_pose', record['ego_pose_token'])
        mount_rotation, rotation = (Quaternion(each['rotation']).rotation_matrix for each in (mount, pose))
        return dict(
            data_path=f'data/nuscenes/{record["filename"]}',
            timestamp=record['timestamp'],
            cam_intrinsic=np.array(mount['camera_intrinsic']),
            sensor2global_rotation=mount_rotation.T @ rotation.T,
            sensor2global_translation=np.array(mount['translation']) @ rotation.T + pose['translation'],
        )

    for info in infos:
        sample = nusc.get('sample', info['token'])
        records = {camera: nusc.get('sample_data', sample['data'][camera]) for camera in CAMERAS}
        info['cams'] = {camera: image(record) for camera, record in records.items()}
        info['sweeps'] = []
        for _ in range(2 if sample['prev'] else 0):
            records = {camera: nusc.get('sample_data', record['prev']) for camera, record in records.items()}
            info['sweeps'].append({camera: image(record) for camera, record in records.items()})
    return dict(infos=infos[::-1], metadata=dict(version='v1.0-trainval'))


def test_official_files_convert_to_the_same(toy_root, nusc, info_dir, tmp_path, run_tool, monkeypatch):
    for split in NAMES:
        file = tmp_path / f'nuscenes_infos_{split}_sweep.pkl'
        mmengine.dump(official_infos(toy_root, split, nusc), file)
        run_tool('--root-path', toy_root, '--out-dir', tmp_path, '--from-official', file)
        got = mmengine.load(tmp_path / NAMES[split])
        want = mmengine.load(info_dir / NAMES[split])
        assert tuple(got['metainfo']['image_size']) == (900, 1600) and got['metainfo']['key_interval'] == 6
        for info, expected in zip(got['data_list'], want['data_list'], strict=True):
            expected.pop('scene_token')
            for entry in expected['images'].values():
                del entry['sample_data_token'], entry['cam2ego']
            for entry in expected['instances']:
                del entry['num_radar_pts']
            assert_holds(info, expected, info['token'])
            assert len(info['instances']) == len(expected['instances'])
        tokens = [info['scene_token'] for info in got['data_list']]
        assert [tokens.count(each) for each in dict.fromkeys(tokens)] == [3] * (len(tokens) // 3)


def test_an_incomplete_official_set_is_replaced_and_other_files_are_refused(toy_root, nusc, info_dir, tmp_path):
    content = official_infos(toy_root, 'val', nusc)
    last = content['infos'][0]
    del last['sweeps'][1]['CAM_FRONT_LEFT']
    mmengine.dump(content, tmp_path / 'nuscenes_infos_val_sweep.pkl')
    (path,) = convert_infos([tmp_path / 'nuscenes_infos_val_sweep.pkl'], toy_root, tmp_path, 'o', overwrite=False)
    sweeps = mmengine.load(path)['data_list'][-1]['camera_sweeps']
    assert sweeps[0] == sweeps[1]
    del last['sweeps'][0]['CAM_FRONT']
    mmengine.dump(content, tmp_path / 'nuscenes_infos_val_sweep.pkl')
    with pytest.raises(ValueError, match=r'sweeps\[0\]: found only CAM_FRONT_RIGHT'):
        convert_infos([tmp_path / 'nuscenes_infos_val_sweep.pkl'], toy_root, tmp_path, 'o', overwrite=True)
    with pytest.raises(ValueError, match='expected a file of the official'):
        convert_infos([info_dir / NAMES['val']], toy_root, tmp_path, 'other', overwrite=False)


@pytest.mark.parametrize(
    ('lose', 'words'),
    [
        (lambda content: content['metadata'].pop('version'), 'metadata: found no version'),
        (lambda content: content['infos'][1].pop('timestamp'), 'sample [0-9a-f]{32}: found no timestamp;'),
        (lambda content: content['infos'][1].pop('lidar_path'), 'found no lidar_path;'),
        (lambda content: content['infos'][1].pop('sweeps'), 'found no sweeps;'),
        (lambda content: content['infos'][1].pop('gt_velocity'), 'found no gt_velocity;'),
        (lambda content: content['infos'][1]['cams'].pop('CAM_BACK'), 'cams: found no CAM_BACK;'),
        (
            lambda content: content['infos'][1]['cams']['CAM_BACK'].pop('timestamp'),
            r'cams\.CAM_BACK: found no timestamp',
        ),
        (
            lambda content: content['infos'][1]['sweeps'][1]['CAM_BACK'].pop('data_path'),
            r'sweeps\[1\]\.CAM_BACK: found no data_path',
        ),
    ],
)
def test_official_files_that_lack_a_field_are_refused(toy_root, nusc, tmp_path, run_tool, lose, words):
    content = official_infos(toy_root, 'val', nusc)
    lose(content)
    file = tmp_path / 'nuscenes_infos_val_sweep.pkl'
    mmengine.dump(content, file)
    with pytest.raises(SystemExit, match=rf'error: {file}: .*{words}.*official gen_sweep_info\.py'):
        run_tool('--root-path', toy_root, '--out-dir', tmp_path, '--from-official', file)
    assert not (tmp_path / NAMES['val']).exists()


@pytest.mark.parametrize('length', [0, 200])
def test_half_an_official_file_is_refused(toy_root, nusc, tmp_path, run_tool, length):
    file = tmp_path / 'nuscenes_infos_val_sweep.pkl'
    file.write_bytes(pickle.dumps(official_infos(toy_root, 'val', nusc))[:length])
    with pytest.raises(SystemExit, match=rf'error: {file}: not a complete pickle file'):
        run_tool('--root-path', toy_root, '--out-dir', tmp_path, '--from-official', file)

"""The driving world as SemanticKITTI: files agree with each other and with the world, mmdet3d's classes run on them."""

import importlib.util
import inspect
import pickle
from pathlib import Path

import mmdet3d
import numpy as np
import pytest
import torch
from mmdet3d.datasets import SemanticKittiDataset
from mmdet3d.datasets.transforms import LoadAnnotations3D, LoadPointsFromFile, PointSegClassMapping
from mmdet3d.evaluation.metrics import SegMetric
from mmengine.config import Config
from toy_folders import contents

from mvbench_plugins.datasets.toy import semantic_kitti as writer
from mvbench_plugins.datasets.toy import write_nuscenes, write_semantic_kitti
from mvbench_plugins.datasets.toy.driving_ground import ground_kinds
from mvbench_plugins.datasets.toy.driving_kinds import KINDS
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import LIDAR
from mvbench_plugins.datasets.toy.nuscenes import TRAIN_SCENES, VAL_SCENES
from mvbench_plugins.datasets.toy.semantic_kitti import KIND_LABELS, TRAIN_SEQUENCES, VAL_SEQUENCES

SMALL = {'seed': 6, 'num_train': 2, 'num_val': 1, 'scans': 4}
TINY = {'num_train': 2, 'num_val': 1, 'scans': 2, 'azimuths': 16}
CONVERTERS = Path(mmdet3d.__file__).parent / '.mim' / 'tools' / 'dataset_converters'
STOCK_CONFIG = Path(mmdet3d.__file__).parent / '.mim' / 'configs' / '_base_' / 'datasets' / 'semantickitti.py'


def read_points(folder: Path, sequence: str, scan: int) -> np.ndarray:
    """Points ``(n, 4)`` of a scan."""
    return np.fromfile(folder / 'sequences' / sequence / 'velodyne' / f'{scan:06d}.bin', np.float32).reshape(-1, 4)


def read_labels(folder: Path, sequence: str, scan: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and instances of the points of a scan."""
    labels = np.fromfile(folder / 'sequences' / sequence / 'labels' / f'{scan:06d}.label', np.uint32)
    return labels & 0xFFFF, labels >> 16


def read_poses(folder: Path, sequence: str) -> list[np.ndarray]:
    """From the velodyne at each scan to the velodyne at the first one, as the official tools compute it."""
    calibration = {}
    for line in (folder / 'sequences' / sequence / 'calib.txt').read_text().splitlines():
        name, numbers = line.split(':')
        calibration[name] = np.vstack([np.array(numbers.split(), float).reshape(3, 4), [0, 0, 0, 1]])
    assert set(calibration) == {'P0', 'P1', 'P2', 'P3', 'Tr'}
    rows = np.loadtxt(folder / 'sequences' / sequence / 'poses.txt').reshape(-1, 3, 4)
    to_camera = calibration['Tr']
    return [np.linalg.inv(to_camera) @ np.vstack([row, [0, 0, 0, 1]]) @ to_camera for row in rows]


@pytest.fixture(scope='module')
def toy_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('toy') / 'new' / 'semantickitti'
    assert write_semantic_kitti(folder, **SMALL)
    return folder


@pytest.fixture(scope='module')
def stock_infos():
    """mmdet3d's function that lists the scans of a split."""
    spec = importlib.util.spec_from_file_location('converter', CONVERTERS / 'semantickitti_converter.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_semantickitti_info, module.fold_split


def test_files_of_a_sequence(toy_set):
    names = ['calib.txt', 'labels', 'poses.txt', 'times.txt', 'velodyne']
    assert sorted(path.name for path in (toy_set / 'sequences').iterdir()) == ['00', '01', '08']
    for sequence in ('00', '01', '08'):
        folder = toy_set / 'sequences' / sequence
        assert sorted(path.name for path in folder.iterdir()) == names
        assert sorted(path.name for path in (folder / 'velodyne').iterdir()) == [f'{scan:06d}.bin' for scan in range(4)]
        assert np.loadtxt(folder / 'times.txt').tolist() == [0, 0.5, 1, 1.5]
        for scan in range(4):
            points, (classes, _) = read_points(toy_set, sequence, scan), read_labels(toy_set, sequence, scan)
            assert len(points) == len(classes) > 3000
            assert np.all((points[:, 3] >= 0) & (points[:, 3] <= 1)) and points[:, 3].max() > 0.2


def test_splits_are_the_official_ones_and_do_not_overlap(stock_infos):
    """Without the numbers of the official test split."""
    _, official = stock_infos
    taken = {split: [f'{number:02d}' for number in numbers] for split, numbers in official.items()}
    assert list(TRAIN_SEQUENCES[:10]) == taken['train'] and list(VAL_SEQUENCES[:1]) == taken['val']
    used = [*TRAIN_SEQUENCES, *VAL_SEQUENCES]
    assert len(set(used)) == len(used) and not set(used) & set(taken['test'])
    assert all(len(name) == 2 for name in used)


def test_info_files_are_those_of_the_stock_converter(toy_set, stock_infos):
    """But for the scans that the toy set does not have, and for its ids, of which two may be equal."""
    list_scans, _ = stock_infos
    for split, sequences in (('train', ('00', '01')), ('val', ('08',))):
        infos, wanted = pickle.loads((toy_set / f'semantickitti_infos_{split}.pkl').read_bytes()), list_scans(split)
        assert infos['metainfo'] == wanted['metainfo']
        stock = {entry['lidar_points']['lidar_path']: entry for entry in wanted['data_list']}
        paths = [entry['lidar_points']['lidar_path'] for entry in infos['data_list']]
        assert paths == [f'sequences/{name}/velodyne/{scan:06d}.bin' for name in sequences for scan in range(4)]
        for path, entry in zip(paths, infos['data_list'], strict=True):
            assert entry.keys() == stock[path].keys()
            assert {**entry, 'sample_id': ''} == {**stock[path], 'sample_id': ''}
        assert len({entry['sample_id'] for entry in infos['data_list']}) == len(paths)


@pytest.mark.parametrize(('stream', 'index', 'sequence'), [(0, 0, '00'), (0, 1, '01'), (1, 0, '08')])
def test_points_labels_and_poses_agree_with_the_world(toy_set, stream, index, sequence):
    """Points of an instance lie on its cuboid, wherever both have moved to; all others on the ground of their class."""
    world = random_world(np.random.default_rng([SMALL['seed'], stream, index]), 1.5)
    (x, y), heading = world.drive.pose(0.0)
    cos, sin = np.cos(heading), np.sin(heading)
    # The velodyne of the first scan looks ahead but for the small angles of the toy LiDAR's mount.
    ahead = LIDAR.rotation @ [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(ahead, np.eye(3), atol=0.03)
    turn, place = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]), np.array([x, y, 0])
    poses, seen = read_poses(toy_set, sequence), 0
    assert len(poses) == 4
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-8)
    for scan, pose in enumerate(poses):
        points, (classes, instances) = read_points(toy_set, sequence, scan), read_labels(toy_set, sequence, scan)
        at_start = points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        where = (at_start @ ahead.T + LIDAR.translation) @ turn.T + place
        for number in np.unique(instances[instances > 0]):
            cuboid, mine = world.cuboids[number - 1], instances == number
            assert set(classes[mine]) == {KIND_LABELS[cuboid.kind.name][cuboid.speed > 0]}
            cos, sin = np.cos(cuboid.yaw), np.sin(cuboid.yaw)
            own = (where[mine, :2] - cuboid.middle(scan / 2)) @ np.array([[cos, -sin], [sin, cos]])
            assert np.all(np.abs(own) <= np.array(cuboid.size[:2]) / 2 + 1e-3)
            seen += mine.sum()
        ground = instances == 0
        assert np.all(np.abs(where[ground, 2]) < 0.03)
        wanted = np.array([40, 48, 72])[ground_kinds(where[ground, :2])]
        assert (wanted == classes[ground]).mean() > 0.999
        assert len(np.unique(classes[ground])) == 3
    assert seen > 1000


def test_drives_are_those_of_the_toy_nuscenes(tmp_path):
    """Down to the points, turned to KITTI's axes: x ahead instead of to the right."""
    common = {'seed': 3, 'num_train': 2, 'num_val': 1, 'azimuths': 16}
    write_nuscenes(tmp_path / 'nuscenes', **common, size=(64, 36), key_frames=2, sweeps=0)
    write_semantic_kitti(tmp_path / 'kitti', **common, scans=2)
    for scene, sequence in zip((*TRAIN_SCENES[:2], VAL_SCENES[0]), ('00', '01', '08'), strict=True):
        files = sorted((tmp_path / 'nuscenes' / 'samples' / LIDAR.channel).glob(f'toy-{scene}__*'))
        for scan, file in enumerate(files):
            right, ahead, up, intensity, _ = np.fromfile(file, np.float32).reshape(-1, 5).T
            wanted = np.column_stack([ahead, -right, up, intensity / 255])
            np.testing.assert_allclose(read_points(tmp_path / 'kitti', sequence, scan), wanted, atol=1e-6)
        assert len(files) == 2


def test_stock_data_set_and_metric(toy_set):
    """Ground truth that goes through mmdet3d's own pipeline and comes back as predictions is perfect."""
    cfg = Config.fromfile(STOCK_CONFIG)
    dataset = SemanticKittiDataset(
        data_root=str(toy_set),
        ann_file='semantickitti_infos_train.pkl',
        metainfo=cfg.metainfo,
        ignore_index=19,
        test_mode=True,
        pipeline=[
            LoadPointsFromFile('LIDAR', load_dim=4, use_dim=4),
            LoadAnnotations3D(
                with_bbox_3d=False,
                with_label_3d=False,
                with_seg_3d=True,
                seg_3d_dtype='np.int32',
                seg_offset=2**16,
                dataset_type='semantickitti',
            ),
            PointSegClassMapping(),
        ],
    )
    assert len(dataset) == 8
    metric = SegMetric()
    metric.dataset_meta = dataset.metainfo
    present = set()
    for item in map(dataset.__getitem__, range(8)):
        truth = item['pts_semantic_mask']
        assert len(item['points']) == len(truth)
        present |= set(truth)
        found = {'pts_semantic_mask': torch.from_numpy(truth)}
        metric.process({}, [{'pred_pts_seg': found, 'eval_ann_info': item['eval_ann_info']}])
    names = {'car', 'bicycle', 'motorcycle', 'truck', 'bus', 'person', 'road', 'sidewalk', 'fence', 'terrian'}
    assert {[*cfg.class_names, 'cones'][label] for label in present} == names | {'cones'}
    result = metric.evaluate(8)
    assert result['miou'] == pytest.approx(1) and {name for name in names if result[name] == 1} == names


def test_what_mmdet3d_takes_each_kind_for():
    """Moving or not: how a cuboid looks does not tell its speed. mmdet3d calls other vehicles buses."""
    cfg = Config.fromfile(STOCK_CONFIG)
    names = [*cfg.class_names, 'ignored']
    wanted = {'car': 'car', 'truck': 'truck', 'trailer': 'bus', 'bus': 'bus', 'construction_vehicle': 'bus'}
    wanted |= {'bicycle': 'bicycle', 'motorcycle': 'motorcycle', 'pedestrian': 'person'}
    wanted |= {'traffic_cone': 'ignored', 'barrier': 'fence'}
    assert set(wanted) == {kind.name for kind in KINDS}
    for kind, name in wanted.items():
        assert {names[cfg.labels_map[label]] for label in KIND_LABELS[kind]} == {name}


def test_same_seed_same_bytes_and_sequences_do_not_depend_on_the_length_of_the_set(tmp_path):
    sets = {}
    for name, change in (('one', {}), ('two', {}), ('short', {'num_train': 1}), ('other', {'seed': 7})):
        assert write_semantic_kitti(tmp_path / name, **TINY | change)
        sets[name] = contents(tmp_path / name)
    assert sets['one'] == sets['two']
    files = [name for name in sets['short'] if name.startswith('sequences/')]
    assert len(files) == 2 * (2 * 2 + 3)
    assert all(sets['short'][name] == sets['one'][name] for name in files)
    clouds = [name for name in files if name.endswith('.bin')]
    assert not [name for name in clouds if sets['other'][name] == sets['one'][name]]
    assert len({sets['one'][name] for name in clouds}) == len(clouds)


def test_complete_set_is_left_alone_and_unfinished_ones_are_made_anew(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, 'kitti_labels', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_semantic_kitti(tmp_path, **TINY)
    (tmp_path / 'sequences' / '99').mkdir()
    assert write_semantic_kitti(tmp_path, **TINY)
    before = contents(tmp_path)
    assert not (tmp_path / 'sequences' / '99').exists() and not write_semantic_kitti(tmp_path, **TINY)
    (tmp_path / 'semantickitti_infos_val.pkl').unlink()
    assert write_semantic_kitti(tmp_path, **TINY) and contents(tmp_path) == before
    with pytest.raises(FileExistsError, match=r"'scans': 2.*'scans': 3.*delete this one"):
        write_semantic_kitti(tmp_path, **TINY | {'scans': 3})


def test_tool_writes_the_set_and_says_so(run_tool, tmp_path, capsys):
    options = ['--num-train', 1, '--num-val', 1, '--scans', 2, '--azimuths', 16]
    for _ in range(2):
        run_tool('semantickitti', '--out', tmp_path, '--seed', 3, *options)
    lines = capsys.readouterr().out.splitlines()
    assert '1 training and 1 validation sequences with 2 scans each, written' in lines[0]
    assert 'left as it is' in lines[1]
    assert len(list(tmp_path.glob('sequences/*/velodyne/*.bin'))) == 2 * 2


def test_defaults_of_the_tool_are_those_of_the_writer(run_tool, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(writer, 'write_semantic_kitti', lambda out, **options: asked.update(options) or True)
    run_tool('semantickitti', '--out', tmp_path)
    parameters = inspect.signature(write_semantic_kitti).parameters
    assert asked == {name: parameters[name].default for name in parameters if name != 'out'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--scans', 0], 'scans: found 0, expected an integer of at least 1'),
        (['--azimuths', 0], 'azimuths: found 0'),
        (['--num-val', 0], 'num_val: found 0'),
        (['--num-train', 59], r'num_train: found 59, expected at most 58 \(sequences of two digits\)'),
    ],
)
def test_tool_refuses_bad_numbers(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool('semantickitti', '--out', tmp_path / 'set', *arguments)
    assert not (tmp_path / 'set').exists()

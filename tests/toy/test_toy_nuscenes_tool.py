"""Toy nuScenes: equal bytes, finished and unfinished sets, and tools/make_toy_data.py."""

import pytest
from toy_folders import contents

from mvbench_plugins.datasets.toy import nuscenes as writer
from mvbench_plugins.datasets.toy import write_nuscenes
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import LIDAR

TINY = {'num_train': 2, 'num_val': 1, 'size': (64, 36), 'key_frames': 2, 'sweeps': 0, 'azimuths': 16}


def test_same_seed_same_bytes_and_scenes_do_not_depend_on_the_length_of_the_set(tmp_path):
    sets = {}
    for name, change in (('one', {}), ('two', {}), ('short', {'num_train': 1}), ('other', {'seed': 7})):
        assert write_nuscenes(tmp_path / name, **TINY | change)
        sets[name] = contents(tmp_path / name)
    assert sets['one'] == sets['two']
    files = [name for name in sets['short'] if name.startswith(('samples/', 'sweeps/'))]
    assert len(files) == 2 * 2 * 7
    assert all(sets['short'][name] == sets['one'][name] for name in files)
    assert sets['other'].keys() == sets['one'].keys()
    assert not [name for name in files if sets['other'][name] == sets['one'][name]]
    # Neither do the splits repeat each other.
    fronts = [content for name, content in sets['short'].items() if name.startswith('samples/CAM_FRONT/')]
    assert len(set(fronts)) == len(fronts) == 4


def test_complete_set_is_left_alone_and_unfinished_ones_are_made_anew(tmp_path, monkeypatch):
    calls = []

    def interrupted_world(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return random_world(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, 'random_world', interrupted_world)
        with pytest.raises(KeyboardInterrupt):
            write_nuscenes(tmp_path, **TINY)
    (tmp_path / 'sweeps' / 'CAM_FRONT' / 'half.jpg').write_bytes(b'')
    assert write_nuscenes(tmp_path, **TINY)
    before = contents(tmp_path)
    assert not [name for name in before if 'half' in name]
    # What the converter leaves beside the tables does not make the set another one.
    (tmp_path / 'nuscenes_infos_train.pkl').write_bytes(b'infos')
    stamp = (tmp_path / 'toy.json').stat().st_mtime_ns
    assert not write_nuscenes(tmp_path, **TINY)
    assert (tmp_path / 'toy.json').stat().st_mtime_ns == stamp
    next((tmp_path / 'samples' / LIDAR.channel).iterdir()).unlink()
    assert write_nuscenes(tmp_path, **TINY)
    assert contents(tmp_path) == before | {'nuscenes_infos_train.pkl': b'infos'}


def test_tool_writes_the_set_and_says_so(run_tool, tmp_path, capsys):
    options = ['--num-train', 1, '--num-val', 1, '--size', 64, 36, '--key-frames', 2, '--sweeps', 1, '--azimuths', 16]
    for _ in range(2):
        run_tool('nuscenes', '--out', tmp_path, '--seed', 3, *options)
    lines = capsys.readouterr().out.splitlines()
    assert '1 training and 1 validation scenes with 2 key frames each, written' in lines[0]
    assert 'left as it is' in lines[1]
    assert len(list((tmp_path / 'samples' / 'CAM_BACK').iterdir())) == 2 * 2
    assert len(list((tmp_path / 'sweeps' / LIDAR.channel).iterdir())) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--key-frames', 1], 'key_frames: found 1, expected an integer of at least 2'),
        (['--size', 320, 20], 'height: found 20, expected an integer of at least 36'),
        (['--azimuths', 0], 'azimuths: found 0'),
        (['--sweeps', -1], 'sweeps: found -1'),
        (['--num-val', 0], 'num_val: found 0'),
        (['--num-train', 900], r'num_train: found 900, expected at most 127'),
    ],
)
def test_tool_refuses_bad_numbers(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool('nuscenes', '--out', tmp_path / 'set', *arguments)
    assert not (tmp_path / 'set').exists()

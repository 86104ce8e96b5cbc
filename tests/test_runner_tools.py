"""tools/train.py, tools/test.py and the launch scripts: mistakes end in one message, options reach the runner."""

import importlib.util
import logging
import os
import re
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mvbench_plugins.common import cli

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
CONFIG = """
model = dict(type='BaseDataPreprocessor')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1.0))
default_hooks = dict(visualization=dict(type='A'), checkpoint=dict(type='CheckpointHook'))
test_evaluator = dict(type='Metric')
train_pipeline = []
val_evaluator_extra = None
"""


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{name}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    path = tmp_path / 'toy.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs a tool in this process up to the runner; returns the config that the runner would be built from."""

    class Stub:
        work_dir, timestamp, logger = 'work', 'time', logging.getLogger(__name__)

        def train(self) -> None: ...

        test = train

    def run(name: str, *arguments: object) -> Config:
        built = []
        monkeypatch.setattr(cli, 'build_runner', lambda cfg: built.append(cfg) or Stub())
        monkeypatch.setattr('sys.argv', [f'{name}.py', *map(str, arguments)])
        load_tool(name).main()
        return built[0]

    return run


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', ['absent.py'], r'config absent\.py does not exist'),
        ('train', ['toy.py', '--resume', 'absent.pth'], r'--resume: checkpoint absent\.pth does not exist'),
        (
            'train',
            ['toy.py', '--cfg-options', 'load_from=absent.pth'],
            r'load_from: checkpoint absent\.pth does not exist',
        ),
        (
            'train',
            ['toy.py', '--cfg-options', 'optim_wraper.optimizer.lr=1'],
            r"--cfg-options: the top-level key 'optim_wraper' .* Did you mean 'optim_wrapper'\?",
        ),
        ('train', ['toy.py', '--auto-scale-lr'], r'lacks auto_scale_lr=dict\(base_batch_size=N\)'),
        (
            'train',
            ['toy.py', '--amp', '--cfg-options', 'optim_wrapper.type=Own'],
            r"optim_wrapper.type='Own', expected OptimWrapper",
        ),
        ('test', ['absent.py', 'absent.pth'], r'config absent\.py does not exist'),
        ('test', ['toy.py', 'absent.pth'], r'checkpoint argument: checkpoint absent\.pth does not exist'),
    ],
)
def test_mistake_ends_in_one_message(tool: str, arguments: list, message: str, config: Path, run: Callable) -> None:
    with pytest.raises(SystemExit, match=message) as end:
        run(tool, *arguments)
    assert '\n' not in end.value.code


def test_lost_file_is_named_with_its_place_in_the_config(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(CONFIG + "train_dataloader = dict(dataset=dict(data_root='data/', ann_file='infos_train.pkl'))\n")
    monkeypatch.setattr(cli, 'build_runner', lambda cfg: open('data/infos_train.pkl'))
    monkeypatch.setattr('sys.argv', ['train.py', 'toy.py'])
    with pytest.raises(SystemExit) as end:
        load_tool('train').main()
    assert "No such file or directory: 'data/infos_train.pkl'" in end.value.code
    assert 'toy.py (train_dataloader.dataset.ann_file)' in end.value.code and 'README' in end.value.code


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', ['toy.py', '--cfg-options', 'lr', '=', '1'], "found 'lr', expected key=value"),
        ('test', ['toy.py', 'toy.py', '--out', 'out.json'], r"found 'out.json', expected a name that ends with \.pkl"),
    ],
)
def test_usage_error(tool: str, arguments: list, message: str, config: Path, run: Callable, capsys) -> None:
    with pytest.raises(SystemExit, match='2'):
        run(tool, *arguments)
    assert re.search(message, capsys.readouterr().err)


def test_mistyped_key_in_file_is_named_with_file(config: Path, run: Callable) -> None:
    config.write_text(CONFIG + 'train_dataloder = None\n')
    with pytest.raises(SystemExit, match=r"toy\.py: .* 'train_dataloder' .* Did you mean 'train_dataloader'"):
        run('train', config)


def test_names_of_stock_configs_are_accepted() -> None:
    names = set()
    for toolbox in ('mmdet', 'mmaction', 'mmdet3d'):
        package = Path(importlib.util.find_spec(toolbox).submodule_search_locations[0])
        for file in (package / '.mim' / 'configs').rglob('*.py'):
            names.update(re.findall(r'^(\w+) *=', file.read_text(), re.MULTILINE))
    assert len(names) > 300
    # the one mistake in the stock configs: mmdet3d's PV-RCNN sets eval_dataloader, which nothing reads
    names.remove('eval_dataloader')
    cli.check_top_level_keys(sorted(names), 'stock')


def test_train_options_reach_the_runner(config: Path, run: Callable) -> None:
    cfg = run(
        'train', config, '--amp', '--cfg-options', 'optim_wrapper.optimizer.lr=0.5', 'optim_wrapper.loss_scale=8.0'
    )
    assert cfg.work_dir == 'work_dirs/toy' and cfg.launcher == 'none'
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale=8.0, optimizer=dict(type='SGD', lr=0.5))
    cfg = run('train', config, '--work-dir', 'w', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr.base_batch_size=4')
    assert cfg.work_dir == 'w' and cfg.auto_scale_lr == dict(base_batch_size=4, enable=True)


def test_resume_finds_last_checkpoint(config: Path, run: Callable, tmp_path: Path) -> None:
    start = tmp_path / 'pretrained.pth'
    start.touch()
    options = ['--work-dir', 'w', '--cfg-options', f'load_from={start}']
    cfg = run('train', config, '--resume', *options)
    assert cfg.load_from == str(start) and not cfg.get('resume'), 'a first start keeps load_from'

    work_dir = tmp_path / 'w'
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text('/moved/away/from/iter_8.pth')
    (work_dir / 'iter_4.pth').touch()
    with pytest.raises(SystemExit, match=r"last_checkpoint names .*/iter_8.pth'.* --resume PATH .*w/iter_4\.pth"):
        run('train', config, '--resume', *options)
    (work_dir / 'iter_8.pth').touch()
    cfg = run('train', config, '--resume', *options)
    assert cfg.load_from == 'w/iter_8.pth' and cfg.resume
    cfg = run('train', config, '--resume', work_dir / 'iter_4.pth', *options)
    assert cfg.load_from == str(work_dir / 'iter_4.pth') and cfg.resume


def test_single_kept_checkpoint_is_warned_of(config: Path, run: Callable, capsys: pytest.CaptureFixture) -> None:
    run('train', config)
    assert 'max_keep_ckpts' not in capsys.readouterr().err
    run('train', config, '--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1')
    assert 'max_keep_ckpts=1 removes the checkpoint that last_checkpoint names' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('scope', 'hook', 'dump', 'pictures'),
    [
        ('mmdet', dict(draw=True, test_out_dir='d'), 'mmdet.DumpDetResults', Path('work', 'time', 'd')),
        ('mmdet3d', dict(draw=True, test_out_dir='d'), 'DumpResults', Path('work', 'time', 'd')),
        ('mmaction', dict(enable=True, out_dir='d'), 'DumpResults', 'd'),
    ],
)
def test_test_options_reach_the_runner(
    scope: str,
    hook: dict,
    dump: str,
    pictures: Path | str,
    config: Path,
    run: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    options = ['--out', 'p.pkl', '--show-dir', 'd', '--cfg-options', f'default_scope={scope}']
    cfg = run('test', config, config, *options)
    assert cfg.load_from == str(config)
    assert cfg.test_evaluator == [dict(type='Metric'), dict(type=dump, out_file_path='p.pkl')]
    assert cfg.default_hooks.visualization == dict(type='A', show=False, wait_time=2, **hook)
    assert caplog.messages[-1] == f'Pictures are in {pictures}'


@pytest.mark.parametrize(
    ('option', 'kind', 'message'),
    [
        (
            'model.non_blockin=1',
            TypeError,
            r"unexpected keyword argument 'non_blockin'\. In .*toy\.py.*: model\.non_blockin",
        ),
        ('model.type=Absent', KeyError, r'Absent is not in the .*toy\.py.*: model\.type'),
    ],
)
def test_refused_argument_is_located(
    option: str, kind: type, message: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shared in (DefaultScope, MMLogger, MessageHub, Visualizer):
        monkeypatch.setattr(shared, '_instance_dict', OrderedDict())
    options = [option, 'optim_wrapper=None', 'test_evaluator=None']
    monkeypatch.setattr('sys.argv', ['train.py', str(config), '--cfg-options', *options])
    with pytest.raises(kind, match=message):
        load_tool('train').main()


@pytest.fixture
def launch(tmp_path: Path) -> Callable:
    """Runs a launch script with stand-ins for python and srun, which print their arguments and some variables."""
    stub = tmp_path / 'bin'
    stub.mkdir()
    for name in ('python', 'srun'):
        (stub / name).write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
        (stub / name).chmod(0o755)

    def launch(script: str, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
        env = {'PATH': f'{stub}:{os.environ["PATH"]}', **variables}
        done = subprocess.run(['bash', TOOLS / script, *arguments], env=env, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return launch


def test_dist_train_script(launch: Callable) -> None:
    nodes = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
    status, words, _ = launch('dist_train.sh', 'a b.py', '4', '--work-dir', 'c d', **nodes)
    assert status == 0 and words[:2] == ['-m', 'torch.distributed.run']
    assert words[-6:] == [str(TOOLS / 'train.py'), 'a b.py', '--launcher', 'pytorch', '--work-dir', 'c d']
    expected = ('--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=1234', '--nproc_per_node=4')
    assert set(expected) < set(words) and '--max_restarts=0' in words and '--resume' not in words

    _, words, _ = launch('dist_train.sh', 'a.py', '2', '--amp', MAX_RESTARTS='3')
    assert '--max_restarts=3' in words and words[-2:] == ['--amp', '--resume']


def test_launch_scripts_refuse_bad_arguments(launch: Callable) -> None:
    for script, arguments in [
        ('dist_train.sh', ['a.py']),
        ('dist_train.sh', ['a.py', '--amp']),
        ('dist_test.sh', ['a.py', 'b.pth']),
        ('slurm_train.sh', ['partition', 'job', 'a.py']),
        ('slurm_test.sh', ['partition', 'job', 'a.py']),
    ]:
        status, words, message = launch(script, *arguments)
        assert (status, words) == (2, []) and 'usage:' in message, script
    status, words, message = launch('dist_train.sh', 'a.py', '2', '--resume', 'b.pth', MAX_RESTARTS='1')
    assert (status, words) == (2, []) and 'give --resume no checkpoint' in message


def test_dist_test_and_slurm_scripts(launch: Callable) -> None:
    _, words, _ = launch('dist_test.sh', 'a b.py', 'c d.pth', '2', '--out', 'e f.pkl')
    assert words[-7:] == [str(TOOLS / 'test.py'), 'a b.py', 'c d.pth', '--launcher', 'pytorch', '--out', 'e f.pkl']

    variables = dict(GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='2', SRUN_ARGS='--qos=high --exclusive')
    _, words, _ = launch('slurm_train.sh', 'part', 'job', 'a b.py', 'w d', '--amp', **variables)
    assert words == [
        *('--partition=part', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4'),
        *('--cpus-per-task=2', '--kill-on-bad-exit=1', '--qos=high', '--exclusive'),
        *('python', '-u', str(TOOLS / 'train.py'), 'a b.py', '--work-dir=w d', '--launcher=slurm', '--amp'),
    ]
    _, words, _ = launch('slurm_test.sh', 'part', 'job', 'a b.py', 'c d.pth')
    assert words[-6:] == ['python', '-u', str(TOOLS / 'test.py'), 'a b.py', 'c d.pth', '--launcher=slurm']
    assert '--ntasks=8' in words

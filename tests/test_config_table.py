"""docs/configs.md and the summary in README.md say what the metafiles say, and the metafiles what the configs are."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location('make_config_table', ROOT / 'docs' / 'make_config_table.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, table: ModuleType) -> Path:
    """Metafiles, configs, README.md and docs/configs.md, as they are."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path / 'docs').mkdir()
    for name in ('model-index.yml', table.README, table.PAGE):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_tables_say_what_the_metafiles_say(table, capsys):
    assert table.main(['--check']) == 0, capsys.readouterr().err


def test_drift_is_told_and_mended(table, checkout, capsys):
    """A changed number, as somebody would forget to carry it over."""
    change(checkout / 'configs/deqdet/metafile.yml', 'box AP: 54.0', 'box AP: 54.7')
    assert table.main(['--check'], checkout) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [str(checkout / 'docs/configs.md'), str(checkout / 'README.md')]
    assert all('python docs/make_config_table.py' in line for line in lines)
    assert 'box AP 54.7' not in (checkout / 'docs/configs.md').read_text(), '--check must write nothing'

    assert table.main([], checkout) == 0
    assert all('box AP 54.7' in (checkout / name).read_text() for name in ('docs/configs.md', 'README.md'))
    assert table.main(['--check'], checkout) == 0
    assert (checkout / 'README.md').read_text().replace('54.7', '54.0') == (ROOT / 'README.md').read_text()


COSTS = {
    'FLOPs': 69500000000,
    'FLOPs Input': '800x1333',
    'inference time (ms/im)': [dict(value=12.5, hardware='some GPU')],
}


def columns(page: str) -> list[str]:
    return next(line for line in page.splitlines() if line.startswith('| config'))[2:-2].split(' | ')


def test_columns_without_a_value_are_left_out(table, checkout):
    for path in checkout.glob('configs/*/metafile.yml'):
        content = yaml.safe_load(path.read_text())
        for model in content['Models']:
            model['Metadata'] = {key: value for key, value in model['Metadata'].items() if key not in COSTS}
        path.write_text(yaml.safe_dump(content))
    assert columns(table.make_page(checkout))[4:] == ['parameters', 'official checkpoint', 'conversion']
    content['Models'][0]['Metadata'].update(COSTS)
    path.write_text(yaml.safe_dump(content))
    page = table.make_page(checkout)
    assert columns(page)[4:] == ['parameters', 'FLOPs', 'latency', 'official checkpoint', 'conversion']
    assert page.count('| 69.5 G<br>800x1333 | 12.5 ms (some GPU) |') == 1


def test_costs_are_told(table):
    assert {'FLOPs', 'latency', 'conversion'} <= {*columns(table.make_page(ROOT))}


def test_every_config_is_on_the_page_once(table):
    rows = [line for line in table.make_page(ROOT).splitlines() if line.startswith('| [')]
    for path in ROOT.glob('configs/*/*.py'):
        assert sum(row.startswith(f'| [{path.stem}](../{path.relative_to(ROOT)})') for row in rows) == 1, path
    assert len(rows) == len(list(ROOT.glob('configs/*/*.py')))


def test_commands_are_those_of_official_files(table):
    """A published file by its name, other configs' files not at all."""
    commands = re.findall(r'`(python tools/convert_checkpoint\.py .*?)`', table.make_page(ROOT))
    by_config = {command.split('--config ')[1]: command.split()[2:4] for command in commands}
    assert by_config['configs/deqdet/deqdet_r50_8xb2-1x_coco.py'] == ['deqdet', 'deqdet_r50_1x_epoch_12.pth']
    assert by_config['configs/evad/evad_vit-b-ktp-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py'] == ['evad', 'OFFICIAL_FILE']
    assert not [name for name in by_config if 'swin-l' in name or 'tta' in name or 'no-gt-sampling' in name]


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'message'),
    [
        ('model-index.yml', '  - configs/evad/metafile.yml\n', '', r"differs from the metafiles.*evad/metafile\.yml"),
        ('configs/evad/metafile.yml', 'Models:', 'Models: [', r'evad/metafile\.yml cannot be read: .*line \d+'),
        ('configs/evad/metafile.yml', '    Weights:', '    Weight:', r'model 1 \(evad_vit-b-k400.*\) lacks Weights'),
        ('configs/evad/metafile.yml', 'In Collection: EVAD', 'In Collection: EVA', r"'EVA', expected one of \['EVAD"),
        ('configs/evad/metafile.yml', 'Config: configs/evad/', 'Config: ', r'expected the file configs/evad/evad_vit'),
        ('configs/evad/metafile.yml', 'FLOPs Input', 'Input', r'vit-b-k400.*: expected FLOPs with FLOPs Input'),
        ('configs/evad/metafile.yml', 'mAP@0.5: 32.1', 'mAP@0.5: high', r"expected Results with .*found.*'high'"),
        ('configs/stmixer/metafile.yml', '      Task: Spatio', '      Job: Spatio', r'slowonly.* names no task'),
        ('configs/evad/metafile.yml', 'Training Data: AVA', 'Data: AVA', r'ava21-rgb\) names no data set'),
        ('configs/evad/evad_vit-toy.py', '# Trains', '_base_ = []  # ', r"evad_vit-toy\.py: no entry.*'_base_ = \[\]"),
        ('README.md', '<!-- end: written', '<!-- over: written', r'README\.md: expected the lines'),
    ],
)  # fmt: skip
def test_mistakes_are_named(file, old, new, message, table, checkout, capsys):
    text = (checkout / file).read_text()
    assert old in text
    (checkout / file).write_text(text.replace(old, new))
    assert table.main([], checkout) == 1
    found = capsys.readouterr().err
    assert found.startswith('error: ') and re.search(message, found.replace('\n', ' ')), found


@pytest.mark.parametrize('metafile', sorted(ROOT.glob('configs/*/metafile.yml')), ids=lambda path: path.parent.name)
def test_parameters_are_counted_from_the_models(metafile, monkeypatch):
    """All of them, or those that are trained: batch norms that are frozen for good count as constants."""
    for name in [name for name in vars(torch.nn.init) if name.endswith('_') and not name.startswith('_')]:
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)  # values do not matter here
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    counted: dict[str, set[int]] = {}  # many configs of a plugin share their model
    for entry in yaml.safe_load(metafile.read_text())['Models']:
        cfg = Config.fromfile(ROOT / entry['Config'])
        if str(cfg.model) not in counted:
            init_default_scope(cfg.default_scope)
            sizes = [(p.numel(), p.requires_grad) for p in MODELS.build(cfg.model).parameters()]
            counted[str(cfg.model)] = {sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)}
        assert entry['Metadata'].get('Parameters') in counted[str(cfg.model)], (entry['Name'], counted[str(cfg.model)])
    assert counted

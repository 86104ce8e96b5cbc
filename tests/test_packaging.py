"""What pip and mim find in a built package, and what a user with other versions of the mm packages is told."""

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import mmcv
import pytest
from plugin_sources import PLUGINS, TOOLBOXES, checked_toolboxes

from mvbench_plugins import compat, version_check

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mvbench_plugins'
#: Of the plugins whose inferencer is not the toolbox's own.
INFERENCERS = dict(
    cycleacr='ActionDetInferencer',
    evad='ActionDetInferencer',
    jointformer='VOSInferencer',
    sparsebev='MultiViewDet3DInferencer',
    stmixer='ActionDetInferencer',
)


def run_python(code: str, *arguments: object, cwd: Path, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'PIP_NO_INDEX': '1', **environment},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Calls the build backend (``sdist``, ``wheel`` or ``editable``) as pip does; returns the file it made."""
    code = f'import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))'
    return out / run_python(code, out, cwd=source).splitlines()[-1]


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts and '.mim' not in path.relative_to(folder).parts
    }


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with what daily use leaves behind: links of an editable install and an old build."""
    root = tmp_path_factory.mktemp('checkout')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for folder in (PACKAGE, 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, root)
    old_build = root / 'build' / 'lib' / PACKAGE
    (old_build / '.mim' / 'configs').mkdir(parents=True)
    (old_build / 'deleted_module.py').touch()
    (old_build / '.mim' / 'configs' / 'deleted_config.py').touch()
    return root


@pytest.fixture(scope='module')
def wheels(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheels built from an unpacked sdist and, after an editable install, from the checkout itself."""
    out = tmp_path_factory.mktemp('dist')
    sdist = build('sdist', checkout, out)
    with tarfile.open(sdist) as archive:
        archive.extractall(out / 'unpacked', filter='data')
    (source,) = (out / 'unpacked').iterdir()
    (out / 'from_sdist').mkdir()
    (out / 'from_checkout').mkdir()
    build('editable', checkout, out)
    return {
        'sdist': build('wheel', source, out / 'from_sdist'),
        'checkout': build('wheel', checkout, out / 'from_checkout'),
    }


@pytest.fixture(scope='module')
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel from the sdist, installed into a folder of its own."""
    target = tmp_path_factory.mktemp('site')
    code = 'import sys; from pip._internal.cli.main import main; sys.exit(main(sys.argv[1:]))'
    run_python(code, 'install', '-q', '--no-deps', '--target', target, wheels['sdist'], cwd=target)
    return target


@pytest.mark.parametrize('origin', ['sdist', 'checkout'])
def test_wheel_holds_modules_configs_and_tools(wheels: dict[str, Path], checkout: Path, origin: str) -> None:
    found = {name for name in zipfile.ZipFile(wheels[origin]).namelist() if '.dist-info/' not in name}
    expected = {f'{PACKAGE}/{name}' for name in files_below(checkout / PACKAGE)}
    for folder in ('configs', 'tools'):
        expected |= {f'{PACKAGE}/.mim/{folder}/{name}' for name in files_below(checkout / folder)}
    assert found == expected | {f'{PACKAGE}/.mim/model-index.yml'}


def release(checkout: Path, folder: Path, umask: int) -> dict[str, str]:
    """Commits a copy of the checkout and builds its release as a user with this umask; returns {file: SHA-256}."""

    def run(*command: object) -> str:
        at = '2026-01-02T03:04:05Z'
        who = {f'GIT_{role}_{key}': value for role in ('AUTHOR', 'COMMITTER') for key, value in
               (('NAME', 'somebody'), ('EMAIL', 'somebody@example.com'), ('DATE', at))}  # fmt: skip
        process = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env={**os.environ, **who, 'PYTHON': sys.executable},
            umask=umask,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns('.mim', 'build'), copy_function=shutil.copyfile)
    for path in folder.rglob('*'):
        path.chmod(0o777 & ~umask if path.is_dir() or path.suffix == '.sh' else 0o666 & ~umask)
    run('git', 'init', '-q')
    run('git', 'add', '-A')
    run('git', 'commit', '-q', '-m', 'all')
    (folder / 'configs' / 'note_to_self.py').write_text('')
    lines = run('bash', 'tools/build_release.sh', folder / 'dist').splitlines()
    assert 'uncommitted changes' in lines[0]
    return {line.split()[1]: line.split()[0] for line in lines[-2:]}


def test_release_is_reproducible(checkout: Path, tmp_path: Path) -> None:
    """Another user, folder, time and umask: the same bytes."""
    first = release(checkout, tmp_path / 'first', 0o022)
    second = release(checkout, tmp_path / 'an other folder', 0o077)
    assert first == second and [Path(name).suffix for name in first] == ['.gz', '.whl']
    with tarfile.open(tmp_path / 'first' / 'dist' / next(iter(first))) as archive:
        members = archive.getmembers()
    assert {member.mode for member in members} == {0o644, 0o755} and {member.mtime for member in members} == {
        1767323045
    }
    names = {member.name.partition('/')[2] for member in members}
    assert {'setup.py', 'tools/train.py', 'configs/deqdet/metafile.yml'} <= names
    assert 'configs/note_to_self.py' not in names


def test_metadata_names_the_module_and_leaves_torch_to_the_user(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels['sdist']) as wheel:
        folder = next(name.split('/')[0] for name in wheel.namelist() if '.dist-info/' in name)
        lines = wheel.read(f'{folder}/METADATA').decode().splitlines()
        assert wheel.read(f'{folder}/top_level.txt').decode().split() == [PACKAGE]
    assert f'Name: {PACKAGE}' in lines and 'Requires-Python: >=3.11' in lines
    required = [line.removeprefix('Requires-Dist: ') for line in lines if line.startswith('Requires-Dist: ')]
    always = {name.split('=')[0].split('<')[0] for name in required if 'extra ==' not in name}
    assert 'numpy' in always
    assert not always & {'torch', 'mmengine', 'mmcv', 'mmdet', 'mmdet3d', 'mmaction2'}
    assert {'optional', 'tests', 'demo', 'all'} == {
        line.split()[1] for line in lines if line.startswith('Provides-Extra:')
    }


def test_editable_install_links_to_the_checkout(wheels: dict[str, Path], checkout: Path) -> None:
    mim = checkout / PACKAGE / '.mim'
    for item in ('configs', 'tools', 'model-index.yml'):
        assert (mim / item).is_symlink() and (mim / item).resolve() == checkout / item


def test_mim_finds_every_config_by_its_bare_name(installed: Path, checkout: Path) -> None:
    names = sorted(path.name for path in (checkout / 'configs').rglob('*.py') if '_base_' not in path.parts)
    assert names
    code = """
import sys
from mim.utils import get_installed_path, recursively_find
for name in sys.argv[1:]:
    print(*recursively_find(get_installed_path('mvbench_plugins'), name, followlinks=True))
"""
    found = run_python(code, *names, cwd=installed.parent, PYTHONPATH=str(installed)).splitlines()
    for name, line in zip(names, found, strict=True):
        (path,) = line.split()
        assert path.startswith(str(installed / PACKAGE / '.mim' / 'configs')) and path.endswith(f'/{name}')


@pytest.mark.parametrize('plugin', PLUGINS)
def test_an_installed_plugin_needs_no_other_toolbox(installed: Path, plugin: str) -> None:
    """Imported with its inferencer, and its toy models built, where other plugins' toolboxes cannot be imported."""
    configs = sorted(Path(installed, PACKAGE, '.mim', 'configs', plugin).glob('*toy.py'))
    assert configs
    code = """
import importlib, sys
plugin, inferencer, blocked, *configs = sys.argv[1:]
for name in blocked.split():
    sys.modules[name] = None  # what Python's own import takes as: there is no such module
importlib.import_module(f'mvbench_plugins.{plugin}')
if inferencer:
    getattr(importlib.import_module('mvbench_plugins.apis'), inferencer)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
for path in configs:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    print(MODELS.build(cfg.model).__module__)
print(sys.modules['mvbench_plugins'].__file__)
print(*sorted(name for name in sys.modules if name.startswith('mvbench_plugins.') and name.count('.') == 1))
"""
    blocked = sorted(set(TOOLBOXES) - checked_toolboxes(plugin))
    assert blocked
    lines = run_python(
        code,
        plugin,
        INFERENCERS.get(plugin, ''),
        ' '.join(blocked),
        *configs,
        cwd=installed.parent,
        PYTHONPATH=str(installed),
    ).splitlines()
    *models, origin, loaded = lines[-len(configs) - 2 :]
    assert all(module.startswith((f'{PACKAGE}.{plugin}.', 'mm')) for module in models)
    assert Path(origin) == installed / PACKAGE / '__init__.py'
    assert {name.removeprefix(f'{PACKAGE}.') for name in loaded.split()} & set(PLUGINS) == {plugin}


def pretend_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Has importlib.metadata report these versions; None stands for a package that is not installed."""
    good = dict(
        torch='2.13.0+cpu',
        mmengine='0.10.7',
        mmcv='2.1.0',
        mmdet='3.3.0',
        mmaction2='1.2.0',
        mmdet3d='1.4.0',
        setuptools='80.0',
    )

    def version(name: str) -> str:
        found = {**good, **versions}.get(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, 'version', version)


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmaction', 'mmdet3d'])
def test_supported_versions_pass(monkeypatch: pytest.MonkeyPatch, toolbox: str) -> None:
    pretend_versions(monkeypatch)
    version_check.check_toolbox(toolbox)


@pytest.mark.parametrize(
    ('toolbox', 'versions', 'message'),
    [
        ('mmdet', {'mmdet': None}, r"mmdet is not installed.*--no-deps 'mmdet>=3\.2\.0,<3\.4\.0'"),
        ('mmaction', {'mmaction2': '0.24.1'}, r'mmaction2 0\.24\.1 is installed, expected mmaction2>=1\.2\.0,<1\.3\.0'),
        ('mmdet3d', {'mmdet': '2.28.0'}, r'mmdet 2\.28\.0 is installed'),
        (
            'mmdet',
            {'mmcv': '2.2.0'},
            r'mmcv 2\.2\.0 is installed, expected mmcv>=2\.1\.0,<2\.2\.0.*tools/setup_env\.sh',
        ),
        ('mmdet', {'mmcv': None, 'mmcv-lite': '2.1.0'}, r'mmcv is not installed.*mmcv-lite .* no compiled operators'),
        ('mmdet', {'mmengine': '1.0.0rc1'}, r'mmengine 1\.0\.0rc1 is installed'),
        (
            'mmaction',
            {'torch': '2.5.1+cu124'},
            r"torch 2\.5\.1\+cu124 is .*pip install 'torch>=2\.6\.0,<3\.0\.0'.*mmcv",
        ),
        ('mmdet3d', {'torch': '3.0.0a0+git1f2e'}, r'torch 3\.0\.0a0\+git1f2e is installed, expected torch>=2\.6\.0'),
        ('mmdet', {'mmcv': '2.2'}, r'mmcv 2\.2 is installed'),
        ('mmdet', {'torch': None}, r'torch is not installed, expected torch>=2\.6\.0,<3\.0\.0.*setup_env\.sh'),
    ],
)
def test_other_versions_are_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, toolbox: str, versions: dict[str, str | None], message: str
) -> None:
    pretend_versions(monkeypatch, **versions)
    with pytest.raises(ImportError, match=message):
        version_check.check_toolbox(toolbox)


def test_tools_refuse_another_torch_before_they_read_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, torch='2.3.1')
    with pytest.raises(ImportError, match=r'torch 2\.3\.1 is installed'):
        compat.apply()


def test_operators_compiled_for_another_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A library that the loader refuses, as after an update of torch; and one that is not there at all."""
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    version_check.check_operators()
    (tmp_path / '_ext.so').write_text('no library')
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=r'mmcv 2\.1\.0 do not load with torch .*tools/setup_env\.sh.*_ext\.so'):
        compat.apply()


def test_setuptools_without_pkg_resources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, setuptools='82.0.1')
    monkeypatch.setattr(version_check.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"setuptools 82\.0\.1 installed.*pip install 'setuptools<82'"):
        version_check.check_toolbox('mmdet')


def test_unknown_toolbox_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"'mmseg'.*mmdet, mmaction, mmdet3d"):
        version_check.check_toolbox('mmseg')


def test_importing_the_suite_loads_nothing_heavy() -> None:
    code = 'import sys, mvbench_plugins; print(*{"torch", "numpy", "mmengine"} & set(sys.modules))'
    assert run_python(code, cwd=ROOT).split() == []

"""A plugin needs its own toolboxes and what plugins share, never another plugin: read from the sources.

tests/test_packaging.py also imports each plugin where the other toolboxes cannot be imported.
"""

from __future__ import annotations

import ast
import re

import pytest
from plugin_sources import PACKAGE, PLUGINS, ROOT, TOOLBOXES, checked_toolboxes, imported

SHARED = ('common', 'datasets', 'evaluation', 'ops')


def offences(folder: str, forbidden: str) -> list[str]:
    """Imports below a folder of the package whose dotted name matches."""
    paths = sorted((ROOT / PACKAGE / folder).rglob('*.py'))
    assert paths
    return [
        f'{path.relative_to(ROOT)}:{line} imports {name}'
        for path in paths
        for line, name in imported(path)
        if re.match(forbidden, name)
    ]


def test_every_plugin_is_looked_at():
    """A plugin is what has a folder of configs."""
    assert {path.parent.name for path in ROOT.glob('configs/*/metafile.yml')} == set(PLUGINS)
    for plugin in PLUGINS:
        found = [name for path in (ROOT / PACKAGE / plugin).glob('*.py') for _, name in imported(path)]
        assert any(name.startswith('torch') for name in found) and f'{PACKAGE}.compat' in found, plugin


@pytest.mark.parametrize('folder', [*PLUGINS, *SHARED])
def test_no_plugin_is_imported_by_another_or_by_what_they_share(folder):
    others = '|'.join(plugin for plugin in PLUGINS if plugin != folder)
    assert offences(folder, rf'{PACKAGE}\.({others})\b') == []


def test_operators_need_no_toolbox():
    assert offences('ops', '|'.join(TOOLBOXES)) == []


@pytest.mark.parametrize('plugin', PLUGINS)
def test_a_plugin_uses_only_the_toolboxes_that_it_checks(plugin):
    """In its modules, and by the name of a scope in its configs."""
    own = checked_toolboxes(plugin)
    assert own and own <= set(TOOLBOXES)
    foreign = '|'.join(sorted(set(TOOLBOXES) - own))
    assert offences(plugin, rf'({foreign})\b') == []
    named = [
        f'{path.relative_to(ROOT)}:{node.lineno} names {node.value}'
        for path in sorted((ROOT / 'configs' / plugin).rglob('*.py'))
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Constant) and re.match(rf'({foreign})(\.|::|$)', str(node.value))
    ]
    assert named == []


def test_imports_are_found_wherever_they_stand(tmp_path, monkeypatch):
    """The reader itself, on every form that an import can take."""
    monkeypatch.setattr('plugin_sources.ROOT', tmp_path)
    path = tmp_path / PACKAGE / 'evad' / 'head.py'
    path.parent.mkdir(parents=True)
    path.write_text(
        'import mmdet.models as models, cv2\nfrom .. import stmixer\nfrom ..link.hooks import Hook\n'
        'def late():\n    from . import neck\n    from mvbench_plugins.deqdet import DEQDet\n'
    )
    assert [name for _, name in imported(path)] == [
        'mmdet.models',
        'cv2',
        'mvbench_plugins.stmixer',
        'mvbench_plugins.link.hooks.Hook',
        'mvbench_plugins.evad.neck',
        'mvbench_plugins.deqdet.DEQDet',
    ]
    assert [line for line, _ in imported(path)] == [1, 1, 2, 3, 5, 6]

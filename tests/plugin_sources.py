"""What the sources of the plugins import, read without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mvbench_plugins'
PLUGINS = ('cycleacr', 'deqdet', 'evad', 'jointformer', 'link', 'sparsebev', 'stmixer')
TOOLBOXES = ('mmaction', 'mmdet', 'mmdet3d')


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, absolute dotted name) of every import of a module of the package, within functions too.

    ``from a import b`` counts as ``a.b``: b may be a module.
    """
    parents = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            module = '.'.join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{module}.{alias.name}') for alias in node.names)


def checked_toolboxes(plugin: str) -> set[str]:
    """The toolboxes that a plugin verifies with ``check_toolbox`` when it is imported: all that it may use."""
    tree = ast.parse((ROOT / PACKAGE / plugin / '__init__.py').read_text(encoding='utf-8'))
    calls = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    return {
        call.value.args[0].value
        for call in calls
        if isinstance(call.value.func, ast.Name) and call.value.func.id == 'check_toolbox'
    }

"""docs/new_plugin.md: the files of the page, put where they belong, pass the test of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'new_plugin.md'


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """The repository, by links, with the plugin of the page."""
    root = tmp_path_factory.mktemp('checkout')
    for folder in ('mvbench_plugins', 'configs'):
        (root / folder).mkdir()
        for item in (ROOT / folder).iterdir():
            if item.name not in ('.mim', '__pycache__'):
                (root / folder / item.name).symlink_to(item)
    for name, text in files_of_the_page().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def files_of_the_page() -> dict[str, str]:
    """Name to text of each block that begins with its name; the line of the name is none of the file."""
    blocks = re.findall(r'^```python\n# (\S+\.py)\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    return dict(blocks)


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'PYTHONPATH': str(cwd)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_plugin_of_the_page_passes_the_test_of_the_page(checkout: Path) -> None:
    done = run_python('-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/context_gate', cwd=checkout)
    assert done.returncode == 0 and '3 passed' in done.stdout, done.stdout + done.stderr


def test_files_of_the_page_keep_the_style_of_the_repository(checkout: Path) -> None:
    names = [str(checkout / name) for name in files_of_the_page()]
    for command in (['check'], ['format', '--check']):
        done = run_python('-m', 'ruff', *command, '--config', str(ROOT / 'pyproject.toml'), *names, cwd=checkout)
        assert done.returncode == 0, done.stdout + done.stderr

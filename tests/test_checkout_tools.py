"""The tools of a checkout run the checkout's own package, where another copy is installed too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[1] / 'tools').glob('*.py'))


@pytest.mark.parametrize('tool', TOOLS, ids=lambda path: path.stem)
def test_tools_run_the_package_beside_them(tool, tmp_path):
    """Of both copies only the first import is needed, which says where it came from and ends the tool."""
    for copy in ('checkout', 'installed'):
        package = tmp_path / copy / 'mvbench_plugins'
        package.mkdir(parents=True)
        (package / '__init__.py').write_text(f'raise SystemExit("found: {copy}")')
    (tmp_path / 'checkout' / 'tools').mkdir()
    copied = shutil.copy(tool, tmp_path / 'checkout' / 'tools')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')}
    done = subprocess.run(
        [sys.executable, copied, '--help'], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.strip().endswith('found: checkout'), done.stderr

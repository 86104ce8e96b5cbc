from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'make_toy_data.py'


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs ``tools/make_toy_data.py`` with these arguments."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run

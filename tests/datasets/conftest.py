from __future__ import annotations

import logging
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_data.py'


@pytest.fixture
def log():
    """Lines that the data set logged."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, handler = MMLogger.get_current_instance(), Keep(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def run(monkeypatch, capsys):
    """``run(argument, ...)`` runs tools/prepare_data.py; returns its exit status or message, and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name='__main__')
        return ended.value.code, capsys.readouterr().out

    return call

"""The command, before the page is there."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'demo_app.py'


def start(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_without_gradio_it_says_what_to_install(monkeypatch, tmp_path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'gradio' else find_spec(name))
    with pytest.raises(
        SystemExit, match=r'needs Gradio, which is not installed\. Run: pip install -r requirements/demo\.txt'
    ):
        start(monkeypatch, '--work-dirs', str(tmp_path))


def test_wrong_limits_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        start(monkeypatch, '--max-upload-mb', '0')
    assert '--max-upload-mb: found 0, expected 1 or more' in capsys.readouterr().err

"""The page's own test needs the extra ``demo``, Playwright and a Chromium: without them it is not collected."""

from __future__ import annotations

from importlib.util import find_spec

from demo_browser import find_chromium

if not (find_spec('gradio') and find_spec('playwright') and find_chromium()):
    collect_ignore = ['test_demo_page.py']

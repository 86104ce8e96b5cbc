"""The metric is built in mmdet's scope, whichever scope tests before left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(scope='module', autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield

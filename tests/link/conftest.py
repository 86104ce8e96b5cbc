"""Threads of LinK's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import mvbench_plugins.link  # noqa: F401  registers


@pytest.fixture(scope='package', autouse=True)
def one_thread() -> Iterator[None]:
    """Voxel sets as small as these gain nothing from a second thread, and wait for it where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""Fixtures of all tests of necks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with thousands of tiny convolutions a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if os.environ.get("OMP_NUM_THREADS") == "2" else 1)
    yield
    torch.set_num_threads(threads)

"""Commands run in the process of the tests: what they change in it is undone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Remove the handlers that Detectron2's setup adds, which write to the captured output of one test."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    before = [list(logger.handlers) for logger in loggers]
    yield
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers

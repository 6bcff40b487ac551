"""What all tests share: a fixed seed, few threads, and which optional hosts have to be there.

``FPN_PLUGINS_TEST_HOSTS`` declares the hosts that are installed (default: all). A declared host that does not import
fails in ``test_hosts.py``; the tests of an undeclared one are skipped, with the reason shown by ``pytest -rs``.

Tests of parity with mmcv's compiled operators run where there are any, and always with ``MMCV=compiled``.

``FPN_PLUGINS_TEST_SEED`` (default 0) moves every random number, see ``helpers/seeds.py``, and
``FPN_PLUGINS_TEST_MARGINS`` names a file for the margins of numeric comparisons, see ``helpers/margins.py``.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import margins
import pytest
import quick_mmengine
import seeds
import torch
from hypothesis import settings
from torch import Tensor

from fpn_plugins.compat import without_leftover_hooks

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))  # the synthetic data set

HOSTS = ("mmdet", "detectron2", "timm", "torchvision", "effdet", "peft")
VARIABLE = "FPN_PLUGINS_TEST_HOSTS"
COMPILED = "compiled_mmcv"


def declared_hosts() -> tuple[str, ...]:
    """The hosts that this run has to find."""
    names = [name.strip() for name in os.environ.get(VARIABLE, ",".join(HOSTS)).split(",")]
    unknown = [name for name in names if name and name not in HOSTS]
    if unknown:
        raise pytest.UsageError(f"{VARIABLE} names unknown hosts {unknown}; known are {list(HOSTS)}")
    return tuple(name for name in names if name)


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its options
def pytest_configure(config: pytest.Config) -> None:
    """Register one marker per host, seed hypothesis, and record margins if asked to."""
    try:
        seed = seeds.base_seed()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    # the same examples on every machine and in every run of a seed; importing a host inside the first one takes seconds
    settings.register_profile("fpn_plugins", max_examples=15, deadline=None, derandomize=seed == 0, database=None)
    settings.load_profile("fpn_plugins")
    if seed and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(seed)
    if os.environ.get(margins.VARIABLE):
        margins.install()
    for host in HOSTS:
        config.addinivalue_line("markers", f"{host}: needs {host}; skipped where {VARIABLE} does not declare it")
    config.addinivalue_line("markers", f"{COMPILED}: needs mmcv's compiled operators")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of hosts that are not declared."""
    declared = declared_hosts()
    for item in items:
        for host in HOSTS:
            if item.get_closest_marker(host) and host not in declared:
                item.add_marker(pytest.mark.skip(reason=f"{host} is not declared in {VARIABLE}"))
    marked = [item for item in items if item.get_closest_marker(COMPILED)]
    if marked and os.environ.get("MMCV") != "compiled" and not has_compiled_mmcv():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="mmcv has no compiled operators (make install MMCV=compiled)"))


def pytest_collection_finish() -> None:
    """Look for garbage less often: tracing drops millions of small objects, a tenth of its time."""
    gc.set_threshold(50_000, 20, 50)


def has_compiled_mmcv() -> bool:
    """Whether mmcv, which is not imported, has a compiled extension."""
    spec = importlib.util.find_spec("mmcv")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return spec is not None and any((folder / f"_ext{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """Two, which processes of pytest-xdist share, or one if OMP_NUM_THREADS=1: tiny tensors need no more."""
    shared = max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    torch.set_num_threads(1 if os.environ.get("OMP_NUM_THREADS") == "1" else shared)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    seeds.seed(0)


@pytest.fixture(autouse=True)
def quick_configs() -> None:
    """Tests after the first one that uses mmengine do not format configs."""
    quick_mmengine.install()


@pytest.fixture(autouse=True)
def own_hooks() -> Iterator[None]:
    """No test meets the hooks that a failed ``torch.export`` of an earlier one has left."""
    with without_leftover_hooks():
        yield


@pytest.fixture(scope="session")
def make_maps() -> Callable[..., list[Tensor]]:
    """A function that draws a pyramid of maps ``B C H W``."""

    def draw(
        channels: Sequence[int], sizes: Sequence[tuple[int, int]], batch: int = 2, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        return [torch.randn(batch, c, *size, dtype=dtype) for c, size in zip(channels, sizes, strict=True)]

    return draw


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-format folder of a dozen synthetic images, with panoptic annotations."""
    from synthetic.dataset import make_synthetic_coco

    root = tmp_path_factory.mktemp("tiny_coco") / "set"
    make_synthetic_coco(root, num_train=8, num_val=4, progress=False, panoptic=True)
    return root

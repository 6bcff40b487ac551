"""The declared hosts are there, and the declaration works: absent ones fail when declared, are skipped when not."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOSTS = ("mmdet", "detectron2", "timm", "torchvision", "effdet", "peft")


@pytest.mark.parametrize(
    "host",
    [pytest.param(host, marks=getattr(pytest.mark, host)) for host in HOSTS],
)
def test_declared_host_imports(host: str):
    importlib.import_module(host)


def run_this_file(hosts: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the test above alone, in a fresh interpreter that looks for modules in ``path`` first."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "--import-mode=importlib", "-p", "no:cacheprovider"]
        + [__file__, "-k", "test_declared_host_imports"],
        env={**os.environ, "FPN_PLUGINS_TEST_HOSTS": hosts, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )


def test_a_declared_host_that_does_not_import_fails_and_undeclared_ones_are_skipped(tmp_path: Path):
    (tmp_path / "timm.py").write_text("raise ImportError('timm is broken')\n")
    result = run_this_file("timm", tmp_path)
    assert result.returncode == 1, result.stdout
    assert "timm is broken" in result.stdout
    assert "1 failed, 5 skipped" in result.stdout
    assert "mmdet is not declared in FPN_PLUGINS_TEST_HOSTS" in result.stdout


def test_an_unknown_host_is_a_usage_error(tmp_path: Path):
    result = run_this_file("mmdetection", tmp_path)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown hosts ['mmdetection']" in result.stderr

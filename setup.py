"""Copy configs and tools into the package when it is built; metadata is in ``setup.cfg``."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# MIM looks for `mim train fpn_plugins CONFIG` in this folder of the installed package
CARRIED = ("configs", "tools", "model-index.yml")


class BuildWithConfigs(build_py):
    """Build the package with a folder ``.mim``; an editable installation reads the source tree instead."""

    def run(self) -> None:
        """Build, then copy; files that nothing installed needs stay out."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "fpn_plugins" / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        leave = shutil.ignore_patterns("__pycache__", "*.pyc", "benchmarks", "data", "docs", "install")
        for name in CARRIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=leave)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(cmdclass={"build_py": BuildWithConfigs})

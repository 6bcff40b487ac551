"""Find configs and tools of the package, in its source tree or in an installed wheel, and configs of the toolboxes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .checks import near_names

PACKAGE = Path(__file__).resolve().parent
OWN = "fpn_plugins"  # prefixes of names, before ``::``
TOOLBOXES = ("mmdet", "detectron2")
# MIM's folder in an installed package; setup.py fills it
INSTALLED = PACKAGE / ".mim"


def packaged_folder() -> Path:
    """Return the folder that contains ``configs`` and ``tools``: the source tree if there is one."""
    source = PACKAGE.parent
    return source if (source / "configs" / "model_zoo.yml").is_file() else INSTALLED


def config_file(name: str) -> str:
    """Return the path of one of the package's own configs.

    In a config of mmengine, ``_base_ = __import__("fpn_plugins").config_file("mmdet/mask_rcnn_r50_fpn_12e.py")``; in
    Detectron2, ``LazyConfig.load(config_file("detectron2/mask_rcnn_r50_fpn_12e.py"))``. Commands also accept
    ``fpn_plugins::mmdet/mask_rcnn_r50_fpn_12e.py``.

    Args:
        name: path below ``configs/``, such as ``"mmdet/mask_rcnn_r50_fpn_12e.py"``; a missing suffix is added.

    Raises:
        FileNotFoundError: no such config; suggests similar names.
    """
    return _find(packaged_folder() / "configs", name, "fpn_plugins", (".py", ".yaml"))


def toolbox_config(toolbox: str, name: str) -> str:
    """Return the path of a config that comes with a toolbox, which is not imported.

    Args:
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        name: path below the toolbox's folder of configs; a missing suffix is added.

    Raises:
        ImportError: the toolbox is not installed.
        FileNotFoundError: no such config; suggests similar names.
    """
    spec = importlib.util.find_spec(toolbox)
    if spec is None or spec.origin is None:
        raise ImportError(f"config '{toolbox}::{name}' comes with {toolbox}, which is not installed", name=toolbox)
    package = Path(spec.origin).parent
    if toolbox == "detectron2":
        return _find(package / "model_zoo" / "configs", name, toolbox, (".yaml", ".py"))
    installed = package / ".mim" / "configs"
    return _find(installed if installed.is_dir() else package.parent / "configs", name, toolbox, (".py",))


def _find(folder: Path, name: str, owner: str, suffixes: Sequence[str]) -> str:
    parts = Path(name).parts
    if parts and ".." not in parts and not Path(name).is_absolute():
        for suffix in ("", *suffixes):
            if (path := folder / f"{name}{suffix}").is_file():
                return str(path)
    known = [str(path.relative_to(folder)) for path in folder.glob("*/*") if path.suffix in suffixes]
    near = near_names(name, [*known, *(str(Path(each).with_suffix("")) for each in known)])
    raise FileNotFoundError(f"config '{owner}::{name}': {owner} has no config {name!r} in {str(folder)!r}{near}")


def resolve_config(config: str) -> str:
    """Return the path of a config that a prefix names, and any other ``config`` unchanged.

    ``fpn_plugins::HOST/NAME`` is one of this package (`config_file`), ``mmdet::NAME`` and ``detectron2::NAME`` one of
    the toolbox (`toolbox_config`).
    """
    owner, found, name = config.partition("::")
    if not found or owner not in (OWN, *TOOLBOXES):
        return config
    return config_file(name) if owner == OWN else toolbox_config(owner, name)

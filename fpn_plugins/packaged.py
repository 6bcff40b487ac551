"""Find the configs and tools that come with the package: in its source tree, or in ``.mim`` of an installed wheel."""

from __future__ import annotations

from pathlib import Path

from .checks import near_names

PACKAGE = Path(__file__).resolve().parent
PREFIX = "fpn_plugins::"
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
    folder = packaged_folder() / "configs"
    parts = Path(name).parts
    if parts and ".." not in parts and not Path(name).is_absolute():
        for suffix in ("", ".py", ".yaml"):
            if (path := folder / f"{name}{suffix}").is_file():
                return str(path)
    known = [str(path.relative_to(folder)) for path in folder.glob("*/*") if path.suffix in (".py", ".yaml")]
    near = near_names(name, [*known, *(str(Path(each).with_suffix("")) for each in known)])
    raise FileNotFoundError(f"fpn_plugins has no config {name!r} in {str(folder)!r}{near}")


def resolve_config(config: str) -> str:
    """Return `config_file` of a ``fpn_plugins::NAME``, and any other ``config`` unchanged."""
    return config_file(config[len(PREFIX) :]) if config.startswith(PREFIX) else config

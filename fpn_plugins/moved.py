"""Explain imports of moved names and uses of removed configs with errors that name the replacement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

# new dotted name below the package, or place outside the package (text with a slash) -> old dotted names
_OLD_NAMES = {
    "tools/studies/ablations/ of the source tree": ("analysis.study analysis.study_results visualization.studies"),
    "tools/benchmarks/ of the source tree": (
        "analysis.conv_floor analysis.fresh_process_peaks analysis.latency analysis.record_convs analysis.run_convs"
    ),
    "tools/docs/ of the source tree": "analysis.timm_families visualization.topology",
    "necks.NeckCard": "analysis.neck_facts visualization.neck_topologies",
    "ops.scripting": "necks.scripting",
    "analysis.COCO_METRICS": "analysis.METRICS",
    "visualization.plot_level_weights": "data.plot_level_weights",
    "visualization.plot_size_statistics": "data.plot_size_statistics",
    "tools/synthetic/ of the source tree": (
        "data.make_synthetic_coco data.masks data.scene data.shapes data.stuff data.synthetic "
        "weights.pair_by_order weights.pairing backbones.packaged"
    ),
    "training": "losses optim",
    "adapters.detectron2.compatibility": "adapters.detectron2.facts",
    "adapters.mmdet.arguments": "adapters.mmdet.factories",
    "adapters.mmdet.compatibility": "adapters.mmdet.facts",
    "adapters.detectron2.detector.load": "adapters.detectron2.zoo.load_detector",
    "adapters.mmdet.detector.load": "adapters.mmdet.zoo.load_detector",
    "weights.checkpoint.strip_prefix": "weights.checkpoint.under",
    "conversion.convert": "weights.convert",
    "conversion.Conversion": "weights.Conversion",
    "conversion.compatibility": "weights.facts",
    "conversion.heads": "weights.mask_heads weights.maps.heads",
    "conversion.tables": "weights.maps.detectors",
    "weights.recognize": "weights.recognise",
    "weights.layouts": "weights.recognition",
    "weights.strip_prefix": "weights.under",
    "zoo.hub": "weights.hub",
    "zoo.publish": "weights.publish weights.release_files",
    "zoo.index": "weights.zoo",
    "zoo.pages": "weights.zoo_pages",
    "zoo.records": "weights.zoo_records",
    "backbones.vit.attention": "backbones.attention",
    "backbones.mvit.blocks": "backbones.mvit_blocks",
    "backbones.mvit.mvit": "backbones.mvit_plan",
    "backbones.swin.blocks": "backbones.swin_blocks",
    "backbones.swin.swin": "backbones.swin_sizes",
    "backbones.timm.timm_backbone": "backbones.timm_backbone",
    "backbones.timm.timm_hybrid": "backbones.timm_hybrid",
    "backbones.timm.networks": "backbones.timm_networks",
    "backbones.vit.blocks": "backbones.vit_blocks",
    "backbones.swin.window_attention": "backbones.window_attention backbones.window_layout",
}
MOVED = {old: new for new, names in _OLD_NAMES.items() for old in names.split()}

_LEVEL = "build FPN on a single map, or subclass FPN and override top_down"
# old dotted name below the package -> remedy
REMOVED = {"FPNLevel": _LEVEL, "necks.FPNLevel": _LEVEL}

# stem of a config that is no longer shipped -> remedy
REMOVED_CONFIGS = {
    f"faster_rcnn_r50_{variant}_12e": f"use faster_rcnn_r50_fpn_12e with the options of {variant} in configs/README.md"
    for variant in ("fpn128", "fpn512", "single_scale_c4", "single_scale_c5")
}


def check_config(config: str) -> None:
    """Raise ``FileNotFoundError`` with the remedy if there is no such file and its stem is in `REMOVED_CONFIGS`."""
    path = Path(config)
    if path.stem in REMOVED_CONFIGS and not path.is_file():
        raise FileNotFoundError(f"config {config!r} was removed; {REMOVED_CONFIGS[path.stem]}")


class MovedFinder(MetaPathFinder):
    """Import hook that raises an ``ImportError`` for names in `MOVED` or `REMOVED` and never finds a module."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Explain a missing module; Python also looks up names of a ``from`` import that a package lacks."""
        if fullname.partition(".")[0] == self.package:
            _explain(fullname)


def explain_moved_imports(package: str) -> None:
    """Install a `MovedFinder` after all other finders."""
    sys.meta_path.append(MovedFinder(package))


def explain_moved_names(module: str) -> Callable[[str], None]:
    """Make a module's ``__getattr__`` that explains its moved names; finders see only names of packages."""

    def explain(name: str) -> None:
        _explain(f"{module}.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return explain


def explain_moved_attributes(package: str) -> None:
    """Give a package a ``__getattr__`` that explains its moved names as attributes; imports reach the finder."""

    def explain(name: str) -> None:
        try:
            _explain(f"{package}.{name}")
        except ImportError as error:
            raise AttributeError(str(error)) from None
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    vars(sys.modules[package])["__getattr__"] = explain  # not in its source, where type checkers would take any name


def _explain(fullname: str) -> None:
    package, _, old = fullname.partition(".")
    if old in MOVED:
        new = MOVED[old]
        place = f"in {new}" if "/" in new else f"{package}.{new}; change the import"
        raise ImportError(f"{fullname} is now {place}", name=fullname)
    if old in REMOVED:
        raise ImportError(f"{fullname} was removed; {REMOVED[old]}", name=fullname)

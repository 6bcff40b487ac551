"""Errors that name the replacement of a moved import or a removed config; the package installs the import hook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

SYNTHETIC = "tools/synthetic/ of the source tree"
BENCHMARKS = "tools/benchmarks/ of the source tree"
STUDIES = "tools/studies/ablations/ of the source tree"
# old dotted name below the package -> new one, or the place outside the package: text with a slash
MOVED = {
    "analysis.AnchorReach": STUDIES,
    "analysis.anchor_reach": STUDIES,
    "analysis.conv_floor": BENCHMARKS,
    "analysis.fresh_process_peaks": BENCHMARKS,
    "analysis.latency": BENCHMARKS,
    "analysis.record_convs": BENCHMARKS,
    "analysis.run_convs": BENCHMARKS,
    "analysis.study": STUDIES,
    "analysis.study_results": STUDIES,
    "analysis.timm_families": "tools/docs/ of the source tree",
    "analysis.neck_facts": "necks.NeckCard",
    "necks.scripting": "ops.scripting",
    "visualization.neck_topologies": "necks.NeckCard",
    "visualization.studies": STUDIES,
    "visualization.topology": "tools/docs/ of the source tree",
    "analysis.METRICS": "analysis.COCO_METRICS",
    "data.plot_level_weights": "visualization.plot_level_weights",
    "data.plot_size_statistics": "visualization.plot_size_statistics",
    "data.make_synthetic_coco": SYNTHETIC,
    "data.masks": SYNTHETIC,
    "data.scene": SYNTHETIC,
    "data.shapes": SYNTHETIC,
    "data.stuff": SYNTHETIC,
    "data.synthetic": SYNTHETIC,
    "losses": "training",
    "optim": "training",
    "adapters.detectron2.facts": "adapters.detectron2.compatibility",
    "adapters.mmdet.factories": "adapters.mmdet.arguments",
    "adapters.mmdet.facts": "adapters.mmdet.compatibility",
    "adapters.detectron2.zoo.load_detector": "adapters.detectron2.detector.load",
    "adapters.mmdet.zoo.load_detector": "adapters.mmdet.detector.load",
    "weights.checkpoint.under": "weights.checkpoint.strip_prefix",
    "weights.convert": "conversion.convert",
    "weights.Conversion": "conversion.Conversion",
    "weights.facts": "conversion.compatibility",
    "weights.mask_heads": "conversion.heads",
    "weights.maps.detectors": "conversion.tables",
    "weights.maps.heads": "conversion.heads",
    "weights.recognise": "weights.recognize",
    "weights.recognition": "weights.layouts",
    "weights.under": "weights.strip_prefix",
    "weights.hub": "zoo.hub",
    "weights.publish": "zoo.publish",
    "weights.release_files": "zoo.publish",
    "weights.pair_by_order": SYNTHETIC,
    "weights.pairing": SYNTHETIC,
    "weights.zoo": "zoo.index",
    "weights.zoo_pages": "zoo.pages",
    "weights.zoo_records": "zoo.records",
    "backbones.attention": "backbones.vit.attention",
    "backbones.mvit_blocks": "backbones.mvit.blocks",
    "backbones.mvit_plan": "backbones.mvit.mvit",
    "backbones.packaged": SYNTHETIC,
    "backbones.swin_blocks": "backbones.swin.blocks",
    "backbones.swin_sizes": "backbones.swin.swin",
    "backbones.timm_backbone": "backbones.timm.timm_backbone",
    "backbones.timm_hybrid": "backbones.timm.timm_hybrid",
    "backbones.timm_networks": "backbones.timm.networks",
    "backbones.vit_blocks": "backbones.vit.blocks",
    "backbones.window_attention": "backbones.swin.window_attention",
    "backbones.window_layout": "backbones.swin.window_attention",
}

_LEVEL = "build FPN on a single map, or subclass FPN and override top_down"
# old dotted name below the package -> remedy
REMOVED = {"FPNLevel": _LEVEL, "necks.FPNLevel": _LEVEL}

# stem of a config that is no longer shipped -> remedy
REMOVED_CONFIGS = {
    f"faster_rcnn_r50_{variant}_12e": f"use faster_rcnn_r50_fpn_12e with the options of {variant} in configs/README.md"
    for variant in ("fpn128", "fpn512", "single_scale_c4", "single_scale_c5")
}


def check_config(config: str) -> None:
    """Check that a config has not been removed.

    Raises:
        FileNotFoundError: no such file, and its stem is in `REMOVED_CONFIGS`; the message has the remedy.
    """
    path = Path(config)
    if path.stem in REMOVED_CONFIGS and not path.is_file():
        raise FileNotFoundError(f"config {config!r} was removed; {REMOVED_CONFIGS[path.stem]}")


class MovedFinder(MetaPathFinder):
    """Raise an ``ImportError`` for each import of a name in `MOVED` or `REMOVED`; find nothing."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Explain a missing module; Python also asks for the names of a ``from`` import that a package lacks."""
        if fullname.partition(".")[0] == self.package:
            _explain(fullname)


def explain_moved_imports(package: str) -> None:
    """Install a `MovedFinder` after all other finders."""
    sys.meta_path.append(MovedFinder(package))


def explain_moved_names(module: str) -> Callable[[str], None]:
    """Make the ``__getattr__`` of a module some of whose names have moved; finders see names of packages only."""

    def explain(name: str) -> None:
        _explain(f"{module}.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return explain


def _explain(fullname: str) -> None:
    package, _, old = fullname.partition(".")
    if old in MOVED:
        new = MOVED[old]
        place = f"in {new}" if "/" in new else f"{package}.{new}; change the import"
        raise ImportError(f"{fullname} is now {place}", name=fullname)
    if old in REMOVED:
        raise ImportError(f"{fullname} was removed; {REMOVED[old]}", name=fullname)

"""Settings that the configs of both toolboxes share: base configs, anchors, padding, schedule."""

from __future__ import annotations

import ast
from pathlib import Path

from study_design import Study, Variant

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
CONFIG_NAME = "config.py"
# side of the smallest anchor in pixels and sizes per octave, as in the base configs; the smallest objects have 8 pixels
ANCHORS = {"retinanet": (12.0, 3), "mask_rcnn": (16.0, 1)}
PADDING = 32  # both toolboxes pad images to multiples of this
POOLED_LEVELS = 4
CANONICAL = 14  # a region that spans this many cells of the finest map is pooled from the next level
WARMUP = 0.1  # share of the training, about that of the base configs
# the first is the config that a cell's config modifies, the others are read by it
_MMDET = ("_base_/demo.py", "_base_/coco_folder.py")
_DETECTRON2 = (
    "study_mask_rcnn.py",
    "demo_mask_rcnn.py",
    *(f"common/{name}.py" for name in ("coco_folder", "neck", "recipe", "stock")),
)
BASES = {
    ("retinanet", "mmdet"): ("study_retinanet.py", "demo_retinanet.py", *_MMDET),
    ("retinanet", "detectron2"): ("study_retinanet.py", *_DETECTRON2),
    ("mask_rcnn", "mmdet"): ("study_mask_rcnn.py", "demo_mask_rcnn.py", "_base_/demo_masks.py", *_MMDET),
    ("mask_rcnn", "detectron2"): _DETECTRON2,
}
# what a base config sets of the logs and their files, which no result depends on
LOGGING = {"default_hooks", "log_processor", "visualizer", "vis_backends"}


def base_configs(head: str, toolbox: str) -> list[Path]:
    """Paths of the config that a cell's config modifies, and of those that it reads."""
    return [CONFIGS / toolbox / name for name in BASES[head, toolbox]]


def base_content(path: Path) -> str:
    """Return what a training depends on in a base config: its statements without docstrings, comments, and logging.

    Example:
        >>> base_content(CONFIGS / "mmdet/study_retinanet.py").splitlines()[0]
        "_base_ = 'demo_retinanet.py'"
    """
    module = ast.parse(path.read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in module.body if not (_is_text(node) or _sets_logging(node)))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _sets_logging(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and {ast.unparse(target) for target in node.targets} <= LOGGING


def warmup(study: Study) -> int:
    """Warm-up iterations of a training."""
    return max(2, round(WARMUP * study.iterations))


def period(study: Study) -> int:
    """Iterations between evaluations."""
    return -(-study.iterations // study.evaluations)


def check_stock(variant: Variant) -> None:
    """Check that the toolboxes' own FPN can do what the variant's neck does.

    Raises:
        ValueError: other arguments than those that both support.
    """
    expected = {"num_levels": 2, "op": "conv", "source": "input"}
    if dict(variant.neck) != {"type": "FPN", "out_channels": variant.neck["out_channels"], "extra_levels": expected}:
        raise ValueError(
            f"variant {variant.name!r}: the toolboxes' own FPN supports only out_channels and extra_levels={expected}"
        )

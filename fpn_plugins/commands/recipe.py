"""Plan a training on a folder of pictures: print every choice with its reason, and write the toolbox's config."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_atomically
from .common import make_folder, user_errors
from .recipe_options import parse_args

if TYPE_CHECKING:
    from ..recipes import Recipe

COMMANDS = {"mmdet": "fpn-plugins train", "detectron2": "fpn-plugins train-d2 --config-file"}
# in the folder of a training; mmengine writes a second file at the end, without what only a training needs
BEST = {"mmdet": "best_coco_bbox_mAP_iter_*.pth", "detectron2": "model_best.pth"}
FOLDER = "recipe"  # in the folder of the training, into which the toolboxes copy their configs


def planned_config(toolbox: str, argv: Sequence[str] | None) -> str | None:
    """Plan a training and write its config if the command line has ``--data``.

    Args:
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        argv: arguments; ``None`` for the process's.

    Returns:
        Path of the config; ``None`` for a command line without ``--data`` or ``--recipe``.

    Raises:
        SystemExit: after ``--dry-run`` or ``--config-only``, or for arguments that are wrong.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if not any(text.split("=")[0] in ("--data", "--recipe") for text in given):
        return None
    args = parse_args(toolbox, given)
    with user_errors():
        work_dir = args.work_dir or _work_dir(toolbox, args)
        plan = make_plan(args, work_dir, toolbox)
        show(plan)
        if args.dry_run:
            raise SystemExit(0)
        if not args.config_only:
            fetch_weights(plan)
        path = write(toolbox, plan, work_dir)
        if args.config_only:
            raise SystemExit(0)
        return str(path)


def _work_dir(toolbox: str, args: argparse.Namespace) -> Path:
    suffix = "" if toolbox == "mmdet" else f"_{toolbox}"
    return Path("work_dirs") / f"{args.data.resolve().name}_{args.detector}_{args.recipe}{suffix}"


def make_plan(args: argparse.Namespace, work_dir: Path, toolbox: str | None = None) -> Recipe:
    """Read the data and plan the training."""
    import tempfile

    from ..extras import quiet_imports

    with quiet_imports():
        from ..recipes import plan_recipe, read_folder

    with tempfile.TemporaryDirectory() as nowhere:
        split_into = Path(nowhere) if args.dry_run else work_dir / FOLDER
        # Detectron2 decodes masks for detectors of boxes too
        masks = toolbox != "mmdet" or args.detector == "mask_rcnn"
        data = read_folder(args.data, args.val_part, split_into, masks)
        return plan_recipe(
            *(data, args.recipe),
            detector=args.detector,
            backbone=args.backbone,
            weights=args.weights,
            neck=args.neck,
            size=None if args.size is None else tuple(args.size),
            finest=args.finest,
            epochs=args.epochs,
            minutes=args.minutes,
            flips=args.flips,
            seed=args.seed,
            max_value=args.max_value,
            bands=args.bands,
            channels_first=args.channels_first,
        )


def show_result(toolbox: str, config: str, argv: Sequence[str] | None) -> None:
    """Print where the best weights of a training are, and commands that use them; nothing if there are none."""
    folder = Path(config).parent
    found = sorted(folder.parent.glob(BEST[toolbox]), key=lambda path: path.stat().st_mtime)
    if not found:
        return
    root = parse_args(toolbox, sys.argv[1:] if argv is None else argv).data
    if (folder / "annotations").is_dir():  # the parts of --val-part
        root = Path(os.path.relpath(folder))
    both = shlex.join(os.path.relpath(path) for path in (config, found[-1]))
    print(
        f"the best weights: {found[-1]}\n"
        f"  fpn-plugins predict {both} IMAGES\n"
        f"  fpn-plugins evaluate {both} --root {shlex.quote(str(root))}\n"
        f"  fpn-plugins export {both} detector.onnx",
        flush=True,
    )


def fetch_weights(plan: Recipe) -> None:
    """Download or read the backbone's weights before the config is written: a failure leaves no config behind.

    Raises:
        DownloadError: there is no network, and the weights are not in timm's cache.
        ValueError: the file of weights is damaged, or of another network.
    """
    from ..backbones import TimmBackbone
    from ..weights.download import DownloadError

    try:
        TimmBackbone(**{key: value for key, value in plan.backbone.items() if key != "type"})
    except DownloadError as error:
        raise DownloadError(f"{error}; here --weights FILE names it") from error


def show(plan: Recipe) -> None:
    """Print what was chosen and why, and what the anchors reach."""
    from ..recipes.reasons import recipe_title

    print(f"{recipe_title(plan)}, {plan.data.pictures} images, {plan.data.boxes.shape[1]} objects", flush=True)
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print("\n".join(f"  {what}: {value} ({why})" for what, value, why in plan.reasons), flush=True)
        return
    table = Table("choice", "value", "why", box=None, header_style="bold", pad_edge=False)
    for row in plan.reasons:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 100)
    console.print(table)


def write(toolbox: str, plan: Recipe, work_dir: Path, end: str = "") -> Path:
    """Write the config, with ``end`` after it, and the picture of what the anchors reach; return the config's path.

    Raises:
        FileExistsError: there is another config of that name, which may have been edited.
    """
    folder = work_dir.resolve() / FOLDER
    make_folder(folder)
    path = folder / f"{plan.detector}_{plan.name}.py"
    content = render(toolbox, plan, path, work_dir.resolve()) + end
    command = f"{COMMANDS[toolbox]} {shlex.quote(str(path))}"
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise FileExistsError(
            f"{str(path)!r} exists with other content: train with it ({command}), or give another --work-dir"
        )
    with write_atomically(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    print(f"wrote {path}; to change and repeat the training: {command}", flush=True)
    draw(plan, folder / "anchors.png")
    return path


def render(toolbox: str, plan: Recipe, path: Path, work_dir: Path) -> str:
    """Return the content of the toolbox's config."""
    from ..extras import quiet_imports

    with quiet_imports():
        if toolbox == "mmdet":
            from ..adapters.mmdet.recipe import write_mmdet

            return write_mmdet(plan, str(path), str(work_dir))
        from ..adapters.detectron2.recipe import write_detectron2

        return write_detectron2(plan, str(path), str(work_dir))


def draw(plan: Recipe, path: Path) -> None:
    """Draw what the anchors reach, and print it."""
    from ..recipes.reasons import reach_of, stock_anchors
    from ..visualization import plot_anchor_reach

    reach = reach_of(plan)
    for name, found in reach.items():
        parts = (f"{100 * part.covered:.1f} % of {size}, best IoU {part.best_iou:.2f}" for size, part in found.items())
        print(f"{name} anchors reach {'; '.join(parts)}", flush=True)
    layouts = {"fitted": plan.anchors, "stock": stock_anchors(plan.detector)}
    anchors = {name: (layout.sizes, layout.ratios) for name, layout in layouts.items()}
    plot_anchor_reach(plan.data.resized(plan.size), anchors, reach, path)

"""Measure one section of `gpu.py` in this process.

    python tools/benchmarks/gpu_section.py vitdet --out results/vitdet.json
    python tools/benchmarks/gpu_section.py necks --neck fpn --precision float16 --full --out results/fpn.json

Prints each row as it is measured and keeps the JSON file up to date, so that a time limit loses nothing. What is not
installed is a row with ``skipped``; exits with code 1 if a row has an error.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_models import BACKBONE_NAMES, NECK_KINDS
from bench_report import provenance
from gpu_measure import PRECISIONS, Bench, Rows, describe

from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.analysis.peak_memory import hardware
from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors

TOOLBOXES, DETECTORS = ("detectron2", "mmdet"), ("mask_rcnn", "retinanet")


class Section(NamedTuple):
    """Function that adds the rows of a section.

    Attributes:
        module: module beside this one; imported only when the section runs, as it may need a toolbox.
        function: its function, which takes a `Bench`, `Rows` and the values of the options.
        options: names of the lists of items that it takes.
        precisions: precisions of the default run.
    """

    module: str
    function: str
    options: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("bfloat16",)


# in the order of the default run: what says most comes first
SECTIONS = {
    "parity": Section("gpu_parity", "parity", ("modules",)),
    "vitdet": Section("gpu_detectors", "compare_vitdet"),
    "attention": Section("gpu_attention", "attention", precisions=("bfloat16", "float32")),
    "windows": Section("gpu_attention", "windows", precisions=("bfloat16", "float32")),
    "rotary": Section("gpu_rotary", "compare_rotary"),
    "necks": Section("gpu_models", "compare_models", ("necks",)),
    "backbones": Section("gpu_models", "compare_models", ("models",)),
    "detectors": Section("gpu_detectors", "compare_detectors", ("toolboxes", "detectors")),
}
# items of the lists; `modules` is empty for all
ITEMS: dict[str, tuple[str, ...]] = {
    "modules": tuple(sorted([*NECKS, *BACKBONES])),
    "models": BACKBONE_NAMES,
    "necks": tuple(NECK_KINDS),
    "toolboxes": TOOLBOXES,
    "detectors": DETECTORS,
}
# options of lists of values
OPTIONS = {
    **{"precisions": "precision", "modules": "module", "models": "model", "necks": "neck"},
    **{"toolboxes": "toolbox", "detectors": "detector"},
}
# items that the default run takes where it does not take all
DEFAULT_ITEMS = {"necks": ("fpn", "pafpn", "bifpn", "nas_fpn")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a section needs besides its name and its output."""
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes and models, to try the program")
    parser.add_argument("--full", action="store_true", help="all cases and precisions, with compiled training")
    parser.add_argument(
        "--precision", dest="precisions", nargs="+", choices=PRECISIONS, help="(default: the section's)"
    )
    parser.add_argument("--budget", type=float, default=0.3, help="seconds of runs per job")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    several = {"nargs": "+", "default": ()}
    parser.add_argument("--module", dest="modules", choices=ITEMS["modules"], help="of parity", **several)
    parser.add_argument("--model", dest="models", choices=ITEMS["models"], help="of backbones", **several)
    parser.add_argument("--neck", dest="necks", choices=ITEMS["necks"], help="of necks", **several)
    parser.add_argument("--toolbox", dest="toolboxes", choices=TOOLBOXES, help="of detectors", **several)
    parser.add_argument("--detector", dest="detectors", choices=DETECTORS, help="of detectors", **several)


def items_of(args: argparse.Namespace, option: str) -> tuple[str, ...]:
    """Items of a list: those of the command line, or the default run's, or all."""
    chosen = getattr(args, option)
    return tuple(chosen or (ITEMS[option] if args.full else DEFAULT_ITEMS.get(option, ITEMS[option])))


def about(device: str) -> dict[str, Any]:
    """Describe the measurement: day, command, machine and versions."""
    return {**provenance(["torch", "fpn_plugins"]), "device": hardware(device), "python": platform.python_version()}


def provide_operators() -> None:
    """Answer mmcv's operators with ours in this process, where mmcv has no compiled extension; nothing is written."""
    if importlib.util.find_spec("mmcv") is None or "mmcv._ext" in sys.modules:
        return
    from fpn_plugins.adapters.mmcv.installation import find_mmcv

    found = find_mmcv()
    if not found.compiled and found.file is None:
        sys.modules["mmcv._ext"] = importlib.import_module("fpn_plugins.adapters.mmcv.extension")


def run(args: argparse.Namespace) -> int:
    """Measure the section; return the number of rows with an error."""
    section = SECTIONS[one_of("section", args.section, SECTIONS)]
    bench = Bench(
        args.device,
        args.tiny,
        args.precisions or list(section.precisions),
        args.budget,
        not args.no_compile,
        args.full,
    )
    rows = Rows(args.out, about(args.device))
    provide_operators()
    try:
        module = importlib.import_module(section.module)
    except ImportError as error:  # of something that comes with the toolboxes
        rows.add(skipped=describe(error))
        return 0
    measure: Callable[..., None] = getattr(module, section.function)
    measure(bench, rows, *(items_of(args, option) for option in section.options))
    return rows.errors()


def options_of(args: argparse.Namespace, changed: Mapping[str, Any]) -> list[str]:
    """Spell the options of `add_options` for a process of its own, some of them changed."""
    values = {**vars(args), **changed}
    spelled = ["--device", values["device"], "--budget", str(values["budget"])]
    spelled += [f"--{name.replace('_', '-')}" for name in ("tiny", "full", "no_compile") if values[name]]
    for name, option in OPTIONS.items():
        spelled += [f"--{option}", *values[name]] if values[name] else []
    return spelled


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", help=f"one of {list(SECTIONS)}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    add_options(parser)
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    with user_errors():
        errors = run(args)
    raise SystemExit(bool(errors))


if __name__ == "__main__":
    main()

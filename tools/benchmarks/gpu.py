"""Check and time the package on a GPU: parity with the CPU, times, peak memory.

    python tools/benchmarks/gpu.py --out results                           all sections, some minutes
    python tools/benchmarks/gpu.py attention windows --out results --precision bfloat16
    python tools/benchmarks/gpu.py --out /tmp/results --device cpu --tiny  dry run

Prints each row as it is measured and keeps OUT/SECTION.json up to date, so that a time limit loses nothing. Installed
toolboxes run in turn with ours. Exits with code 1 if a row has an error.

- parity: maps and gradients of every registered module against its float32 result on the CPU
- attention: forms of attention with relative positions, and whole layers
- windows: forms of attention in Swin's windows
- backbones, necks: whole models, eager and compiled; necks also channels-last
- detectors: detection and training steps of whole detectors
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from bench_models import BACKBONE_NAMES, NECK_KINDS
from bench_report import provenance
from detector_passes import DETECTORS, TOOLBOXES
from gpu_attention import attention, windows
from gpu_detectors import compare_detectors
from gpu_measure import PRECISIONS, Bench, Rows
from gpu_models import compare_models
from gpu_parity import parity

from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.analysis.peak_memory import hardware
from fpn_plugins.commands.common import user_errors


def run(args: argparse.Namespace) -> int:
    """Measure the chosen sections; return the number of rows with an error."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU; use --device cpu --tiny for a dry run")
    sections: dict[str, Callable[[Bench, Rows], None]] = {
        "parity": lambda bench, rows: parity(bench, rows, args.modules),
        "attention": attention,
        "windows": windows,
        "backbones": lambda bench, rows: compare_models(bench, rows, args.models),
        "necks": lambda bench, rows: compare_models(bench, rows, args.necks),
        "detectors": lambda bench, rows: compare_detectors(bench, rows, args.toolboxes, args.detectors),
    }
    unknown = [name for name in args.sections if name not in sections]
    if unknown:
        raise ValueError(f"unknown sections {unknown}; choose some of {list(sections)}")
    bench = Bench(args.device, args.tiny, args.precisions, args.budget, not args.no_compile)
    about = {
        **provenance(["torch", "fpn_plugins"]),
        "device": hardware(args.device),
        "python": platform.python_version(),
    }
    errors = 0
    for name in args.sections or sections:
        print(f"{name} on {about['device']}", flush=True)
        rows = Rows(args.out / f"{name}.json", about)
        sections[name](bench, rows)
        errors += rows.errors()
    return errors


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="sections to run (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes and models, to try the program")
    parser.add_argument(
        "--precision", dest="precisions", nargs="+", choices=PRECISIONS, default=["bfloat16", "float16", "float32"]
    )
    parser.add_argument("--budget", type=float, default=0.3, help="seconds of runs per job")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    parser.add_argument(
        "--module", dest="modules", nargs="+", choices=[*NECKS, *BACKBONES], default=(), help="of parity (all)"
    )
    parser.add_argument(
        "--model", dest="models", nargs="+", choices=BACKBONE_NAMES, default=BACKBONE_NAMES, help="of backbones"
    )
    parser.add_argument(
        "--neck", dest="necks", nargs="+", choices=list(NECK_KINDS), default=list(NECK_KINDS), help="of necks"
    )
    parser.add_argument(
        "--toolbox", dest="toolboxes", nargs="+", choices=TOOLBOXES, default=TOOLBOXES, help="of detectors"
    )
    parser.add_argument(
        "--detector", dest="detectors", nargs="+", choices=DETECTORS, default=DETECTORS, help="of detectors"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with user_errors():
        errors = run(args)
    raise SystemExit(bool(errors))


if __name__ == "__main__":
    main()

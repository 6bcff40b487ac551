"""What the package does on a GPU: parity with the CPU, times and memory.

    python tools/benchmarks/gpu.py --out results                           all sections, some minutes
    python tools/benchmarks/gpu.py attention windows --out results --precisions bfloat16
    python tools/benchmarks/gpu.py --out /tmp/results --device cpu --tiny  dry run

Prints each row as it comes and keeps OUT/SECTION.json up to date, so that a time limit loses nothing. Where toolboxes
are installed, their own modules run in turn with ours. Ends with code 1 if a row has an error.

- parity: every registered module, maps and gradients, against its float32 result on the CPU
- attention: forms of attention with relative positions, and whole layers
- windows: forms of attention in windows of Swin
- backbones: whole models, eager and compiled
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_models import (
    NAMES,
    build_ours,
    build_peer,
    largest_difference,
    make_inputs,
    maps_of,
    peers_of,
    perturb,
    prepare_pass,
    weights_of,
)
from bench_report import provenance
from gpu_attention import MODES, attention, windows
from gpu_measure import PRECISIONS, Bench, Rows, describe, set_precision
from gpu_parity import parity
from neck_cases import PACKAGES
from torch import nn

import fpn_plugins
from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.analysis.peak_memory import hardware
from fpn_plugins.commands.common import user_errors

OURS, COMPILED = "ours", "ours compiled"
# height, width and images of a batch
SHAPES = {"swin_t": (800, 1344, 4), "fpn": (800, 1344, 4), "bifpn": (768, 1280, 4)}
SQUARE, TINY = (1024, 1024, 2), (128, 256, 2)


def build(build_one: Callable[[], nn.Module], device: str) -> nn.Module:
    """A model on the device; drawing the weights there takes a fraction of the time, where its code allows that."""
    try:
        with torch.device(device):
            return build_one().to(device)
    except (RuntimeError, TypeError):
        return build_one().to(device)


def build_all(bench: Bench, rows: Rows, name: str, size: tuple[int, int]) -> dict[str, nn.Module]:
    """Ours and each installed peer that can be built."""
    nets = {}
    for who in (*peers_of(name, PACKAGES), OURS):
        try:
            if who == OURS:
                nets[who] = build(lambda: build_ours(name, fpn_plugins, size, bench.tiny), bench.device)
            else:
                nets[who] = build(lambda who=who: perturb(build_peer(name, who, size, bench.tiny)), bench.device)
        except Exception as error:  # a toolbox without its compiled operators; the others go on
            rows.add(model=name, who=who, error=describe(error))
    return nets


def add_differences(rows: Rows, name: str, nets: dict[str, nn.Module], inputs: Any) -> None:
    """Rows of how far the maps of ours are from each peer's, with the peer's weights, in float32."""
    set_precision("float32")
    for who in [who for who in nets if who != OURS]:
        nets[OURS].load_state_dict(weights_of(nets[who]))
        for net in nets.values():
            net.eval()
        with torch.no_grad():
            found, expected = (maps_of(nets[one], inputs) for one in (OURS, who))
        rows.add(model=name, who=who, difference=largest_difference(found, expected))


def compare_model(bench: Bench, rows: Rows, name: str) -> None:
    """All rows of one model."""
    *size, batch = TINY if bench.tiny else SHAPES.get(name, SQUARE)
    nets = build_all(bench, rows, name, tuple(size))
    if OURS not in nets:
        return
    inputs = make_inputs(name, tuple(size), batch, bench.device)
    add_differences(rows, name, nets, inputs)
    for precision in bench.precisions:
        dtype = set_precision(precision)
        if bench.compiles(precision):
            nets[COMPILED] = copy.deepcopy(nets[OURS])
            nets[COMPILED].compile(backend=bench.backend)
        for mode, training in MODES.items():
            jobs = {who: prepare_pass(net, inputs, training, dtype) for who, net in nets.items()}
            bench.compare(rows, jobs, model=name, size=size, batch=batch, precision=precision, mode=mode)
        nets.pop(COMPILED, None)
        bench.reset()


def backbones(bench: Bench, rows: Rows, names: list[str]) -> None:
    for name in names:
        compare_model(bench, rows, name)
        bench.free()


def run(args: argparse.Namespace) -> int:
    """Measure; returns how many rows have an error."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU; --device cpu --tiny is a dry run")
    sections: dict[str, Callable[[Bench, Rows], None]] = {
        "parity": lambda bench, rows: parity(bench, rows, args.modules),
        "attention": attention,
        "windows": windows,
        "backbones": lambda bench, rows: backbones(bench, rows, args.models),
    }
    unknown = [name for name in args.sections if name not in sections]
    if unknown:
        raise ValueError(f"unknown sections {unknown}; choose of {list(sections)}")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="parity, attention, windows, backbones; all where none is named")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes and models, to try the program")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["bfloat16", "float16", "float32"])
    parser.add_argument("--modules", nargs="+", choices=[*NECKS, *BACKBONES], default=(), help="of parity; all")
    parser.add_argument(
        "--models", nargs="+", choices=NAMES, default=["vit_b", "swin_t", "mvit_t"], help="of backbones"
    )
    parser.add_argument("--budget", type=float, default=0.3, help="seconds of runs per job")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    args = parser.parse_args()
    with user_errors():
        errors = run(args)
    raise SystemExit(bool(errors))


if __name__ == "__main__":
    main()

"""Time of necks in inference with max-pooling by slices (`fpn_plugins.ops.pooling`) and with PyTorch's own.

python tools/benchmarks/pooling.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _bench_necks_cases import CASES, OURS, build
from _bench_report import measured, provenance
from _toolbox import user_errors

from fpn_plugins.analysis.latency import interleaved_seconds, median_ratio
from fpn_plugins.necks import bfp, bifpn_node, nas_fpn

NECKS = {"BiFPN": bifpn_node, "NASFPN": nas_fpn, "BFP": bfp}
Pair = tuple[int, int]


def pytorchs(x: Tensor, kernel: Pair, stride: Pair, padding: Pair = (0, 0), ceil_mode: bool = False) -> Tensor:
    """`fpn_plugins.ops.pooling.max_pool2d` by PyTorch."""
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)


def job(neck: nn.Module, kind: str, maps: list[Tensor], by_slices: bool) -> Callable[[], None]:
    """One pass."""

    def run() -> None:
        pool = NECKS[kind].max_pool2d if by_slices else pytorchs
        with mock.patch.object(NECKS[kind], "max_pool2d", pool), torch.no_grad():
            neck(maps)

    return run


def measure(kind: str, size: tuple[int, int], repeats: int) -> tuple[float, float, float]:
    """Milliseconds by slices and by PyTorch, and the median of their ratios."""
    torch.manual_seed(0)
    neck = build(kind, OURS, size).eval()
    sides = [[-(-side // spec.stride) for side in size] for spec in CASES[kind].specs]
    maps = [torch.randn(1, spec.channels, *hw) for spec, hw in zip(CASES[kind].specs, sides, strict=True)]
    seconds = interleaved_seconds(
        {name: job(neck, kind, maps, name == "slices") for name in ("slices", "torch")}, repeats
    )
    ours, theirs = seconds["slices"], seconds["torch"]
    return 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs), median_ratio(ours, theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        print(measured(provenance(["torch", "fpn_plugins"])))
        for kind in NECKS:
            slices, torchs, ratio = measure(kind, tuple(args.size), args.repeats)
            print(f"{kind}: {slices:.1f} ms by slices, {torchs:.1f} ms by PyTorch's max-pooling, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()

"""Time modules with a fast form of `fpn_plugins.ops` relative to the same modules with the plain form, on a CPU.

    python tools/benchmarks/choices.py --threads 1

- max pooling by slices, in inference (``ops/pooling.py``)
- windows of MViTv2-T one at a time (``ops/attention/grids.py``)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from bench_report import measured, provenance
from neck_cases import CASES, OURS, build
from timing import interleaved_seconds, median_ratio
from torch import Tensor, nn

from fpn_plugins import MViT
from fpn_plugins.commands.common import user_errors
from fpn_plugins.necks import bifpn_node
from fpn_plugins.ops import pooling
from fpn_plugins.ops.attention import grids

NECKS = {"BiFPN": bifpn_node, "NASFPN": pooling, "BFP": pooling}
NECK_SIZE = (320, 480)
MVIT_SIZES = [(256, 320), (384, 512)]
Pair = tuple[int, int]


class Choice(NamedTuple):
    """A module, its input, and the attribute of which the fast form can be replaced by the plain one."""

    name: str
    module: nn.Module
    inputs: Any
    training: bool
    place: Any
    attribute: str
    plain: Callable[..., Tensor]

    def job(self, fast: bool) -> Callable[[], None]:
        """Make a job of one pass, with gradients of the parameters in training."""
        form = getattr(self.place, self.attribute) if fast else self.plain
        self.module.train(self.training)

        def run() -> None:
            with mock.patch.object(self.place, self.attribute, form), torch.set_grad_enabled(self.training):
                maps = self.module(self.inputs)
                if self.training:
                    sum(m.square().mean() for m in maps).backward()

        return run


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Pair = (0, 0), ceil_mode: bool = False) -> Tensor:
    """PyTorch's counterpart of `fpn_plugins.ops.pooling.max_pool2d`."""
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)


def choices(neck_size: Pair, mvit_sizes: list[Pair]) -> Iterator[Choice]:
    """Yield every module that has a choice."""
    torch.manual_seed(0)
    for kind, place in NECKS.items():
        sides = [[-(-side // spec.stride) for side in neck_size] for spec in CASES[kind].specs]
        maps = [torch.randn(1, spec.channels, *hw) for spec, hw in zip(CASES[kind].specs, sides, strict=True)]
        neck = build(kind, OURS, neck_size)
        yield Choice(f"{kind}, {_text(neck_size)}", neck, maps, False, place, "max_pool2d", max_pool2d)
    for size in mvit_sizes:
        backbone, images = MViT("mvitv2_tiny"), torch.randn(1, 3, *size)
        for training in (False, True):
            name = f"MViTv2-T, {_text(size)}"
            yield Choice(name, backbone, images, training, grids, "_window_by_window", grids._all_windows)


def _text(size: Pair) -> str:
    return f"{size[0]} x {size[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        print(measured(provenance(["torch", "fpn_plugins"])))
        for choice in choices(NECK_SIZE, MVIT_SIZES):
            seconds = interleaved_seconds({"fast": choice.job(True), "plain": choice.job(False)}, args.repeats)
            mode = "training" if choice.training else "inference"
            print(f"{choice.name}, {mode}: {median_ratio(seconds['fast'], seconds['plain']):.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Train every pair of a backbone and a neck on two processes, and list those that do not train.

    python tools/benchmarks/distributed.py [--backbone NAME ...] [--quick]

Two processes over gloo on one machine train a tiny `Pyramid` of each pair for two steps with PyTorch's
``DistributedDataParallel`` and its default arguments; in the second one, which runs on the buckets of gradients that
PyTorch forms after the first, they get different numbers and sizes of images.
A pair trains if every parameter has a gradient after every step, and both processes hold equal parameters at the end.
Each neck reads all maps, all but the first, and all but the last; without a neck, the first or the last map is kept.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from fpn_plugins import BACKBONES, NECKS, Pyramid, build_backbone
from fpn_plugins.commands.common import user_errors

RESNET = {"type": "TimmBackbone", "name": "test_resnet"}
ENCODER = {"embed_dim": 16, "depth": 2, "num_heads": 2}
VIT = {**ENCODER, "depth": 4, "img_size": 64, "window_size": 3, "global_block_indices": (1, 3)}
# tiny arguments of every registered backbone
SWIN = {"name": "swin_tiny_patch4_window7_224", "embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}
TINY: dict[str, dict[str, Any]] = {
    "TimmBackbone": {"name": "test_resnet", "output_norm": "LN"},
    "Swin": SWIN,
    "DetectoRSResNet": {"base_channels": 2, "norm_eval": True},
    "MViT": {"name": "mvitv2_tiny", "embed_dim": 8, "last_block_indices": (0, 1, 2, 3), "window_size": 8},
    "ViT": VIT,
    "MultiDepthViT": {"vit": VIT, "depths": (1, 2, 3, 4)},
    "ImagePyramid": {"backbone": {**SWIN, "type": "Swin"}},
    "HybridCNNViT": {"cnn": {**RESNET, "output_norm": "LN"}, "vit": ENCODER},
    "TimmHybrid": {"name": "vit_small_r26_s32_224", "model_args": ENCODER},
    "SpatialTuningAdapter": {"vit": {**VIT, "type": "ViT", "out_block_indices": (1, 2, 3)}, "detail_channels": 4},
    "ViTAdapter": {"vit": VIT, "conv_inplane": 4, "n_points": 2},
}
RECURSIVE = "RFP"  # reads the image, and holds a backbone like the one before it
OF_THREE = "NASFCOSFPN"  # reads exactly three maps
# images of each process in each step
STEPS = (((2, 64, 96), (2, 64, 96)), ((3, 64, 64), (2, 96, 64)))


class Case(NamedTuple):
    """Arguments of a `Pyramid`, and its name in the table."""

    backbone: str
    neck: str
    maps: str
    arguments: dict[str, Any]


class Row(NamedTuple):
    """Outcome of a case in one process: number of parameters, seconds, and the error; ``""`` if the pair trains."""

    parameters: int
    seconds: float
    error: str


def cases(backbones: Sequence[str] = tuple(TINY), quick: bool = False) -> list[Case]:
    """List the pairs of some backbones with every neck; if ``quick``, each once, in turn with other maps."""
    pairs: dict[tuple[str, str], list[Case]] = {}
    for case in (case for name in backbones for case in _cases_of(name)):
        pairs.setdefault((case.backbone, case.neck), []).append(case)
    if quick:
        turns = {name: turn for names in (backbones, (*NECKS, "none")) for turn, name in enumerate(names)}
        return [found[(turns[name] + turns[neck]) % len(found)] for (name, neck), found in pairs.items()]
    return [case for found in pairs.values() for case in found]


def _cases_of(name: str) -> list[Case]:
    backbone = {**TINY[name], "type": name}
    number = len(build_backbone(backbone).feature_specs)
    chosen = {"all": range(number), "all but the first": range(1, number), "all but the last": range(number - 1)}
    found = []
    for neck in (neck for neck in NECKS if neck != RECURSIVE):
        for maps, indices in chosen.items() if number > 1 else [("all", range(1))]:
            if neck == OF_THREE and len(indices) < 3:
                continue
            arguments = {"backbone": backbone, "neck": _neck(neck, number, list(indices))}
            found.append(Case(name, neck, maps, arguments))
    if name == "DetectoRSResNet":
        neck = {"type": RECURSIVE, **NECKS[RECURSIVE].card.example_arguments}  # type: ignore[attr-defined]
        found.append(Case(name, RECURSIVE, "all", {"backbone": {**backbone, "output_image": True}, "neck": neck}))
    for maps, position in (("the first", 0), ("the last", number - 1)) if number > 1 else ():
        found.append(Case(name, "none", maps, {"backbone": backbone, "out_positions": [position]}))
    return found


def _neck(name: str, number: int, indices: list[int]) -> Any:
    """Return the config of a neck that reads the maps at ``indices``."""
    card = NECKS[name].card  # type: ignore[attr-defined]
    accepted = inspect.signature(NECKS[name]).parameters
    neck = {**({"out_channels": 8} if "out_channels" in accepted else {}), **card.example_arguments, "type": name}
    if name == OF_THREE:
        return {**neck, "in_indices": indices[-3:]}
    if name == "SingleScale":  # one map: the first, the last, or the last but one
        return {**neck, "in_indices": indices[:1] if len(indices) == number else indices[-1:]}
    if card.follows:
        arguments = {"refine_index": 0} if name == "BFP" else card.example_arguments
        first = {"type": card.follows, "out_channels": 8, "in_indices": indices, "extra_levels": {"num_levels": 1}}
        return [first, {**arguments, "type": name}]
    if len({spec.stride for spec in card.example_specs}) == 1:
        first = {"type": "SingleScale", "out_channels": 8, "in_indices": indices[-1:]}
        scales = {"scale_factors": (2.0, 1.0)} if "scale_factors" in accepted else {}
        return [first, {**neck, **scales}] if number > 1 else neck
    return {**neck, "in_indices": indices}


def on_two_processes(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(rank, *arguments)`` in two processes connected over gloo; return both results, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (folder, function, arguments), nprocs=2)
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(2)]


def _process(rank: int, folder: str, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    (Path(folder) / str(rank)).write_text(json.dumps(function(rank, *arguments)))
    dist.barrier()
    dist.destroy_process_group()


@contextmanager
def narrow_hybrids() -> Iterator[None]:
    """Let timm build its hybrids with a narrow CNN, for which it has no argument."""
    from timm.models import vision_transformer_hybrid as hybrids

    whole = hybrids.ResNetV2
    hybrids.ResNetV2 = partial(whole, channels=(128, 128, 128, 128))  # four times its 32 groups
    try:
        yield
    finally:
        hybrids.ResNetV2 = whole


def train_cases(rank: int, chosen: Sequence[Case]) -> list[Row]:
    """Train each case for two steps."""
    rows = []
    for case in chosen:
        started, model = time.perf_counter(), nn.Module()
        try:
            torch.manual_seed(0)
            with narrow_hybrids():
                model = Pyramid(**case.arguments)
            error = train(rank, model)
        except (RuntimeError, ValueError, TypeError) as failure:
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
        rows.append(Row(sum(p.numel() for p in model.parameters()), time.perf_counter() - started, error))
    return rows


def train(rank: int, model: nn.Module, **options: Any) -> str:
    """Train two steps with ``DistributedDataParallel(model, **options)``; return what is wrong afterwards, or ``""``.

    ``model`` maps images to a tuple of maps, or a dict of them. With ``options``, parameters may lack a gradient.
    """
    ddp = DistributedDataParallel(model.train(), **options)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(rank)
    for sizes in STEPS:
        batch, *size = sizes[rank]
        maps = ddp(torch.randn(batch, 3, *size, generator=generator))
        optimizer.zero_grad()
        sum(m.square().mean() for m in (maps.values() if isinstance(maps, dict) else maps)).backward()
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if without and not options:
            return f"no gradient: {without}"
        optimizer.step()
    mine = torch.cat([p.detach().flatten() for p in model.parameters()])
    others = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(others, mine)
    return "" if torch.equal(*others) and bool(mine.isfinite().all()) else "parameters differ between the processes"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table of backbones and necks, and each pair that does not train; exit with 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", choices=sorted(BACKBONES), default=list(TINY), help="(default: all)")
    parser.add_argument("--quick", action="store_true", help="train each pair with one choice of maps")
    args = parser.parse_args(argv)
    with user_errors():
        chosen = cases(args.backbone, args.quick)
    both = [[Row(*row) for row in rows] for rows in on_two_processes(train_cases, chosen)]
    rows = [max(pair, key=lambda row: row.error) for pair in zip(*both, strict=True)]
    print(f"| backbone | {' | '.join([*NECKS, 'none'])} |\n|---|{'---|' * (len(NECKS) + 1)}")
    for name in args.backbone:
        cells = []
        for neck in [*NECKS, "none"]:
            found = [row.error for case, row in zip(chosen, rows, strict=True) if case[:2] == (name, neck)]
            cells.append(f"{found.count('')}/{len(found)}" if found else "-")
        print(f"| {name} | {' | '.join(cells)} |")
    failed = [(case, row.error) for case, row in zip(chosen, rows, strict=True) if row.error]
    print(f"{len(rows) - len(failed)} of {len(rows)} train; {sum(row.seconds for row in rows):.0f} s")
    for case, error in failed:
        print(f"{case.backbone} + {case.neck}, {case.maps}: {error}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

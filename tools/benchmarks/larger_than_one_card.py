"""Count the memory of training large ViTs as detectors, by image size and number of cards, without allocating it.

    python tools/benchmarks/larger_than_one_card.py --out tools/benchmarks/data/larger_than_one_card

Networks run on CUDA tensors without values, under autocast in bfloat16, with the forms of attention of a GPU;
autograd's own hooks tell what it keeps for the backward pass. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bench_report import provenance, write_report
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fpn_plugins import Pyramid
from fpn_plugins.adapters.hosts import detector_cost
from fpn_plugins.analysis import CostReport, count_cost
from fpn_plugins.analysis.components import Component
from fpn_plugins.commands.common import user_errors
from fpn_plugins.sharding import wrap_units

GIB = 2**30
SIDES, CARDS = (1024, 1536), (1, 2, 4, 8)
NECK = {"type": "SimpleFeaturePyramid", "out_channels": 256}
MODELS: dict[str, dict[str, Any]] = {
    "ViT-L/16, ViTDet": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "global_block_indices": (5, 11, 17, 23)},
    "ViT-H/16, ViTDet": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "global_block_indices": (7, 15, 23, 31)},
    "ViT-H+/16, DINOv3": {"name": "vit_huge_plus_patch16_dinov3"},
    "ViT-g/16, DINOv2": {"name": "vit_giant_patch14_reg4_dinov2", "patch_size": 16},  # the pyramid's strides are whole
    "ViT-7B/16, DINOv3": {"name": "vit_7b_patch16_dinov3"},
}
# heads of ViTDet's Mask R-CNN, which are the same for each of them, and the regions that they train on
HEADS = "fpn_plugins::detectron2/mask_rcnn_vitdet_b_100e.py"
REGIONS, MASKS = 512, 128
OPTIONS = (
    f"model.proposal_generator.post_nms_topk=[2000,{REGIONS}]",
    f"model.roi_heads.box_predictor.test_topk_per_image={MASKS}",
)


@contextmanager
def on_fake_cuda(module: nn.Module) -> Iterator[None]:
    """Let ``module`` be on a GPU that need not exist, under autocast, which `torch.autocast` refuses without one."""
    with FakeTensorMode():
        for owner in module.modules():
            for name, p in owner._parameters.items():
                if p is not None:
                    owner._parameters[name] = nn.Parameter(torch.empty(p.shape, device="cuda"), p.requires_grad)
            for name, buffer in owner._buffers.items():
                if buffer is not None:
                    owner._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.clear_autocast_cache()


def build(backbone: Mapping[str, Any], checkpointed: bool = False) -> Pyramid:
    """Build backbone and pyramid on the meta device, so that nothing is allocated."""
    with torch.device("meta"):
        return Pyramid({"type": "ViT", **backbone, "gradient_checkpointing": checkpointed}, NECK).train()


def kept(backbone: Mapping[str, Any], side: int, checkpointed: bool) -> CostReport:
    """Count what a pass over one image keeps for the backward pass."""
    size = {} if "name" in backbone else {"img_size": side}
    model = build({**backbone, **size}, checkpointed)
    with on_fake_cuda(model):
        images = torch.empty(1, 3, side, side, device="cuda")

        def run() -> None:
            with torch.device("cuda"):  # for tensors that forward creates without naming a device
                model(images)

        return count_cost(model, run, "", (side, side), component_of=_part)


def _part(module: str) -> Component:
    """Count each block by itself; its modules are called ``backbone.blocks.N...``."""
    return Component("", ".".join(module.split(".")[:3]))


def activations(backbone: Mapping[str, Any], side: int) -> dict[str, int]:
    """Bytes for one image: all that is kept, what is kept with checkpointing, and the block that is recomputed then."""
    whole = kept(backbone, side, False)
    blocks = [cost.activation_bytes for cost in whole.components if cost.name.startswith("backbone.blocks.")]
    return {
        "kept": whole.total().activation_bytes,
        "checkpointed": kept(backbone, side, True).total().activation_bytes,
        "recomputed": max(blocks),
    }


def weights(backbone: Mapping[str, Any]) -> dict[str, int]:
    """Numbers of parameters: of all, of the largest unit that is gathered at once, and of those outside of units."""
    model = build(backbone)
    total, units = _number(model), [_number(unit) for unit in wrap_units(model)]
    return {"parameters": total, "largest_unit": max(units), "outside_units": total - sum(units)}


def _number(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def heads(side: int) -> dict[str, int]:
    """Parameters of the heads, and the bytes that they keep for one image, in single precision."""
    total = detector_cost(HEADS, (side, side), OPTIONS).total("head")
    return {"parameters": total.parameters, "kept": total.activation_bytes}


def bytes_per_card(row: Mapping[str, Any], heads: Mapping[str, Any], side: int, cards: int, checkpointed: bool) -> int:
    """Add up a training step with AdamW in single precision, autocast, and one image per card.

    Each card holds its part of weights, gradients and the two states, 16 bytes per parameter. One of several also
    gathers weights and gradients of what is outside of units, for the whole step, and of two units at a time. At the
    end of forward, autocast still holds its copies of the weights in half precision, without checkpointing because
    autograd keeps them; with it, they are gone before a block is recomputed.
    """
    own = row["weights"]
    total = own["parameters"] + heads[str(side)]["parameters"]
    gathered = own["outside_units"] + heads[str(side)]["parameters"] + 2 * own["largest_unit"] if cards > 1 else 0
    found = row["activations"][str(side)]
    alive = found["kept"]
    if checkpointed:
        alive = found["checkpointed"] + max(found["recomputed"], 2 * own["parameters"])
    return 16 * total // cards + 8 * gathered + alive + heads[str(side)]["kept"]


def markdown(report: dict[str, Any]) -> str:
    """Render the page."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        "# Larger than one card: the arithmetic",
        "",
        f"Counted on {report['date']} by `{report['command']}` with {versions}. Nothing is measured: networks run on "
        "CUDA tensors without values, and autograd's hooks tell what it keeps. [How to shard a training]"
        "(guides/many_machines.md#larger-than-one-card).",
        "",
        "Mask R-CNN with ViTDet's heads and `SimpleFeaturePyramid` on each ViT; ViTDet's attends in windows of 14 but "
        "for four blocks, the others globally. DINOv2's patches of 14 pixels are resized to 16. AdamW in single "
        "precision, autocast in bfloat16.",
        "",
        "## Weights and states",
        "",
        "Weight, gradient and two states are 16 bytes per parameter. *Unit* is the largest block, which is gathered at "
        "once; *outside* are embeddings, pyramid and heads, which stay gathered during a step.",
        "",
        "| network | parameters, M | weights, GiB | gradients, GiB | AdamW, GiB | unit, M | outside, M |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    first = next(iter(report["heads"].values()))["parameters"]
    for row in report["models"]:
        own = row["weights"]
        number, outside = own["parameters"] + first, own["outside_units"] + first
        sizes = [f"{size * number / GIB:.1f}" for size in (4, 4, 8)]
        counts = [f"{number / 1e6:.0f}", *sizes, f"{own['largest_unit'] / 1e6:.1f}", f"{outside / 1e6:.1f}"]
        lines.append(f"| {row['name']} | {' | '.join(counts)} |")
    return "\n".join([*lines, *_activation_lines(report), *_card_lines(report)]) + "\n"


def _activation_lines(report: dict[str, Any]) -> list[str]:
    tops = ", ".join(f"{found['kept'] / GIB:.1f} GiB at {side}" for side, found in report["heads"].items())
    lines = [
        "",
        "## Activations of one image, GiB",
        "",
        "What autograd keeps for the backward pass of backbone and pyramid. With `gradient_checkpointing=True`, these "
        "are the inputs of blocks, and what one block keeps while it is recomputed. The heads come on top: "
        f"{tops} pixels (counted in single precision, for {REGIONS} regions and {MASKS} masks).",
        "",
        f"| network | {' | '.join(f'{side}, all kept | {side}, checkpointed' for side in report['sides'])} |",
        f"|---|{'---:|---:|' * len(report['sides'])}",
    ]
    for row in report["models"]:
        cells = []
        for found in row["activations"].values():
            cells += [f"{found['kept'] / GIB:.1f}", f"{(found['checkpointed'] + found['recomputed']) / GIB:.1f}"]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines


def _card_lines(report: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## A card, GiB",
        "",
        "One image per card, with `gradient_checkpointing=True` / without. A second image adds its activations once "
        "more. Autocast's copies of the weights, 2 bytes per parameter, are included. "
        "One of several cards also holds gathered weights and gradients: of what is outside, and of two units. "
        "Not included: CUDA's own memory, workspaces, fragmentation; plan for a fifth more. On a CPU, the peak of "
        "PyTorch's allocator in a step of a small ViT is within 5 % of the count, which a test checks.",
    ]
    for side in report["sides"]:
        lines += ["", f"### {side} x {side}", ""]
        lines += [f"| network | {' | '.join(f'{n} card' + 's' * (n > 1) for n in report['cards'])} |"]
        lines += [f"|---|{'---:|' * len(report['cards'])}"]
        for row in report["models"]:
            sums = [
                [bytes_per_card(row, report["heads"], side, n, on) for on in (True, False)] for n in report["cards"]
            ]
            cells = [" / ".join(f"{total / GIB:.0f}" for total in pair) for pair in sums]
            lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Count and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--model", nargs="+", default=list(MODELS), choices=list(MODELS), help="(default: all)")
    parser.add_argument("--images", type=int, nargs="+", default=list(SIDES), help="sides of the images in pixels")
    args = parser.parse_args()
    with user_errors():
        report: dict[str, Any] = {**provenance(["torch", "fpn_plugins", "timm"]), "sides": args.images}
        report |= {"cards": list(CARDS), "models": [], "heads": {str(side): heads(side) for side in args.images}}
        for name in args.model:
            backbone = MODELS[name]
            row = {"name": name, "weights": weights(backbone)}
            row["activations"] = {str(side): activations(backbone, side) for side in args.images}
            print(row, flush=True)
            report["models"].append(row)
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()

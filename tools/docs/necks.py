"""Write docs/necks.md with its pictures, and the tables of necks in other pages.

    python tools/docs/necks.py --out .

Facts come from the cards of the necks (`fpn_plugins.necks.NeckCard`) and of the upsampling modes; parameters, MACs and
kept bytes are counted from the code. In the pages of `TABLES`, the text between the two markers is replaced. A test
compares all pages with what this program makes of the current code.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from draw_topology import draw_topologies, draw_topology
from topology import topology_of

from fpn_plugins import NECKS, NeckCard, level_names
from fpn_plugins.analysis import CostReport, neck_cost
from fpn_plugins.commands.common import user_errors
from fpn_plugins.files import write_atomically
from fpn_plugins.necks.ct_resnet_neck import RESNET18
from fpn_plugins.necks.fpn import FUSIONS
from fpn_plugins.necks.ssd_neck import SSD512
from fpn_plugins.necks.yolov3_neck import DARKNET
from fpn_plugins.upsampling import UPSAMPLE_MODES

COMMAND = "python tools/docs/necks.py --out ."
SIZE = (800, 1344)
# rows of those tables; the other necks are named after them
FIRST = (
    "FPN",
    "PAFPN",
    "BiFPN",
    "NASFPN",
    "CSPPAFPN",
    "HybridEncoder",
    "PanopticFPN",
    "SimpleFeaturePyramid",
    "MultiScaleProjector",
)
BEGIN, END = "<!-- necks: begin, written by tools/docs/necks.py -->", "<!-- necks: end -->"

INTRODUCTION = f"""# Necks

Written by `{COMMAND}`; do not edit. Numbers in the tables are counted from the code, on {SIZE[0]} x {SIZE[1]} images
and ResNet-50's maps (or those noted). GMACs: 1e9 multiply-adds, counted once (FLOPs = 2 x MACs), of
the neck alone; additions and resizing count as none. "Kept": the maps that autograd keeps for backward, fp32, one
image. AP and PQ were published by the sources named, on COCO val2017, and were not measured here.

![All necks](images/necks.png)
"""


def card_of(name: str) -> NeckCard:
    """Return the card of a registered neck.

    Raises:
        ValueError: the class has no card.
    """
    card = getattr(NECKS[name], "card", None)
    if not isinstance(card, NeckCard):
        raise ValueError(f"neck {name} has no card; add the class attribute card = NeckCard(...)")
    return card


@cache
def count(name: str) -> CostReport:
    """Count the cost of a registered neck in its usual configuration."""
    card = card_of(name)
    return neck_cost({"type": name, **card.arguments}, card.in_specs, SIZE)


# maps of other networks than those of the introduction
OTHERS = {SSD512: "VGG-16's C3-C4", DARKNET: "Darknet-53's C3-C5", RESNET18: "ResNet-18's C5"}


def inputs(card: NeckCard) -> str:
    """Describe the maps on which a neck is counted."""
    if card.in_specs in OTHERS:
        return OTHERS[card.in_specs]
    if len({spec.stride for spec in card.in_specs}) == 1:
        number = len(card.in_specs)
        return "a plain ViT-B's map" if number == 1 else f"{number} maps of a plain ViT-B"
    if card.in_specs[0].stride == 1:
        return f"the image and {inputs(replace(card, in_specs=card.in_specs[1:]))}"
    names = level_names(card.in_specs, "P" if card.follows else "C")
    maps = f"{names[0]}-{names[-1]}"
    return f"{card.follows}'s {maps}" if card.follows else maps


def numbers(report: CostReport) -> str:
    """Format three cells of a table."""
    total = report.total()
    return f"{total.parameters / 1e6:.2f} | {total.macs / 1e9:.1f} | {total.activation_bytes / 2**20:.0f}"


def linked(text: str) -> str:
    """Link arXiv numbers."""
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def section(name: str, card: NeckCard, report: CostReport) -> str:
    """Describe one neck."""
    given = ", ".join(f"{key}={value!r}" for key, value in card.arguments.items())
    parts = "; ".join(f"{c.name} {c.macs / 1e9:.1f}" for c in report.components if c.macs)
    variants = [f"with {key}: {result}" for key, variant in card.variants.items() for result in variant.results]
    results = "\n".join(f"- {result}" for result in (*card.results, *variants))
    paragraphs = [
        f"## {name}",
        f"![{name}](images/neck_{name}.png)",
        linked(card.idea),
        f"**Use it** {card.use_when}",
        f"**Caveats.** {card.caveats}",
        f"**Counted** on {inputs(card)}, {f'`{given}`' if given else 'defaults'}: GMACs by component: {parts}.",
        f"**Paper.** {linked(card.paper)}.",
        f"**Reference implementations.** {card.reference[0].upper()}{card.reference[1:]}.",
        f"**Published results**\n\n{results}" if results else "**Published results**: none for this neck.",
    ]
    return "\n\n".join(paragraphs)


def table(prefix: str = "", names: Iterable[str] = tuple(NECKS)) -> str:
    """Build the table of some necks; ``prefix`` is the page to which the names link."""
    lines = [
        "| neck | on | parameters (M) | GMACs | kept (MiB) | in short |",
        "|---|---|--:|--:|--:|---|",
    ]
    for name in names:
        card = card_of(name)
        link = linked_name(name, prefix)
        lines.append(f"| {link} | {inputs(card)} | {numbers(count(name))} | {linked(card.idea)} |")
    return "\n".join(lines)


def linked_name(name: str, page: str) -> str:
    """Link a neck's name to its section of a page."""
    return f"[{name}]({page}#{name.lower()})"


def short_table() -> str:
    """Build README's table and name the other necks."""
    page = "docs/necks.md"
    others = ", ".join(linked_name(name, page) for name in NECKS if name not in FIRST)
    return f"{table(page, FIRST)}\n\nAlso {others}."


def cost_table() -> str:
    """Build the table of costs of docs/choose_a_neck.md, by MACs."""
    lines = ["| neck | parameters (M) | GMACs | kept (MiB) | MACs / FPN's | on |", "|---|--:|--:|--:|--:|---|"]
    base = count("FPN").total().macs
    for name in sorted(NECKS, key=lambda name: count(name).total().macs):
        share = count(name).total().macs / base
        lines.append(f"| {name} | {numbers(count(name))} | {share:.2f} | {inputs(card_of(name))} |")
    return "\n".join(lines)


TABLES = {"README.md": short_table, "docs/choose_a_neck.md": cost_table}


def upsampling() -> str:
    """Describe the upsampling modes."""
    card = card_of("FPN")
    lines = [
        "## Upsampling in FPN",
        "",
        "`FPN(upsample_mode=...)`, counted on C2-C5; [FPN](#fpn) has published results:",
        "",
        "| mode | parameters (M) | GMACs | kept (MiB) | what it does | when |",
        "|---|--:|--:|--:|---|---|",
    ]
    for mode, entry in UPSAMPLE_MODES.items():
        report = neck_cost({"type": "FPN", **card.arguments, "upsample_mode": mode}, card.in_specs, SIZE)
        lines.append(f"| `{mode}` | {numbers(report)} | {linked(entry.idea)} | {entry.use_when} |")
    return "\n".join(lines)


def fusions() -> str:
    """Describe the ways to merge two levels."""
    card = card_of("FPN")
    lines = [
        "## Fusion in FPN",
        "",
        "`FPN(fusion=...)`, also in PAFPN, counted on C2-C5; [FPN](#fpn) has published results:",
        "",
        "| fusion | parameters (M) | GMACs | kept (MiB) | what it does |",
        "|---|--:|--:|--:|---|",
    ]
    for fusion, idea in FUSIONS.items():
        report = neck_cost({"type": "FPN", **card.arguments, "fusion": fusion}, card.in_specs, SIZE)
        lines.append(f"| `{fusion}` | {numbers(report)} | {linked(idea)} |")
    return "\n".join(lines)


def render() -> str:
    """Build docs/necks.md for the registered necks.

    Raises:
        ValueError: a neck without a card.
    """
    sections = [section(name, card_of(name), count(name)) for name in NECKS]
    return "\n".join([INTRODUCTION, table(), "", "\n\n".join([*sections, upsampling(), fusions()]), ""])


def with_table(page: str, text: str) -> str:
    """Replace what is between the markers of a page.

    Raises:
        ValueError: the page lacks a marker.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}, between which its table of necks belongs")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def draw(folder: Path) -> list[Path]:
    """Draw the registered necks."""
    wired = {name: topology_of(card_of(name)) for name in NECKS}
    single = [draw_topology(topology, folder / f"neck_{name}.png", name) for name, topology in wired.items()]
    return [draw_topologies(wired, folder / "necks.png"), *single]


def write(path: Path, text: str) -> Path:
    """Write a page and return its path."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """Write the pages and the pictures."""
    parser = argparse.ArgumentParser(description="Write docs/necks.md, its pictures, and the tables of other pages")
    parser.add_argument("--out", type=Path, required=True, help="folder of README.md and docs/: the repository")
    root = parser.parse_args().out
    with user_errors():
        (root / "docs/images").mkdir(parents=True, exist_ok=True)
        pages = {root / name: with_table((root / name).read_text("utf-8"), make()) for name, make in TABLES.items()}
        pages[root / "docs/necks.md"] = render()
        for path in (*(write(path, text) for path, text in pages.items()), *draw(root / "docs/images")):
            print(path)


if __name__ == "__main__":
    main()

"""Write docs/necks.md: all necks side by side, with pictures, what they are for, and what they cost.

    python tools/docs/necks.py

Parameters, MACs and kept bytes are counted from the code; facts come from ``fpn_plugins/analysis/neck_facts.py``. A
test compares the page with what this program makes of the current code.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpn_plugins import NECKS, FeatureSpec, TimmBackbone
from fpn_plugins.analysis import CostReport, neck_cost, on_meta
from fpn_plugins.analysis.neck_facts import NECK_FACTS, UPSAMPLE_FACTS, VIT_B, NeckFacts, Result, UpsampleFacts
from fpn_plugins.commands.common import user_errors
from fpn_plugins.files import write_atomically
from fpn_plugins.upsampling import UPSAMPLE_MODES
from fpn_plugins.visualization.neck_topologies import TOPOLOGIES
from fpn_plugins.visualization.topology import draw_topologies, draw_topology

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMAND = "python tools/docs/necks.py"
SIZE = (800, 1344)
BACKBONE = "resnet50"

INTRODUCTION = f"""# Necks

Written by `{COMMAND}`; do not edit. Numbers in the tables are counted from the code, on {SIZE[0]} x {SIZE[1]} images
and the maps of ResNet-50 (or a plain ViT-B's, where it says so). GMACs: 1e9 multiply-adds, counted once (FLOPs = 2 x
MACs), of the neck alone; additions and resizing are none. "Kept": the maps that autograd keeps for the backward pass,
float32, one image. AP and PQ are published by those named, on COCO val2017, not measured here.

![All necks](images/necks.png)
"""


def in_specs(facts: NeckFacts) -> tuple[FeatureSpec, ...]:
    """What a neck usually stands on."""
    if facts.in_indices is None:
        return VIT_B
    indices = tuple(1 + index for index in facts.in_indices)
    return tuple(on_meta(lambda: TimmBackbone(BACKBONE, out_indices=indices)).feature_specs)


def count(name: str, facts: NeckFacts) -> CostReport:
    """Cost of a neck in its usual configuration."""
    neck = {"type": name, **facts.arguments}
    return neck_cost([facts.behind, neck] if facts.behind else neck, in_specs(facts), SIZE)


def place(facts: NeckFacts) -> str:
    """What a neck usually stands on, in words."""
    if facts.behind:
        return f"{facts.behind['type']}'s P2-P6"
    if facts.in_indices is None:
        return "a plain ViT-B's map"
    return f"C{2 + facts.in_indices[0]}-C{2 + facts.in_indices[-1]}"


def numbers(report: CostReport) -> str:
    """Three cells of a table."""
    total = report.total()
    return f"{total.parameters / 1e6:.2f} | {total.macs / 1e9:.1f} | {total.activation_bytes / 2**20:.0f}"


def arguments(facts: NeckFacts) -> str:
    """The arguments that differ from the defaults."""
    return (
        f"`{', '.join(f'{key}={value!r}' for key, value in facts.arguments.items())}`"
        if facts.arguments
        else "defaults"
    )


def listed(results: tuple[Result, ...]) -> list[str]:
    """Published results, one line each."""
    return [f"- {result.score}: {result.model} ({result.publisher})" for result in results]


def section(name: str, facts: NeckFacts, report: CostReport) -> str:
    """One neck."""
    paper = facts.paper
    year = paper.venue.split()[-1]
    parts = "; ".join(f"{c.name} {c.macs / 1e9:.1f}" for c in report.components if c.macs)
    lines = [
        f"## {name}",
        "",
        f"![{name}](images/neck_{name}.png)",
        "",
        facts.idea,
        "",
        f"**Use it** {facts.use_when[0].lower()}{facts.use_when[1:]}",
        "",
        f"**Think twice.** {facts.think_twice}",
        "",
        f"**Counted** on {place(facts)}, {arguments(facts)}: GMACs by component: {parts}.",
        "",
        f"**Paper.** {paper.authors}: *{paper.title}*. {paper.venue.removesuffix(year)}{year}, "
        f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}).",
        "",
        "**Published results**" if facts.results else "**Published results**: none for this neck in either toolbox.",
        *(["", *listed(facts.results)] if facts.results else []),
        "",
    ]
    return "\n".join(lines)


def upsampling(modes: Mapping[str, UpsampleFacts]) -> str:
    """FPN's ways to upsample."""
    specs = in_specs(NECK_FACTS["FPN"])
    lines = [
        "## Upsampling in FPN",
        "",
        "`FPN(upsample_mode=...)`, counted on C2-C5:",
        "",
        "| mode | parameters (M) | GMACs | kept (MiB) | what it does | when |",
        "|---|--:|--:|--:|---|---|",
    ]
    for mode, facts in modes.items():
        report = neck_cost({"type": "FPN", **NECK_FACTS["FPN"].arguments, "upsample_mode": mode}, specs, SIZE)
        lines.append(f"| `{mode}` | {numbers(report)} | {facts.idea} | {facts.use_when} |")
    found = [line for facts in modes.values() for line in listed(facts.results)]
    return "\n".join([*lines, "", *(["Published results:", "", *found, ""] if found else [])])


def render() -> str:
    """The page, for the registered necks and upsampling modes.

    Raises:
        ValueError: one of them is not described.
    """
    for names, facts, where in ((NECKS, NECK_FACTS, "NECK_FACTS"), (UPSAMPLE_MODES, UPSAMPLE_FACTS, "UPSAMPLE_FACTS")):
        missing = sorted(set(names) - set(facts))
        if missing:
            raise ValueError(
                f"{missing} are registered and not described: add them to {where} in analysis/neck_facts.py"
            )
    shown = {name: facts for name, facts in NECK_FACTS.items() if name in NECKS}
    reports = {name: count(name, facts) for name, facts in shown.items()}
    table = [
        "| neck | on | parameters (M) | GMACs | kept (MiB) | in short |",
        "|---|---|--:|--:|--:|---|",
        *(
            f"| [{name}](#{name.lower()}) | {place(facts)} | {numbers(reports[name])} | {facts.idea} |"
            for name, facts in shown.items()
        ),
        "",
    ]
    sections = [section(name, facts, reports[name]) for name, facts in shown.items()]
    modes = {mode: facts for mode, facts in UPSAMPLE_FACTS.items() if mode in UPSAMPLE_MODES}
    return "\n".join([INTRODUCTION, *table, *sections, upsampling(modes)])


def draw(folder: Path) -> list[Path]:
    """The pictures of the registered necks."""
    wired = {name: TOPOLOGIES[name]() for name in NECK_FACTS if name in NECKS}
    single: list[Any] = [draw_topology(topology, folder / f"neck_{name}.png", name) for name, topology in wired.items()]
    return [draw_topologies(wired, folder / "necks.png"), *single]


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description="Write docs/necks.md and its pictures")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder (default: docs)")
    folder = parser.parse_args().output
    with user_errors():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / "necks.md") as temporary:
            temporary.write_text(render(), encoding="utf-8")
        for path in (folder / "necks.md", *draw(folder / "images")):
            print(path)


if __name__ == "__main__":
    main()

"""Read the topology of a `NeckCard` into boxes and arrows: levels are rows, steps of the computation are columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fpn_plugins import NeckCard
from fpn_plugins.necks.graph import Graph

LABEL_WIDTH = 11  # letters per line
# NAME (label) < arrow label: SOURCES
CELL = re.compile(r"(?P<name>\w+)( \((?P<label>[^)]+)\))?( < ((?P<via>[^:]+): )?(?P<sources>[\w ]+))?")


class Box(NamedTuple):
    """One map.

    Attributes:
        column: step of the computation, from left to right.
        level: ``log2(stride)``.
        label: text in the box.
        role: ``"input"``, ``"inner"``, ``"merge"`` or ``"output"``.
    """

    column: int
    level: int
    label: str
    role: str = "inner"


@dataclass
class Topology:
    """Maps of a neck by name, and the arrows between them.

    Attributes:
        columns: title of each column.
        boxes: the maps.
        arrows: pairs of names, with the label of the arrow.
    """

    columns: Sequence[str]
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)

    def kind(self, source: str, target: str) -> str:
        """Return the kind of an arrow by the levels that it joins."""
        step = self.boxes[target].level - self.boxes[source].level
        return "same" if step == 0 else "far" if abs(step) > 1 else "up" if step > 0 else "down"


def topology_of(card: NeckCard) -> Topology:
    """Read the topology of a card, text or graph.

    Raises:
        ValueError: text that does not follow the format of `NeckCard`, or an arrow from a map that does not exist.
    """
    if isinstance(card.topology, Graph):
        return lay_out(card.topology, card.in_specs[0].level)
    return parse(card.topology)


def parse(text: str) -> Topology:
    """Read the text form, see `NeckCard`."""
    titles, *rows = [line.strip() for line in text.strip().splitlines()]
    topology = Topology([title.strip() for title in titles.split("|")])
    for row in rows:
        level, _, cells = row.partition(":")
        for column, cell in enumerate(cells.split("|")):
            if cell.strip():
                _add(topology, column, int(level), cell.strip())
    unknown = sorted({source for source, _, _ in topology.arrows} - set(topology.boxes))
    if unknown:
        raise ValueError(f"topology reads maps {unknown} that it does not have; it has {sorted(topology.boxes)}")
    return topology


def _add(topology: Topology, column: int, level: int, cell: str) -> None:
    found = CELL.fullmatch(cell)
    if found is None or column >= len(topology.columns):
        raise ValueError(
            f"topology, level {level}, column {column}: {cell!r} must be a cell such as 'M4 (+) < 1×1: C4 M5' below "
            f"one of the titles {list(topology.columns)}"
        )
    name, sources = found["name"], (found["sources"] or "").split()
    inner = "merge" if len(sources) > 1 else "inner"
    role = "input" if column == 0 else "output" if name.startswith("P") else inner
    label = textwrap.fill(found["label"] or name, LABEL_WIDTH)
    topology.boxes[name] = Box(column, level, label, role)
    for index, source in enumerate(sources):
        topology.arrows.append((source, name, "" if index else found["via"] or ""))


def lay_out(graph: Graph, finest: int) -> Topology:
    """Lay out a graph whose finest input has level ``finest``: each node as far to the left as its inputs allow."""
    topology = Topology(["input"])
    for number in range(graph.num_levels):
        topology.boxes[str(number)] = Box(0, finest + number, f"P{finest + number}", "input")
    for number, node in enumerate(graph.nodes, start=graph.num_levels):
        level = finest + node.level
        read = [topology.boxes[str(source)] for source in node.inputs]
        column = max(1, *(box.column + (box.level == level) for box in read))
        final = number in graph.outputs
        op = "+" if node.op == "sum" else node.op
        label = (f"P{level}" if op == "+" else f"P{level}\n({op})") if final else op
        topology.boxes[str(number)] = Box(column, level, label, "output" if final else "merge")
        topology.arrows += [(str(source), str(number), "") for source in node.inputs]
    topology.columns = [
        "input",
        *(str(column) for column in range(1, 1 + max(b.column for b in topology.boxes.values()))),
    ]
    return topology

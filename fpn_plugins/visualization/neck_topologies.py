"""The wiring of each neck, for its picture; the graphs of BiFPN and NAS-FPN are those that the modules run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..necks.bifpn import bifpn_graph
from ..necks.graph import Graph
from ..necks.nas_fpn import CELLS, GRAPH
from .topology import Box, Topology

FINEST, COARSEST = 2, 5  # C2..C5


def _inputs(topology: Topology, levels: Sequence[int]) -> None:
    for level in levels:
        topology.add(f"c{level}", Box(0, level, f"C{level}", "input"))


def fpn(top_down: bool = True, extra: bool = True, levels: Sequence[int] = range(FINEST, COARSEST + 1)) -> Topology:
    """FPN; without the top-down path, what it is compared with."""
    topology = Topology(("backbone", "merge" if top_down else "lateral", "output"))
    _inputs(topology, levels)
    for level in reversed(levels):
        above = [f"m{level + 1}"] if top_down and level < levels[-1] else []
        label = "+" if above else f"M{level}"
        topology.add(f"m{level}", Box(1, level, label, "merge" if above else "inner"), f"c{level}", *above, label="1×1")
        topology.add(f"p{level}", Box(2, level, f"P{level}", "output"), f"m{level}", label="3×3")
    if extra:
        top = levels[-1] + 1
        topology.add(f"p{top}", Box(2, top, f"P{top}", "output"), f"p{top - 1}")
    return topology


def top_down_pyramid() -> Topology:
    """FPN without laterals; nothing but the size is read of the finer maps."""
    topology = Topology(("backbone", "top-down", "output"))
    levels = range(FINEST, COARSEST + 1)
    _inputs(topology, levels)
    topology.add("m5", Box(1, COARSEST, "M5"), "c5", label="1×1")
    for level in reversed(levels):
        if level < COARSEST:
            topology.add(f"m{level}", Box(1, level, f"M{level}"), f"m{level + 1}")
        topology.add(f"p{level}", Box(2, level, f"P{level}", "output"), f"m{level}", label="3×3")
    topology.add("p6", Box(2, 6, "P6", "output"), "p5")
    return topology


def single_scale() -> Topology:
    """One map; the others are not used."""
    topology = Topology(("backbone", "lateral", "output"))
    _inputs(topology, range(FINEST, COARSEST + 1))
    topology.add("m5", Box(1, 5, "M5"), "c5", label="1×1")
    topology.add("p5", Box(2, 5, "P5", "output"), "m5", label="3×3")
    return topology


def pafpn() -> Topology:
    """FPN, and a way back up."""
    topology = Topology(("backbone", "top-down", "3×3", "bottom-up", "output"))
    levels = range(FINEST, COARSEST + 1)
    _inputs(topology, levels)
    for level in reversed(levels):
        above = [f"m{level + 1}"] if level < COARSEST else []
        role = "merge" if above else "inner"
        topology.add(f"m{level}", Box(1, level, "+" if above else "M5", role), f"c{level}", *above, label="1×1")
        topology.add(f"t{level}", Box(2, level, f"T{level}"), f"m{level}", label="3×3")
    for level in levels:
        below = [f"n{level - 1}"] if level > FINEST else []
        box = Box(3, level, "+" if below else "N2", "merge" if below else "inner")
        topology.add(f"n{level}", box, f"t{level}", *below)
        topology.add(f"p{level}", Box(4, level, f"P{level}", "output"), f"n{level}", label="3×3" if below else "")
    topology.add("p6", Box(4, 6, "P6", "output"), "p5")
    return topology


def csp_pafpn() -> Topology:
    """PAFPN with concatenations and CSP layers, on C3..C5."""
    topology = Topology(("backbone", "top-down", "bottom-up", "output"))
    levels = range(3, COARSEST + 1)
    _inputs(topology, levels)
    for level in reversed(levels):
        above = [f"m{level + 1}"] if level < COARSEST else []
        topology.add(f"m{level}", Box(1, level, "CSP" if above else "1×1", "merge"), f"c{level}", *above)
    for level in levels:
        below = [f"n{level - 1}"] if level > levels[0] else []
        topology.add(
            f"n{level}", Box(2, level, "CSP" if below else "N3", "merge" if below else "inner"), f"m{level}", *below
        )
        topology.add(f"p{level}", Box(3, level, f"P{level}", "output"), f"n{level}", label="1×1")
    return topology


def bfp() -> Topology:
    """Gather, refine, scatter, behind another neck."""
    topology = Topology(("neck", "mean at P4's size", "refine", "output"))
    levels = range(FINEST, COARSEST + 2)
    for level in levels:
        topology.add(f"c{level}", Box(0, level, f"P{level}", "input"))
    topology.add("mean", Box(1, 4, "mean", "merge"), *(f"c{level}" for level in levels))
    topology.add("refine", Box(2, 4, "non-local\nor 3×3"), "mean")
    for level in levels:
        topology.add(f"p{level}", Box(3, level, f"+P{level}", "output"), "refine")
    return topology


def _graph(
    graph: Graph, finest: int, columns: Sequence[float], titles: Sequence[str], labels: Sequence[str]
) -> Topology:
    """A graph of merges: inputs in column 0, each node in its column."""
    topology = Topology(titles)
    for number in range(graph.num_levels):
        topology.add(str(number), Box(0, finest + number, f"P{finest + number}", "input"))
    for index, (node, column, label) in enumerate(zip(graph.nodes, columns, labels, strict=True)):
        number = graph.num_levels + index
        final = number in graph.outputs
        text = f"P{finest + node.level}" + ("" if label == "+" else f"\n({label})") if final else label
        box = Box(column, finest + node.level, text, "output" if final else "merge")
        topology.add(str(number), box, *(str(source) for source in node.inputs))
    return topology


def bifpn() -> Topology:
    """One repeat over P3..P7."""
    graph = bifpn_graph(5)
    outputs = set(graph.outputs)
    columns = [2 if graph.num_levels + index in outputs and node.level else 1 for index, node in enumerate(graph.nodes)]
    columns[graph.num_levels - 2] = 2  # the finest level's only node is an output
    return _graph(graph, 3, columns, ("input", "top-down", "bottom-up"), ["+"] * len(graph.nodes))


def nas_fpn() -> Topology:
    """One repeat over P3..P7, a column for each merging cell."""
    labels = ["gate" if cell.op == "gate" else "+" for cell in CELLS]
    columns = [1 + index for index in range(len(CELLS))]
    return _graph(GRAPH, 3, columns, ("input", *(str(column) for column in columns)), labels)


def simple_feature_pyramid() -> Topology:
    """Every level from one map of stride 16."""
    topology = Topology(("ViT", "resampled", "1×1", "output"))
    topology.add("c4", Box(0, 4, "C4", "input"))
    for level, how in ((5, "pool /2"), (4, "as it is"), (3, "deconv ×2"), (2, "deconv ×4")):
        topology.add(f"r{level}", Box(1, level, how), "c4")
        topology.add(f"m{level}", Box(2, level, f"M{level}"), f"r{level}", label="")
        topology.add(f"p{level}", Box(3, level, f"P{level}", "output"), f"m{level}", label="3×3")
    topology.add("p6", Box(3, 6, "P6", "output"), "p5")
    return topology


def panoptic_fpn() -> Topology:
    """FPN, whose levels are brought to stride 4 and added for the semantic branch."""
    topology = fpn(extra=False)
    topology.columns = (*topology.columns, "(3×3, ×2) repeated", "sum")
    for level in range(FINEST, COARSEST + 1):
        steps = level - FINEST
        label = f"{steps} × up" if steps else "3×3"
        topology.add(f"s{level}", Box(3, level, label), f"p{level}")
    topology.add("sum", Box(4, FINEST, "+ → S2", "output"), *(f"s{level}" for level in range(FINEST, COARSEST + 1)))
    return topology


TOPOLOGIES: dict[str, Callable[[], Topology]] = {
    "FPN": fpn,
    "PAFPN": pafpn,
    "BiFPN": bifpn,
    "NASFPN": nas_fpn,
    "CSPPAFPN": csp_pafpn,
    "BFP": bfp,
    "SSDPyramid": lambda: fpn(top_down=False),
    "TopDownPyramid": top_down_pyramid,
    "SingleScale": single_scale,
    "SimpleFeaturePyramid": simple_feature_pyramid,
    "PanopticFPN": panoptic_fpn,
}

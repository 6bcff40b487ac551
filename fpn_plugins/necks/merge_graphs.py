"""Graphs that a BiFPN can run, for any number of levels, with nodes in effdet's order (``config/fpn_config.py``).

::

    bifpn   top-down, then bottom-up, where each level's input enters both of its sums
    pan     top-down, then bottom-up, one chain: each path reads the maps of the previous path only
    quad    a BiFPN whose coarsest bottom-up node reads its input again, in parallel with its mirror image (bottom-up,
            then top-down), and one weighted sum of both per level
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..checks import name_or_factory, shown
from .graph import Graph, Node

GraphFactory = Callable[[int], Graph]


class _Builder:
    """Nodes so far, and the numbers of the maps of each level; the first one is the input."""

    def __init__(self, num_levels: int) -> None:
        self.nodes: list[Node] = []
        self.maps = [[level] for level in range(num_levels)]

    def add(self, level: int, inputs: Sequence[int], op: str = "sum") -> int:
        """Append a node and return the number of its map."""
        number = len(self.maps) + len(self.nodes)
        self.nodes.append(Node(level, tuple(inputs), op))
        self.maps[level].append(number)
        return number

    def graph(self) -> Graph:
        return Graph(len(self.maps), tuple(self.nodes))


def bifpn_graph(num_levels: int) -> Graph:
    """Return the graph of the BiFPN paper's figure 2 (d).

    Top-down, each level but the coarsest merges its input with the level above; bottom-up, each level but the finest
    merges its input, its top-down map (which the coarsest level lacks) and the level below.
    """
    built = _Builder(num_levels)
    for level in reversed(range(num_levels - 1)):
        built.add(level, [level, built.maps[level + 1][-1]])
    for level in range(1, num_levels):
        built.add(level, [*built.maps[level], built.maps[level - 1][-1]])
    return built.graph()


def pan_graph(num_levels: int) -> Graph:
    """Return effdet's layout of a path aggregation network, `PAFPN`'s with one node more at each path's start."""
    built = _Builder(num_levels)
    for path in (reversed(range(num_levels)), range(num_levels)):
        before: list[int] = []
        for level in path:
            before = [built.add(level, [built.maps[level][-1], *before])]
    return built.graph()


def quad_graph(num_levels: int) -> Graph:
    """Return effdet's layout of four paths; its last nodes, one per level, are always weighted."""
    built = _Builder(num_levels)
    last = num_levels - 1
    # a BiFPN: down, then up
    first = {last: last}
    for level in reversed(range(last)):
        first[level] = built.add(level, [level, first[level + 1]])
    up = {0: first[0]}
    for level in range(1, num_levels):
        own = [level] if level == last else [level, first[level]]
        up[level] = built.add(level, [*own, up[level - 1]])
    # its mirror image: up, then down
    second = {0: 0}
    for level in range(1, num_levels):
        second[level] = built.add(level, [level, second[level - 1]])
    down = {last: second[last]}
    for level in reversed(range(last)):
        own = [level] if level == 0 else [level, second[level]]
        down[level] = built.add(level, [*own, down[level + 1]])
    for level in range(num_levels):
        built.add(level, [up[level], down[level]], "weighted")
    return built.graph()


GRAPHS: dict[str, GraphFactory] = {"bifpn": bifpn_graph, "pan": pan_graph, "quad": quad_graph}


def make_graph(graph: str | GraphFactory, num_levels: int) -> Graph:
    """Build a graph for a number of levels.

    Args:
        graph: one of ``GRAPHS``, or a function ``num_levels -> Graph``.
        num_levels: number of input and output maps.

    Raises:
        ValueError: an unknown name, a graph for another number of levels, a level without a node, or a node that reads
            a map more than one level finer.
        TypeError: neither a name nor a function that returns a `Graph`.
    """
    if graph is None or graph == "":
        raise TypeError(f"graph={graph!r} must be one of {sorted(GRAPHS)}, or a function num_levels -> Graph")
    name_or_factory("graph", graph, GRAPHS, ", or pass a function num_levels -> Graph")
    built = GRAPHS[graph](num_levels) if isinstance(graph, str) else graph(num_levels)
    if not isinstance(built, Graph):
        raise TypeError(f"graph={shown(graph)} must return a Graph for {num_levels} levels, not {shown(built)}")
    missing = [level for level, number in enumerate(built.outputs) if number < built.num_levels]
    if built.num_levels != num_levels or missing:
        raise ValueError(
            f"graph={shown(graph)} has {built.num_levels} levels, without a node at {missing}; a neck of {num_levels} "
            "levels needs as many, each with at least one node"
        )
    far = [node for node in built.nodes if any(built.level_of(number) < node.level - 1 for number in node.inputs)]
    if far:
        raise ValueError(f"graph={shown(graph)}: {far[0]} reads a map more than one level finer; pool it in steps")
    return built

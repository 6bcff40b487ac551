"""Pyramids whose merges are a graph: the graph is data, one executor runs it (BiFPN, NAS-FPN).

::

    maps    0 1 2        the graph's inputs, one per level, high to low resolution
            3 4 5 ...    one per node, in order: Node(level, inputs) reads earlier maps, gives a map of its level's size
    outputs              the last map of each level
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class Node(NamedTuple):
    """One merge.

    Attributes:
        level: position of its level, 0 for the highest resolution; its map has that level's size.
        inputs: numbers of the maps that it merges: first the graph's inputs, then the nodes before it.
    """

    level: int
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Which maps are merged into which, in the order in which to compute them.

    Args:
        num_levels: number of input maps, and of output maps.
        nodes: the merges; each reads maps before it.

    Raises:
        ValueError: a node of a level that does not exist, or one that reads none or a map that comes later.
    """

    num_levels: int
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for number, node in enumerate(self.nodes, start=self.num_levels):
            if not 0 <= node.level < self.num_levels:
                raise ValueError(f"map {number}, {node}: level must be one of 0..{self.num_levels - 1}")
            if not node.inputs or not all(0 <= source < number for source in node.inputs):
                raise ValueError(f"map {number}, {node}: inputs must name at least one map, of 0..{number - 1}")

    def level_of(self, number: int) -> int:
        """Level of a map, an input or a node's."""
        return number if number < self.num_levels else self.nodes[number - self.num_levels].level

    @property
    def outputs(self) -> tuple[int, ...]:
        """Number of the last map of each level."""
        last = {self.level_of(number): number for number in range(self.num_levels + len(self.nodes))}
        return tuple(last[level] for level in range(self.num_levels))


class GraphCell(nn.Module):
    """The executor: a graph and, for each of its nodes, the module that merges.

    Args:
        graph: what is merged.
        nodes: as many modules as ``graph`` has nodes, called as ``module(maps, size)`` with the maps that the node
            reads and the ``(H, W)`` of its level.

    Raises:
        ValueError: another number of modules than nodes.
    """

    def __init__(self, graph: Graph, nodes: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(nodes) != len(graph.nodes):
            raise ValueError(
                f"GraphCell has {len(nodes)} modules for a graph of {len(graph.nodes)} nodes; pass one each"
            )
        self.graph = graph
        self.outputs = graph.outputs
        self.nodes = nn.ModuleList(nodes)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one map ``B C H W`` per level, high to low resolution, to as many of the same sizes."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in inputs]
        maps = list(inputs)
        for node, merge in zip(self.graph.nodes, self.nodes, strict=True):
            maps.append(merge([maps[number] for number in node.inputs], sizes[node.level]))
        return tuple(maps[number] for number in self.outputs)

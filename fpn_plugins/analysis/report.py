"""Hold the cost of a network by component, and format it as a table or as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GIGA, MEGA, MIB = 1e9, 1e6, 2**20


@dataclass(frozen=True)
class ComponentCost:
    """Cost of one component of a network.

    Attributes:
        part: ``"backbone"``, ``"neck"`` or ``"head"``.
        name: name of the component: a stage, ``"lateral convs"``, ``"RPN"``, ...
        parameters: number of parameters, including frozen ones; buffers (running statistics) do not count.
        macs: multiply-adds of the whole batch, each counted once.
        activation_bytes: bytes of tensors that autograd keeps for the backward pass, each counted once, where it is
            first kept. Parameters do not count; dropout is off.
    """

    part: str
    name: str
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True)
class CostReport:
    """Cost of a network by component, in the order of the network's modules.

    Attributes:
        title: name of the network.
        image_size: height and width in pixels.
        components: components with any cost.
        conditions: conditions of the counts besides the image size, e.g. the number of proposals.
        uncounted: modules with weights that ran without a counted operation, e.g. deformable convolutions; their MACs
            are missing.
    """

    title: str
    image_size: tuple[int, int]
    components: tuple[ComponentCost, ...]
    conditions: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    def total(self, part: str | None = None, name: str | None = None) -> ComponentCost:
        """Sum over all components, or over those of the given part, name, or both."""
        chosen = [c for c in self.components if part in (None, c.part) and name in (None, c.name)]
        sums = {field: sum(getattr(c, field) for c in chosen) for field in ("parameters", "macs", "activation_bytes")}
        return ComponentCost(part or "total", name or "", **sums)

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON: the fields, and the total."""
        return {**asdict(self), "total": asdict(self.total())}

    def markdown(self) -> str:
        """Format as a Markdown table: millions of parameters, GMACs and their share, MiB kept for backward."""
        total = self.total()
        lines = [
            f"**{self.title}**, image {self.image_size[0]} x {self.image_size[1]}",
            "",
            "| part | component | parameters (M) | GMACs | share | kept for backward (MiB) |",
            "|---|---|--:|--:|--:|--:|",
        ]
        rows = [(cost, cost.part, cost.name) for cost in self.components] + [(total, "**total**", "")]
        for cost, part, name in rows:
            share = cost.macs / total.macs if total.macs else 0.0
            numbers = f"{cost.parameters / MEGA:.2f} | {cost.macs / GIGA:.2f} | {share:.1%}"
            lines.append(f"| {part} | {name} | {numbers} | {cost.activation_bytes / MIB:.1f} |")
        lines += [
            "",
            "GMACs: 1e9 multiply-adds, each counted once (FLOPs = 2 x MACs); additions and resizing do not count.",
        ]
        lines += [*(f"Condition: {condition}." for condition in self.conditions)]
        lines += [f"Not counted (no formula): {', '.join(self.uncounted)}."] if self.uncounted else []
        return "\n".join(lines) + "\n"

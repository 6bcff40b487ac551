"""The cost of a network by component, as a table and as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GIGA, MEGA, MIB = 1e9, 1e6, 2**20


@dataclass(frozen=True)
class ComponentCost:
    """What one component of a network costs.

    Attributes:
        part: ``"backbone"``, ``"neck"`` or ``"head"``.
        name: the component: a stage, ``"lateral convs"``, ``"RPN"``, ...
        parameters: number of parameters, frozen ones included; buffers (running statistics) are none.
        macs: multiply-adds, each counted once, of the whole batch.
        activation_bytes: bytes of the maps that autograd keeps for the backward pass, each counted once, where it is
            first kept; parameters are not among them, nor is dropout, which is off.
    """

    part: str
    name: str
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True)
class CostReport:
    """The cost of a network by component, in the order of the network's modules.

    Attributes:
        title: what was counted.
        image_size: height and width in pixels.
        components: the components; those that cost nothing at all are left out.
        conditions: what the numbers depend on besides the size of the image, such as the number of proposals.
        uncounted: modules with weights that ran without a counted operation, such as deformable convolutions: their
            MACs are missing.
    """

    title: str
    image_size: tuple[int, int]
    components: tuple[ComponentCost, ...]
    conditions: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    def total(self, part: str | None = None, name: str | None = None) -> ComponentCost:
        """Sum over the components, or over those of a part, of a name, or of both."""
        chosen = [c for c in self.components if part in (None, c.part) and name in (None, c.name)]
        sums = {field: sum(getattr(c, field) for c in chosen) for field in ("parameters", "macs", "activation_bytes")}
        return ComponentCost(part or "total", name or "", **sums)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and the total."""
        return {**asdict(self), "total": asdict(self.total())}

    def markdown(self) -> str:
        """A table: millions of parameters, GMACs and their share, and MiB kept for the backward pass."""
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
            "GMACs: 1e9 multiply-adds, each counted once (FLOPs = 2 x MACs); additions and resizing are none.",
        ]
        lines += [*(f"Condition: {condition}." for condition in self.conditions)]
        lines += [f"Not counted (no formula): {', '.join(self.uncounted)}."] if self.uncounted else []
        return "\n".join(lines) + "\n"

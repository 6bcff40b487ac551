"""What an entry of the model zoo holds, and how it is read from plain data and written as such."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

OWN = "fpn_plugins"
TOOLBOXES = ("mmdet", "detectron2")
METRICS = ("box AP", "mask AP", "PQ")

Record = TypeVar("Record")


@dataclass(frozen=True)
class Result:
    """What somebody measured.

    Attributes:
        by: who: ``"fpn_plugins"``, or the project that published it.
        toolbox: the one whose config of ours it belongs to.
        metrics: in percent: ``box AP``, ``mask AP``, ``PQ``.
        source: where it was published: an address, or a file of this repository.
        config: of another project: the config that it trained.
        hardware: that it trained on.
        weights: of another project: the address of its weights.
        licence: of those.
        note: in what the measured model differs from ours.
    """

    by: str
    toolbox: str
    metrics: dict[str, float]
    source: str
    config: str | None = None
    hardware: str | None = None
    weights: str | None = None
    licence: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Cost:
    """What inference on one image costs; MACs are multiply-adds, each counted once."""

    parameters: int
    macs: int
    image_size: list[int]
    conditions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Weights:
    """A published file.

    Attributes:
        location: address, or path from the folder of the zoo's file while it has none.
        sha256: of the content; its first 8 digits are in the name.
        converted_from: toolbox that trained the weights, where it was the other one.
    """

    location: str
    sha256: str
    converted_from: str | None = None

    @property
    def is_public(self) -> bool:
        """Whether the location is an address."""
        return "://" in self.location

    @property
    def file_name(self) -> str:
        """Name of the file, without the folder."""
        return self.location.rsplit("/", 1)[-1]


@dataclass
class Entry:
    """A model.

    Attributes:
        name: stem of its configs.
        configs: toolbox -> config, as a path from the folder of the zoo's file.
        data: what it is trained and measured on.
        schedule: how long it is trained.
        results: by us and by others.
        costs: toolbox -> cost of the model.
        weights: toolbox -> our published file.
        licence: of those.
    """

    name: str
    configs: dict[str, str]
    data: str
    schedule: str
    results: list[Result] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    licence: str | None = None

    def results_by(self, own: bool) -> list[Result]:
        """Our own results, or those of others."""
        return [result for result in self.results if (result.by == OWN) is own]


def _record(kind: type[Record], content: Any, where: str) -> Record:
    """A record out of a mapping with exactly its fields."""
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected a mapping with {list(known)}, got {content!r}")
    unknown = [key for key in content if key not in known]
    required = [name for name, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    missing = [name for name in required if name not in content]
    if unknown or missing:
        raise ValueError(f"{where}: unknown keys {unknown}, missing keys {missing}; known are {list(known)}")
    return kind(**content)


def read_entry(content: Any, where: str) -> Entry:
    """An entry out of plain data.

    Args:
        content: a mapping with the fields of `Entry`.
        where: it stands, for the errors.

    Raises:
        ValueError: unknown or missing keys, toolboxes or metrics.
    """
    entry = _record(Entry, content, where)
    entry.results = [_record(Result, r, f"{where}, results[{n}]") for n, r in enumerate(entry.results)]
    for toolbox in (*entry.configs, *entry.weights, *entry.costs, *(result.toolbox for result in entry.results)):
        if toolbox not in TOOLBOXES:
            raise ValueError(f"{where} ({entry.name}): toolbox {toolbox!r} is unknown, choose one of {TOOLBOXES}")
    for result in entry.results:
        if not result.metrics or not set(result.metrics) <= set(METRICS):
            raise ValueError(f"{where} ({entry.name}): metrics are some of {METRICS}, got {result.metrics}")
    entry.weights = {key: _record(Weights, value, f"{where}, weights") for key, value in entry.weights.items()}
    entry.costs = {key: _record(Cost, value, f"{where}, costs") for key, value in entry.costs.items()}
    return entry


def as_plain(record: Any) -> Any:
    """An entry, or a part of one, as plain data without its empty fields."""
    if isinstance(record, Mapping):
        return {key: as_plain(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_plain(value) for value in record]
    if not hasattr(record, "__dataclass_fields__"):
        return record
    found = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    return {name: as_plain(value) for name, value in found.items() if value not in (None, (), [], {})}

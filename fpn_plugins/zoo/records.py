"""Define the entries of the model zoo, and convert them from and to plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from ..conversion.tables import TOOLBOXES

OWN = "fpn_plugins"
ZOO_METRICS = ("box AP", "mask AP", "PQ")

Record = TypeVar("Record")


@dataclass(frozen=True)
class PublishedResult:
    """Result measured by this project or another one.

    Attributes:
        by: ``"fpn_plugins"``, or the project that published the result.
        toolbox: toolbox of our config that the result belongs to.
        metrics: ``box AP``, ``mask AP``, ``PQ``, in percent.
        source: place of publication: a URL, or a file of this repository.
        config: config that the other project trained.
        hardware: hardware of the training.
        weights: URL of the other project's weights.
        license: license of these weights.
        note: differences between the measured model and ours.
    """

    by: str
    toolbox: str
    metrics: dict[str, float]
    source: str
    config: str | None = None
    hardware: str | None = None
    weights: str | None = None
    license: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Cost:
    """Cost of inference on one image; MACs are multiply-adds, each counted once."""

    parameters: int
    macs: int
    image_size: list[int]
    conditions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Weights:
    """Published file of weights.

    Attributes:
        location: URL or, before the upload, a path relative to the folder of the zoo's file.
        sha256: digest of the content; its first 8 digits are in the file's name.
        converted_from: toolbox that trained the weights, if it was the other one.
    """

    location: str
    sha256: str
    converted_from: str | None = None

    @property
    def is_public(self) -> bool:
        """Return whether the location is a URL."""
        return "://" in self.location

    @property
    def file_name(self) -> str:
        """Return the name of the file without the folder."""
        return self.location.rsplit("/", 1)[-1]


@dataclass
class Entry:
    """Model of the zoo.

    Attributes:
        name: stem of its configs.
        configs: toolbox -> path of the config, relative to the folder of the zoo's file.
        data: data for training and evaluation.
        schedule: length of the training.
        results: results of this project and of others.
        costs: toolbox -> cost of the model.
        weights: toolbox -> file published by this project.
        license: license of these files.
    """

    name: str
    configs: dict[str, str]
    data: str
    schedule: str
    results: list[PublishedResult] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    license: str | None = None

    def results_by(self, own: bool) -> list[PublishedResult]:
        """Select the results of this project, or of others."""
        return [result for result in self.results if (result.by == OWN) is own]


def _record(kind: type[Record], content: Any, where: str) -> Record:
    """Build a record from a mapping, which must have all required fields and no unknown ones."""
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
    """Build an entry from a mapping with the fields of `Entry`; ``where`` is its position, for messages.

    Raises:
        ValueError: unknown or missing keys, toolboxes or metrics.
    """
    entry = _record(Entry, content, where)
    entry.results = [_record(PublishedResult, r, f"{where}, results[{n}]") for n, r in enumerate(entry.results)]
    for toolbox in (*entry.configs, *entry.weights, *entry.costs, *(result.toolbox for result in entry.results)):
        if toolbox not in TOOLBOXES:
            raise ValueError(f"{where} ({entry.name}): toolbox {toolbox!r} is unknown, choose one of {TOOLBOXES}")
    for result in entry.results:
        if not result.metrics or not set(result.metrics) <= set(ZOO_METRICS):
            raise ValueError(f"{where} ({entry.name}): metrics must be among {ZOO_METRICS}, got {result.metrics}")
        wrong = {name: value for name, value in result.metrics.items() if not _is_percentage(value)}
        if wrong:
            raise ValueError(f"{where} ({entry.name}): metrics are numbers from 0 to 100, got {wrong}")
    entry.weights = {key: _record(Weights, value, f"{where}, weights") for key, value in entry.weights.items()}
    for weights in entry.weights.values():
        if not re.fullmatch("[0-9a-f]{64}", str(weights.sha256)) or weights.file_name in ("", ".", ".."):
            raise ValueError(f"{where} ({entry.name}): {weights} needs the location of a file and its SHA-256 digest")
    entry.costs = {key: _record(Cost, value, f"{where}, costs") for key, value in entry.costs.items()}
    return entry


def _is_percentage(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100


def as_plain(record: Any) -> Any:
    """Convert an entry, or a part of one, to plain data without empty fields."""
    if isinstance(record, Mapping):
        return {key: as_plain(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_plain(value) for value in record]
    if not hasattr(record, "__dataclass_fields__"):
        return record
    found = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    return {name: as_plain(value) for name, value in found.items() if value not in (None, (), [], {})}

"""Render the model zoo's page and the cards of its models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..files import suffix_of
from .index import Zoo
from .records import OWN, ZOO_METRICS, Entry, PublishedResult

NAMES = {"mmdet": "MMDetection", "detectron2": "Detectron2", OWN: "this project"}
GENERATED = "Generated from configs/model_zoo.yml by tools/docs/model_zoo.py"
COSTS = ("parameters (M)", "GMACs")

PAGE = """\
<!-- {generated}; edit that. -->
# Model zoo

Results *measured here* are this project's own, on the stated hardware. Results *published by others* are cited from
projects that trained the same network with the same recipe; expect them from our config. Metrics are percent; AP is
COCO's, averaged over IoU 0.50 to 0.95. Configs without a published result are not in the tables
(all configs: `configs/README.md`). Parameters and GMACs (1e9 multiply-adds, each counted once) are counted by this
project for inference on one image (`tools/analyze_cost.py`).

## Measured here

{own}

## Published by others

The weights belong to these projects, under the stated license; our modules recognize their layouts on load.

{cited}

## Load a model by its name

```python
from fpn_plugins.adapters.mmdet.zoo import load_published  # or adapters.detectron2.zoo

model = load_published(NAME)  # in evaluation mode; downloads the weights once
```

The model needs published weights, see the last column of the first table. `Zoo.read().config(NAME, toolbox)` and
`.checkpoint(NAME, toolbox)` of `fpn_plugins.zoo` return the two paths that every script of the toolboxes takes.
"""

CARD = """\
---
license: {license_id}
library_name: fpn_plugins
pipeline_tag: object-detection
tags: [object-detection, feature-pyramid, mmdetection, detectron2]
---
# {name}

{facts}

## Results

{results}

{cost}
## Load it

In the source tree of `fpn_plugins`, which holds the configs:

{load}
"""

LOAD = """\
{title} (`{file}`):

```python
from fpn_plugins.adapters.{toolbox}.detector import load

model = load("{config}", "{file}")
```

or by name, once `configs/model_zoo.yml` lists it: `fpn_plugins.adapters.{toolbox}.zoo.load_published("{name}")`.
Evaluate it with `python tools/{command}`.
"""


def zoo_page(zoo: Zoo) -> str:
    """Render ``docs/model_zoo.md``."""
    own, cited = [], []
    for entry in zoo.entries.values():
        for result in entry.results_by(own=True):
            facts = [f"`{entry.name}`", NAMES[result.toolbox], entry.data, entry.schedule, result.hardware or ""]
            own.append([*facts, *_metrics(result), *_cost(entry, result), _weights(entry, result.toolbox)])
        for result in entry.results_by(own=False):
            who = f"[{NAMES.get(result.by, result.by)}]({result.source})" + (f": {result.note}" if result.note else "")
            facts = [f"`{entry.name}`", NAMES[result.toolbox], entry.schedule, *_metrics(result), who]
            cited.append([*facts, result.hardware or "", *_cost(entry, result), _link(result)])
    last = [*COSTS, "weights"]
    return PAGE.format(
        generated=GENERATED,
        own=table(["model", "toolbox", "data", "schedule", "hardware", *ZOO_METRICS, *last], own),
        cited=table(["model", "config for", "schedule", *ZOO_METRICS, "published by", "hardware", *last], cited),
    )


def model_card(entry: Entry) -> str:
    """Render ``README.md`` of a model's published files, in the format of the Hugging Face Hub."""
    license_name = entry.license or "unknown"
    configs = ", ".join(f"`configs/{path}`" for path in entry.configs.values())
    facts = {"Configs": configs, "Data": entry.data, "Schedule": entry.schedule, "License": license_name}
    rows = [
        [NAMES[r.toolbox], *_metrics(r), NAMES.get(r.by, r.by), r.hardware or "", r.note or ""] for r in entry.results
    ]
    hashes = [f"sha256 of `{weights.file_name}`: `{weights.sha256}`" for weights in entry.weights.values()]
    return CARD.format(
        license_id=license_name.lower().replace(" ", "-"),
        name=entry.name,
        facts="\n".join(f"- {key}: {value}" for key, value in facts.items()),
        results=table(["toolbox", *ZOO_METRICS, "measured by", "hardware", "note"], rows),
        cost=_cost_paragraphs(entry),
        load="\n".join([*(_load(entry, toolbox) for toolbox in entry.weights), *hashes]),
    )


def _load(entry: Entry, toolbox: str) -> str:
    """Explain how to load and evaluate a model's weights in a toolbox."""
    config = f"configs/{entry.configs[toolbox]}"
    file = f"{toolbox}/{entry.weights[toolbox].file_name}"
    option = "train.init_checkpoint=" if suffix_of(config) == ".py" else "MODEL.WEIGHTS "
    commands = {
        "mmdet": f"test.py {config} {file}",
        "detectron2": f"train_net.py --eval-only --config-file {config} {option}{file}",
    }
    command, title = commands[toolbox], NAMES[toolbox]
    return LOAD.format(title=title, toolbox=toolbox, config=config, file=file, name=entry.name, command=command)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a Markdown table without columns that are empty in all rows, or a sentence if there are no rows."""
    rows = list(rows)
    if not rows:
        return "Nothing yet."
    used = [index for index in range(len(head)) if any(row[index] for row in rows)]
    numeric = {*ZOO_METRICS, *COSTS}
    lines = [[head[index] for index in used], ["--:" if head[index] in numeric else "---" for index in used]]
    lines += [[row[index] for index in used] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _metrics(result: PublishedResult) -> list[str]:
    return [f"{result.metrics[name]:.1f}" if name in result.metrics else "" for name in ZOO_METRICS]


def _cost(entry: Entry, result: PublishedResult) -> list[str]:
    cost = entry.costs.get(result.toolbox)
    if cost is None:
        return ["", ""]
    return [f"{cost.parameters / 1e6:.1f}", f"{cost.macs / 1e9:.1f} at {cost.image_size[0]} x {cost.image_size[1]}"]


def _cost_paragraphs(entry: Entry) -> str:
    lines = []
    for toolbox, cost in entry.costs.items():
        size = f"{cost.image_size[0]} x {cost.image_size[1]} pixels"
        conditions = "".join(f" {condition.capitalize()}." for condition in cost.conditions)
        lines.append(
            f"Cost in {NAMES[toolbox]} of one image of {size}: {cost.parameters / 1e6:.1f} million parameters, "
            f"{cost.macs / 1e9:.1f} GMACs (multiply-adds, each counted once).{conditions}\n"
        )
    return "\n".join(lines)


def _weights(entry: Entry, toolbox: str) -> str:
    weights = entry.weights.get(toolbox)
    if weights is None:
        return "not published"
    return f"[{weights.file_name}]({weights.location})" if weights.is_public else "not uploaded"


def _link(result: PublishedResult) -> str:
    if result.weights is None:
        return ""
    return f"[weights]({result.weights})" + (f", {result.license}" if result.license else "")

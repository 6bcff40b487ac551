"""The model zoo as text: its page, the card of a model, and the index that MIM reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .index import Zoo
from .records import METRICS, OWN, Entry, Result

NAMES = {"mmdet": "MMDetection", "detectron2": "Detectron2", OWN: "this project"}
TASKS = {"box AP": "Object Detection", "mask AP": "Instance Segmentation", "PQ": "Panoptic Segmentation"}
GENERATED = "Generated from configs/model_zoo.yml by tools/docs/model_zoo.py"
COLLECTION = "fpn_plugins"
COSTS = ("parameters (M)", "GMACs")

PAGE = """\
<!-- {generated}; edit that. -->
# Model zoo

Every result says who measured it. Those *measured here* are this project's, on the hardware that is named. Those
*published by others* are cited from the projects that trained the same network with the same recipe, and are what to
expect of our config. Metrics are percent; AP is COCO's, averaged over IoU 0.50 to 0.95. Configs that nobody has
published a result for are not in the tables ([all configs](../configs/README.md)). Parameters and GMACs (1e9
multiply-adds, each counted once) are counted here, for inference on one image (`tools/analyze_cost.py`).

## Measured here

{own}

## Published by others

The weights are theirs, under their licence; our modules recognize their layouts on load.

{cited}

## Load a model by its name

```python
from fpn_plugins.adapters.mmdet.zoo import load_published  # or adapters.detectron2.zoo

model = load_published(NAME)  # in evaluation mode; downloads the weights once
```

There have to be published weights, see the last column of the first table. `Zoo.read().config(NAME, toolbox)` and
`.checkpoint(NAME, toolbox)` of `fpn_plugins.zoo` give the two paths that every script of the toolboxes takes.
"""

CARD = """\
---
license: {licence_id}
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

LOAD = {
    "mmdet": """\
MMDetection (`{file}`):

```python
from fpn_plugins.adapters.mmdet.detector import load

model = load("{config}", "{file}")
```

or by name, once `configs/model_zoo.yml` lists it: `fpn_plugins.adapters.mmdet.zoo.load_published("{name}")`.
Evaluate it with `python tools/test.py {config} {file}`.
""",
    "detectron2": """\
Detectron2 (`{file}`):

```python
from fpn_plugins.adapters.detectron2.detector import load

model = load("{config}", "{file}")
```

or by name, once `configs/model_zoo.yml` lists it: `fpn_plugins.adapters.detectron2.zoo.load_published("{name}")`.
Evaluate it with `python tools/train_net.py --eval-only --config-file {config} {option}{file}`.
""",
}


def zoo_page(zoo: Zoo) -> str:
    """``docs/model_zoo.md``."""
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
        own=table(["model", "toolbox", "data", "schedule", "hardware", *METRICS, *last], own),
        cited=table(["model", "config for", "schedule", *METRICS, "published by", "hardware", *last], cited),
    )


def model_card(entry: Entry) -> str:
    """``README.md`` beside the published files of a model, as the Hugging Face hub shows it."""
    configs = ", ".join(f"`configs/{path}`" for path in entry.configs.values())
    facts = {"Configs": configs, "Data": entry.data, "Schedule": entry.schedule, "Licence": entry.licence or "unknown"}
    rows = [
        [NAMES[r.toolbox], *_metrics(r), NAMES.get(r.by, r.by), r.hardware or "", r.note or ""] for r in entry.results
    ]
    load = [
        LOAD[toolbox].format(
            name=entry.name,
            config=f"configs/{entry.configs[toolbox]}",
            file=f"{toolbox}/{weights.file_name}",
            option="MODEL.WEIGHTS " if Path(entry.configs[toolbox]).suffix != ".py" else "train.init_checkpoint=",
        )
        for toolbox, weights in entry.weights.items()
    ]
    hashes = [f"sha256 of `{weights.file_name}`: `{weights.sha256}`" for weights in entry.weights.values()]
    return CARD.format(
        licence_id=(entry.licence or "unknown").lower().replace(" ", "-"),
        name=entry.name,
        facts="\n".join(f"- {key}: {value}" for key, value in facts.items()),
        results=table(["toolbox", *METRICS, "measured by", "hardware", "note"], rows),
        cost=_cost_paragraphs(entry),
        load="\n".join([*load, *hashes]),
    )


def mim_index(folder: str = "configs") -> dict[str, Any]:
    """``model-index.yml``, which MIM looks for at the root."""
    return {"Import": [f"{folder}/metafile.yml"]}


def mim_metafile(zoo: Zoo, folder: str = "configs") -> dict[str, Any]:
    """``configs/metafile.yml``: the models that have a config for MMDetection.

    ``Results`` holds our own measurements alone; MIM cannot say whose a result is, so that those of others are text.
    """
    return {
        "Collections": [
            {
                "Name": COLLECTION,
                "Metadata": {"Architecture": ["Feature pyramid"]},
                "README": "README.md",
            }
        ],
        "Models": [_mim_model(entry, folder) for entry in zoo.entries.values() if "mmdet" in entry.configs],
    }


def _mim_model(entry: Entry, folder: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"Training Data": entry.data, "Schedule": entry.schedule}
    own = [result for result in entry.results_by(own=True) if result.toolbox == "mmdet"]
    if own and own[0].hardware:
        metadata["Training Resources"] = own[0].hardware
    if cost := entry.costs.get("mmdet"):
        metadata.update({"Parameters": cost.parameters, "MACs": cost.macs})
    if cited := [result for result in entry.results_by(own=False) if result.toolbox == "mmdet"]:
        metadata["Published By Others"] = "; ".join(_sentence(result) for result in cited)
    model: dict[str, Any] = {
        "Name": entry.name,
        "In Collection": COLLECTION,
        "Config": f"{folder}/{entry.configs['mmdet']}",
        "Metadata": metadata,
    }
    if own:
        model["Results"] = [
            {"Task": TASKS[name], "Dataset": entry.data, "Metrics": {name: value}}
            for name, value in own[0].metrics.items()
        ]
    weights = entry.weights.get("mmdet")
    if weights and weights.is_public:
        model["Weights"] = weights.location
    return model


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without the columns that are empty in every row; a sentence where there are no rows."""
    rows = list(rows)
    if not rows:
        return "Nothing yet."
    used = [index for index in range(len(head)) if any(row[index] for row in rows)]
    numeric = {*METRICS, *COSTS}
    lines = [[head[index] for index in used], ["--:" if head[index] in numeric else "---" for index in used]]
    lines += [[row[index] for index in used] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sentence(result: Result) -> str:
    metrics = ", ".join(f"{name} {value}" for name, value in result.metrics.items())
    return f"{metrics} by {result.by}" + (f" ({result.config})" if result.config else "")


def _metrics(result: Result) -> list[str]:
    return [f"{result.metrics[name]:.1f}" if name in result.metrics else "" for name in METRICS]


def _cost(entry: Entry, result: Result) -> list[str]:
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


def _link(result: Result) -> str:
    if result.weights is None:
        return ""
    licence = f", {result.licence}" if result.licence else ""
    return f"[weights]({result.weights}){licence}"

"""Page and picture of the study of recipes."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from recipe_cells import MOBILENET, PICTURES, RETINANET, TWO_STAGE, RecipeCell, all_cells

HEAD = """# What the recipes give

`fpn-plugins train --data FOLDER --recipe few|small|standard` and `train-d2` plan a training
([own data](guides/own_data.md)). Here they are measured on BCCD (Shenggan/BCCD_Dataset, MIT license): photographs of
blood cells at 320 x 240, 205 for training and 87 for validation, where platelets are small, red cells medium and white
cells large. Many red cells have no label, which limits the AP.

- **recipe**: as planned, `few` up to 60 pictures and `small` from there on, 820 iterations of four pictures.
- **stock**: the same backbone and width for as many iterations with the toolbox's own anchors, levels, SGD, steps and
  flips (`retinanet_r50_fpn_1x`).
- **reference**: torchvision's RetinaNet with the same backbone and width in a plain loop: AdamW 1e-3, one cycle,
  clipped gradients, flips, 410 iterations.

AP and AP50 of the validation pictures at the end of the training (not of the best evaluation), x 100: mean and, from
two seeds on, half the range. Core time is what all processes of the training took of one core: start, training and
evaluations.
"""
END = """\
`python tools/studies/recipes/recipe_study.py --root data/bccd --weights FILE` runs the trainings, one thread each;
`tools/studies/recipes/data/recipes.json` has every curve, and the versions of the packages.
`tools/synthetic/pretrained.py` writes the weights; EfficientNet-Lite2 has the accuracy of a ResNet-50 on ImageNet.
`tools/studies/recipes/raccoons.py` writes the second data set, which `--second` trains: 160 and 40 photographs of
raccoons (datitran/raccoon_dataset, MIT license), nearly all with one large object. There the recipe and the stock
settings differ by less than their seeds.
"""
GROUP = ("data", "method", "toolbox", "detector", "backbone", "length")


def page(report: dict[str, Any]) -> str:
    """Render the page of a report, ``{"cells": [...]}``; what is not measured is named."""
    report = _complete(report)
    rows = [
        entry for entry in report["cells"] if (entry["cell"]["length"], entry["cell"]["detector"]) == (1, RETINANET)
    ]
    parts = [HEAD, _time_table(report["cells"]), _pictures_table(rows), _others_table(report["cells"])]
    parts += [_missing(report), END]
    return "\n".join(part for part in parts if part)


def _complete(report: dict[str, Any]) -> dict[str, Any]:
    """Add the values that are not written into the data because they are the usual ones."""
    return {"cells": [{**entry, "cell": asdict(RecipeCell(**entry["cell"]))} for entry in report["cells"]]}


def _select(cells: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [entry for entry in cells if all(entry["cell"][key] == value for key, value in values.items())]


def _cell(entries: list[dict[str, Any]], key: str) -> str:
    if not entries:
        return "not measured yet"
    values = [entry["curve"][-1][key] for entry in entries]
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _minutes(entries: list[dict[str, Any]]) -> str:
    return f"{statistics.mean(e['core_seconds'] for e in entries) / 60:.1f}" if entries else "–"


def _row(names: list[str], entries: list[dict[str, Any]]) -> str:
    cells = [*names, str(len(entries)), _cell(entries, "AP"), _cell(entries, "AP50"), _minutes(entries)]
    return f"| {' | '.join(cells)} |"


def _time_table(cells: list[dict[str, Any]]) -> str:
    """AP in the time of the reference: of the last evaluation until then, if time is proportional to iterations."""
    own = {"data": "bccd", "backbone": MOBILENET, "pictures": PICTURES[-1], "length": 1}
    reference = _select(cells, method="reference", **own)
    if not reference:
        return ""
    unit = statistics.mean(entry["core_seconds"] for entry in reference)
    lines = [
        f"## In the core time of the reference\n\nThe reference takes {unit / 60:.1f} core minutes. AP and AP50 of all "
        "seeds at the last evaluation within one and\nfour times that (–: none); these trainings go on, so their rates "
        "are still high at the first.\n",
        "| method | detector | toolbox | seeds | AP, once | AP50, once | AP, four times | AP50, four times |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for method, detector in (("recipe", RETINANET), ("recipe", TWO_STAGE), ("stock", RETINANET)):
        for toolbox in ("mmdet", "detectron2"):
            found = _select(cells, method=method, detector=detector, toolbox=toolbox, **own)
            until = [[short for e in found if (short := _until(e, n * unit))["curve"]] for n in (1, 4)]
            columns = [_cell(some, key) if some or not found else "–" for some in until for key in ("AP", "AP50")]
            lines.append(f"| {' | '.join([method, detector, toolbox, str(len(found)), *columns])} |")
    columns = [_cell(reference, "AP"), _cell(reference, "AP50"), "–", "–"]
    lines.append(f"| {' | '.join(['reference', RETINANET, 'torchvision', str(len(reference)), *columns])} |")
    return "\n".join(lines) + "\n"


def _until(entry: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Shorten a training's curve to the evaluations in its first seconds of core time."""
    last = entry["iterations"] * seconds / entry["core_seconds"]
    return {**entry, "curve": [point for point in entry["curve"] if point["iteration"] <= last + 1]}


def _pictures_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## By the number of pictures\n\nRetinaNet with a MobileNetV2 in MMDetection. In the picture, each point on "
        "the left and each line on the right\nis a training.\n",
        *(["![AP by pictures](recipes.png)\n"] if rows else []),
        "| pictures | method | seeds | AP | AP50 | core minutes |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for pictures in PICTURES:
        for method in ("recipe", "stock"):
            found = _select(rows, method=method, toolbox="mmdet", data="bccd", backbone=MOBILENET, pictures=pictures)
            lines.append(_row([str(pictures), method], found))
    return "\n".join(lines) + "\n"


def _others_table(cells: list[dict[str, Any]]) -> str:
    lines = [
        "## All pictures: toolboxes, detectors, backbones, lengths and data sets\n",
        "| data | method | toolbox | detector | backbone | iterations | seeds | AP | AP50 | core minutes |",
        "|---|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    planned = {_group(cell): cell.iterations for cell in all_cells("bccd") if cell.pictures == PICTURES[-1]}
    planned |= {
        _group(RecipeCell(**entry["cell"])): entry["iterations"]
        for entry in cells
        if entry["cell"]["pictures"] >= PICTURES[-1]
    }
    for group, iterations in planned.items():
        found = [
            entry
            for entry in _select(cells, **dict(zip(GROUP, group, strict=True)))
            if entry["cell"]["pictures"] >= PICTURES[-1]
        ]
        lines.append(_row([*map(str, group[:-1]), str(iterations)], found))
    return "\n".join(lines) + "\n"


def _group(cell: RecipeCell) -> tuple[str | int, ...]:
    return tuple(getattr(cell, name) for name in GROUP)


def _missing(report: dict[str, Any]) -> str:
    measured = {RecipeCell(**entry["cell"]).name for entry in report["cells"]}
    lacking = [cell.name for cell in all_cells("bccd") if cell.name not in measured]
    datasets = {entry["cell"]["data"] for entry in report["cells"]}
    lines = [f"Not measured yet: {len(lacking)} of {len(all_cells('bccd'))} trainings on BCCD"] if lacking else []
    if datasets <= {"bccd"}:
        lines.append("A second data set is not measured yet")
    return ". ".join(lines) + ".\n" if lines else ""


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw AP against the number of pictures, and against the time of the processor in the course of the trainings."""
    from fpn_plugins.visualization.figures import axis_label, legend_below, series_color

    cells = _select(_complete(report)["cells"], data="bccd", backbone=MOBILENET, length=1)
    left, right = figure.subplots(1, 2, sharey=True)
    for index, method in enumerate(("recipe", "stock")):
        found = _select(cells, method=method, toolbox="mmdet", detector=RETINANET)
        ends = {n: [e["curve"][-1]["AP"] for e in _select(found, pictures=n)] for n in PICTURES}
        points = [(n, statistics.mean(values)) for n, values in ends.items() if values]
        color = series_color(index)
        left.plot(*zip(*points, strict=True), color=color) if points else None
        seeds = [(n, value) for n, values in ends.items() for value in values]
        left.plot(*zip(*seeds, strict=True), "o", markersize=4, color=color) if seeds else None
    lines = (
        ("recipe", "mmdet", RETINANET, "recipe"),
        ("stock", "mmdet", RETINANET, "stock"),
        ("reference", "torchvision", RETINANET, "reference"),
        ("recipe", "mmdet", TWO_STAGE, "recipe, Faster R-CNN"),
    )
    for index, (method, toolbox, detector, name) in enumerate(lines):
        for entry in _select(cells, method=method, toolbox=toolbox, detector=detector, pictures=PICTURES[-1]):
            minutes = entry["core_seconds"] / 60 / entry["iterations"]
            curve = [(point["iteration"] * minutes, point["AP"]) for point in entry["curve"]]
            label = name if entry["cell"]["seed"] == 0 else None
            right.plot(*zip(*curve, strict=True), marker="o", markersize=3, label=label, color=series_color(index))
    left.set(xlabel="training pictures", xlim=(0, 1.05 * PICTURES[-1]))
    left.set(ylabel=axis_label("AP", "%", "higher"), ylim=(0, 65))
    right.set(xlabel=f"core minutes, {PICTURES[-1]} pictures", xlim=(0, None))
    legend_below(figure)

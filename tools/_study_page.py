"""The page of a study: tables, pictures and words, from the result files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _study_configs import ANCHORS, PADDING

from fpn_plugins.analysis.anchor_reach import SIZES, AnchorReach, anchor_reach
from fpn_plugins.analysis.study import METRICS, Study, anchor_sizes, head_levels
from fpn_plugins.analysis.study_results import Summary, Verdict, judge, summarize
from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically
from fpn_plugins.visualization.studies import draw_cost, draw_curves, draw_sizes

KIND_NAMES = {"bbox": "boxes", "segm": "masks"}

INTRODUCTION = """\
# Accuracy: {title}

Written by `tools/study.py --page` from the result files; not edited by hand. Every training of the study has the same
data, order of images, augmentation, schedule and head; what differs is named in the first column. Anchors have the same
set of sizes in every variant, spread over the levels that it has. AP is COCO's, in percent, by pycocotools.
"""

MEANING = """\
± is the standard deviation over the seeds. "Δ" is the mean difference to `{baseline}`, taken seed by seed, ± its
standard error; a difference of less than about two standard errors is not one that these runs show, and with fewer than
two seeds there is no standard error at all. GMACs and parameters are the whole detector's, for one image.
"""

PUBLISHED = """\
## Published figures of the same comparison

Measured by others on COCO, and cited: the FPN paper (Lin et al., CVPR 2017, arXiv:1612.03144), ResNet-50, trained on
trainval35k, evaluated on minival. None of them was measured here.

Table 1 of the paper, **average recall of RPN's proposals** (not AP; 1000 proposals per image):

| features | AR | AR, small | AR, medium | AR, large |
|---|--:|--:|--:|--:|
| (a) one map, C4 | 48.3 | 32.0 | 58.7 | 62.2 |
| (b) one map, C5 | 44.9 | 25.3 | 55.5 | 64.2 |
| (c) FPN | 56.3 | 44.9 | 63.4 | 66.2 |
| (d) laterals without the top-down path | 49.5 | 30.5 | 59.9 | 68.0 |
| (e) top-down path without laterals | 46.1 | 26.5 | 57.4 | 64.7 |
| (f) finest level only | 51.3 | 35.1 | 59.7 | 67.6 |

Table 2 of the paper, **AP of Fast R-CNN** on the fixed proposals of row (c) above:

| features | AP50 | AP | AP, small | AP, medium | AP, large |
|---|--:|--:|--:|--:|--:|
| (a) one map, C4, with C5's stage as the head | 54.7 | 31.9 | 15.7 | 36.5 | 45.5 |
| (b) one map, C5 | 52.9 | 28.8 | 11.9 | 32.4 | 43.4 |
| (c) FPN | 56.9 | 33.9 | 17.8 | 37.7 | 45.8 |
| (d) laterals without the top-down path | 44.9 | 24.9 | 10.9 | 24.4 | 38.5 |
| (e) top-down path without laterals | 54.0 | 31.3 | 13.3 | 35.2 | 45.3 |
| (f) finest level only | 56.3 | 33.4 | 17.3 | 37.3 | 45.6 |

Table 3 of the paper, **AP of Faster R-CNN**, proposals and detector on the same features:

| features | AP50 | AP | AP, small | AP, medium | AP, large |
|---|--:|--:|--:|--:|--:|
| (a) one map, C4, with C5's stage as the head | 53.1 | 31.6 | 13.2 | 35.6 | 47.1 |
| (b) one map, C5 | 51.7 | 28.0 | 9.6 | 31.9 | 43.1 |
| (c) FPN | 56.9 | 33.9 | 17.8 | 37.7 | 45.8 |

So FPN gains 8.0 points of AR over (a) in proposals (12.9 on small objects), and 2.3 points of AP over (a) in Faster
R-CNN (4.6 on small, 2.1 on medium, -1.3 on large objects). The paper's detectors are two-stage; the study's RetinaNet
is not, and (a) has another head than (c) there.
"""

CARRIES_OVER = """\
## What carries over, and what does not

- The study's pictures are small and few, its backbone is light, and its training is short. The size of a difference
  says nothing about COCO; its sign may, where it is many standard errors from zero and shows in both toolboxes.
- Object sizes are log-uniform here, and backgrounds are plain; COCO's small objects are harder, so that what helps them
  can help more there.
- Anchors have the same set of sizes in every variant, but not the same density, because they are as dense as the maps
  that carry them. The smallest objects have 8 pixels, so that the anchors of P3 begin at 12, 1.5 times its stride;
  RetinaNet's own begin at 4 times. The table of what the anchors reach says what that does: an object of any size has
  about five positive anchors in a pyramid of strides 8-128, a large one over a hundred on C4. `fpn_p2p6` is the test of
  it, the same FPN and the same anchors one level finer: it is better at every size than FPN P3-P7, so that density is
  much of the reason. On large objects, where C4 has seven times its anchors, it still is behind C4.
- FPN P3-P5 has the anchors of P3-P7 on fewer, finer maps, and so more positive ones for objects of every size. It gains
  on medium and large objects, and loses on small ones, which the number of anchors does not explain.
- One learning rate serves all variants. It was chosen for FPN, so that a variant that needs another one looks worse
  than it is.
- Variants with parts that start from scratch (the ViTs, the blocks of the hybrid) compete with a pretrained network;
  their rows show that they train, not what they can do.
- Parts of the neck that learn more, such as upsampling by CARAFE, begin from scratch and have a short time to learn.
- The two toolboxes sample, draw augmentation and average losses in their own ways: compare within a toolbox.
"""


def tables(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """What is missing, and one table per toolbox, head and kind of AP.

    Raises:
        ValueError: a baseline that is no variant of the study.
    """
    names = [variant.name for variant in study.variants]
    if baseline not in names:
        raise ValueError(f"baseline={baseline!r} must be one of the variants {names}")
    parts = [state(study, results)]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        parts.append(f"### {toolbox}, {head}, {KIND_NAMES[kind]}\n\n{_table(study, summaries, baseline)}")
    return "\n".join(parts)


ANCHORS_INTRODUCTION = """\
## What the anchors reach

Counted on the objects of the validation images, without any training: how well the best anchor lies on an object (mean
intersection over union), what share of the objects has an anchor that overlaps by 0.5 or more, which is what makes an
anchor a positive one, and how many such anchors an object has. An object without any is given its best one.
"""


def anchors(study: Study, head: str, data: Path) -> str:
    """Table of what the anchors of each layout of levels can reach with one head."""
    layouts: dict[tuple[int, ...], list[str]] = {}
    for variant in study.variants:
        layouts.setdefault(tuple(level.stride for level in head_levels(variant)), []).append(variant.name)
    columns = [f"{size}: best, from 0.5, positives" for size in SIZES]
    lines = [
        f"| {head}: strides of the levels | variants | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(SIZES)}",
    ]
    ann_file = find_split(data, "val").ann_file
    for strides, names in layouts.items():
        sizes = anchor_sizes(len(strides), *ANCHORS[head])
        reach = anchor_reach(ann_file, strides, sizes, divisibility=PADDING)
        cells = [_reach(reach[size]) if size in reach else "–" for size in SIZES]
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {', '.join(map(str, strides))} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _reach(reach: AnchorReach) -> str:
    return f"{reach.best_iou:.2f}, {100 * reach.covered:.0f} %, {reach.positives:.1f}"


VERDICTS = {True: "holds", False: "**does not hold**", None: "one seed, no verdict"}


def expectations(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """What was expected, and what was found; without rows where there are no results of both sides."""
    lines = [
        "## Expected, and found",
        "",
        "Taken from what is said of FPN, not from these results. The best of the others counts, on boxes. What is to",
        "be better has to be so by more than twice the standard error of the difference.",
        "",
        "| toolbox | head | expected | by whom | found | seeds | |",
        "|---|---|---|---|--:|--:|---|",
    ]
    return "\n".join([*lines, *(_row(verdict) for verdict in judge(results, study.expectations))]) + "\n"


def _row(verdict: Verdict) -> str:
    expected = verdict.expectation
    others = " and ".join(f"`{name}`" for name in expected.others)
    best = f" (against `{verdict.other}`)" if len(expected.others) > 1 else ""
    found = _pair(verdict.difference, verdict.error, "+")
    return (
        f"| {verdict.toolbox} | {verdict.head} | {expected.metric} of `{expected.variant}` - {others} >= "
        f"{expected.at_least:+g} | {expected.source} | {found}{best} | {verdict.seeds} | {VERDICTS[verdict.holds]} |"
    )


def state(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """Which of the study's trainings have results, in words."""
    total = len(study.cells())
    if not results:
        return f"**There are no results: none of the study's {total} trainings has been run.**\n"
    done = {(r["cell"]["variant"]["name"], r["cell"]["head"], r["cell"]["toolbox"], r["cell"]["seed"]) for r in results}
    missing = [c.name for c in study.cells() if (c.variant.name, c.head, c.toolbox, c.seed) not in done]
    if not missing:
        return f"All {total} trainings have results.\n"
    return f"**Results are missing: {len(missing)} of {total} trainings have not been run**: {', '.join(missing)}.\n"


def groups(
    study: Study, results: Sequence[Mapping[str, Any]], baseline: str
) -> Iterable[tuple[str, str, str, list[Summary]]]:
    """Toolbox, head, kind of AP and the summaries, in the study's order; groups without results are left out."""
    order = [variant.name for variant in study.variants]
    for kind in KIND_NAMES:
        summaries = sorted(summarize(results, baseline, kind), key=lambda summary: order.index(summary.variant))
        for toolbox in study.toolboxes:
            for head in study.heads:
                chosen = [s for s in summaries if (s.toolbox, s.head) == (toolbox, head)]
                if chosen:
                    yield toolbox, head, kind, chosen


def _table(study: Study, summaries: Sequence[Summary], baseline: str) -> str:
    notes = {variant.name: variant.note for variant in study.variants}
    columns = [*METRICS, *(f"Δ {metric}" for metric in METRICS if metric != "AP50"), "GMACs", "parameters (M)"]
    lines = [
        f"| variant | what it is | seeds | {' | '.join(columns)} |",
        f"|---|---|--:|{'--:|' * len(columns)}",
    ]
    for row in summaries:
        values = [_pair(row.mean[metric], row.deviation[metric]) for metric in METRICS]
        compared = [metric for metric in METRICS if metric != "AP50"]
        if row.variant == baseline:
            gains = ["baseline", *[""] * (len(compared) - 1)]
        else:
            gains = [_pair(row.difference[metric], row.error[metric], "+") for metric in compared]
        cells = [*values, *gains, f"{row.gmacs:.2f}", f"{row.parameters / 1e6:.2f}"]
        lines.append(f"| `{row.variant}` | {notes[row.variant]} | {len(row.seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _pair(value: float | None, spread: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def conditions(results: Sequence[Mapping[str, Any]]) -> str:
    """Hardware, versions, seeds and hours of the results."""

    def each(key: str) -> list[str]:
        return sorted({json.dumps(result[key], sort_keys=True) for result in results})

    lines = [
        f"- hardware: {'; '.join(json.loads(text) for text in each('hardware'))}",
        *(
            f"- versions: {', '.join(f'{name} {version}' for name, version in json.loads(text).items())}"
            for text in each("versions")
        ),
        f"- data: {', '.join(sorted({result['data']['folder'] for result in results}))}",
        f"- iterations of a training: {', '.join(sorted({str(r['study']['iterations']) for r in results}))}",
        f"- seeds: {', '.join(map(str, sorted({result['cell']['seed'] for result in results})))}",
        f"- time: {sum(result['seconds'] for result in results) / 3600:.2f} hours for {len(results)} trainings",
    ]
    return "## Conditions\n\n" + "\n".join(lines) + "\n"


def write_page(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str, data: Path) -> None:
    """Write the page, its pictures into ``images`` beside it, and the results that it is made of as JSON.

    Args:
        study: what was to be run.
        results: content of the result files.
        path: of the page.
        baseline: variant to compare with.
        data: folder of the data set.
    """
    found = tables(study, results, baseline)
    parts = [INTRODUCTION.format(title=study.title), f"## Results\n\n{found}"]
    if results:
        parts += [
            MEANING.format(baseline=baseline),
            expectations(study, results),
            ANCHORS_INTRODUCTION,
            *(anchors(study, head, data) for head in study.heads),
            _pictures(study, results, path, baseline),
            conditions(results),
        ]
    parts += [PUBLISHED, CARRIES_OVER]
    with write_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(list(results), indent=1) + "\n", encoding="utf-8")
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _pictures(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str) -> str:
    folder = path.parent / "images"
    folder.mkdir(exist_ok=True)
    lines = ["## Pictures", ""]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        stem = f"{path.stem}_{toolbox}_{head}_{kind}"
        title = f"{study.title}: {toolbox}, {head}, {KIND_NAMES[kind]}"
        own = [result for result in results if (result["cell"]["toolbox"], result["cell"]["head"]) == (toolbox, head)]
        drawn = [
            (draw_sizes(summaries, folder / f"{stem}_sizes.png", title), "AP by size of the object"),
            (draw_cost(summaries, folder / f"{stem}_cost.png", title), "AP against multiply-adds"),
        ]
        if kind == "bbox":
            drawn.append((draw_curves(own, folder / f"{stem}_curves.png", title), "AP over the training"))
        lines += [f"![{text}, {title}]({os.path.relpath(file, path.parent)})\n" for file, text in drawn]
    return "\n".join(lines)
